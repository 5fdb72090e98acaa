//! Which route a request takes, which cluster the route means, and what the route does to path and host.
//!
//! Pure functions over the immutable model: nothing here allocates for an ordinary request, mutates
//! headers or knows about connections. Read [`select()`] first, then [`path`], [`header`], [`query`] in the
//! order the matchers are tried, then [`cluster()`] and what the answers look like ([`rewrite`],
//! [`redirect`]).

pub mod cluster;
pub mod hash;
pub mod header;
mod match_input;
pub mod path;
pub mod query;
pub mod redirect;
pub mod rewrite;
mod rotation;
mod scope;
mod select;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod test;

pub use cluster::{ClusterChoice, cluster, entry_cluster, weighted_number};
pub use hash::{HashInputs, Hashed, cookie_value, hash};
pub use match_input::HttpInputs;
pub use rotation::Rotation;
pub use scope::scope;
pub use select::{Selected, Selection, is_grpc, select, strip_port, virtual_cluster};
