//! One struct per core that owns every connection, buffer, timer, pool and counter of that core.
//!
//! The shard is sans-io: [`Shard::turn`] takes events and a time and appends plain operations, which a back
//! end of `millrace_ring` carries out. Read in the order a byte travels: `listener`, `downstream`, then
//! `tcp` or `http`, `upstream`, `link`. What crosses cores stands in [`shared`]; `origin` is what a connection
//! pins of the configuration.

mod address;
mod admission;
mod choose;
mod clusters;
mod connection_state;
mod downstream;
mod farewell;
mod gates;
mod handshakes;
mod health_checks;
mod held;
mod housekeeping;
mod http;
mod io;
mod link;
mod listener;
mod load_reports;
mod logs;
mod named_hosts;
mod origin;
mod outliers;
mod overload;
mod own_connection;
mod own_endpoints;
mod quiescence;
mod route_users;
mod secure;
mod secure_downstream;
mod secure_upstream;
mod shard;
pub mod shared;
mod tcp;
mod timers;
mod tls;
mod tls_statistics;
mod token;
mod upstream;

pub use health_checks::Members;
pub use logs::Logs;
pub use shard::{Running, Shard, ShardParts, SocketFacts};
