//! What every room of the data plane shares and none of them owns: time without a clock, generational
//! slabs, seeded randomness, hashes, token buckets, response flags, blame, the limits, and what is written about a
//! stream.
//!
//! Nothing here performs I/O or reads a clock; `now` is always an argument.

mod bucket;
mod digest;
mod filter_state;
mod flags;
pub mod hash;
mod limits;
mod metadata;
mod origin;
mod rng;
mod slab;
mod stream_state;
mod time;
mod tls;

pub use bucket::TokenBucket;
pub use digest::Digest;
pub use filter_state::{FilterState, StateForm, StateObject};
pub use flags::{ResponseFlag, ResponseFlags};
pub use limits::Limits;
pub use metadata::{Metadata, MetadataStruct, MetadataValue};
pub use origin::Origin;
pub use rng::Rng;
pub use slab::{Key, Slab};
pub use stream_state::{StreamNotes, StreamState, Written};
pub use time::{Time, WallTime};
pub use tls::{LocalCertificate, PeerCertificate, TlsFacts};
