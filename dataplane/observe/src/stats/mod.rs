//! Statistics: what exists (`tables`), where it is counted (`shard`), and how it is read.
//!
//! A counter is an index into an array of the shard that counts. The control thread owns the names, adds
//! the shards up and renders text when somebody scrapes; nothing here is locked while traffic flows.

mod codes;
mod histogram;
mod metric;
mod registry;
mod scope;
mod shard;
mod slots;
pub mod tables;

pub use codes::CodeFamily;
pub use metric::{Counter, Gauge, Group, Histogram};
pub use millrace_config::ScopeId;
pub use registry::Registry;
pub use scope::ScopeKind;
pub use shard::ShardStats;
