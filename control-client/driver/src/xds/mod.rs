//! The transports of xDS: gRPC streams, REST polling and watched files, behind one list of sources.
//!
//! [`Sources`] owns a protocol client of `millrace_ads` for each stream, poll or file (a feed) and moves messages
//! between them and tasks that hold the sockets: `grpc`, `rest`, `watch` and `read_file` do that, `connect` and `tls`
//! open connections. A stream has at most one decoded response waiting for the control loop; a request is made only
//! when the stream takes it, so that a server that does not read cannot fill the memory.

mod connect;
mod feed;
mod file_feed;
mod grpc;
mod grpc_feed;
mod health_report;
mod load_report;
mod node;
mod pauses;
mod read_file;
mod rest;
mod rest_feed;
mod secret_files;
mod served;
mod sources;
mod tls;
mod told;
mod watch;

#[cfg(test)]
mod tests;

use millrace_ads::{ConnectedState, ResourceType, Update};
use millrace_config::{SecretId, SourceId};

pub use health_report::{HealthEvent, HealthReporter};
pub use load_report::{Clusters, LoadEvent, LoadReporter};
pub use node::{Build, ServedExtension, node};
pub use served::SERVED;
pub use sources::{SourceStatistics, Sources};

/// Largest discovery response that comes over REST or from a file, bytes.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Something happened at a source.
#[derive(Clone, Debug)]
pub struct SourceEvent {
    /// Where.
    pub source: SourceId,
    /// What.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// Apply this and give a verdict, unless its id is `UpdateId::NO_VERDICT`. Ids are unique within the source.
    Update(Update),
    /// A stream is open, or (with an identifier) the control plane has said who it is.
    Connected {
        /// Index into `grpc_services`.
        service: usize,
        /// `control_plane.identifier`.
        identifier: Option<String>,
    },
    /// `control_plane.connected_state` of the stream has changed.
    State(ConnectedState),
    /// A stream has ended or could not be opened; another attempt follows by itself.
    Disconnected {
        /// One line for the log, which names the call, the target, the gRPC code and its message.
        reason: String,
    },
    /// A REST request failed, or a file is unreadable or broken (`update_failure`). What came before stays in force, and
    /// it is tried again: after `refresh_delay`, or when the file is replaced.
    Failed {
        /// The type that was asked for.
        resource_type: ResourceType,
        /// One line for the log.
        reason: String,
    },
    /// Something was moved into a directory of [`Sources::watch_files`], or may have been.
    FilesMoved(SecretId),
    /// Something that an operator should know, told once.
    Warning(String),
}
