//! What every room of the data plane shares and none of them owns: time without a clock, generational
//! slabs, seeded randomness, hashes, token buckets, response flags, blame and the limits.
//!
//! Nothing here performs I/O or reads a clock; `now` is always an argument.

mod bucket;
mod digest;
mod flags;
pub mod hash;
mod limits;
mod metadata;
mod origin;
mod rng;
mod slab;
mod time;
mod tls;

pub use bucket::TokenBucket;
pub use digest::Digest;
pub use flags::{ResponseFlag, ResponseFlags};
pub use limits::Limits;
pub use metadata::Metadata;
pub use origin::Origin;
pub use rng::Rng;
pub use slab::{Key, Slab};
pub use time::{Time, WallTime};
pub use tls::{LocalCertificate, PeerCertificate, TlsFacts};
