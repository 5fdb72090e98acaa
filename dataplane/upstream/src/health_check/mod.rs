//! Active health checks: whether an endpoint passes, what is said to it, and what its answer means.
//!
//! [`Session`] is the state of one endpoint: thresholds and flags, by the rules of Envoy's health checker. A
//! [`Conversation`] is what is said on one connection: bytes in, bytes out, over the codecs of `millrace_http`. The shard
//! that an endpoint is assigned to drives both (`shard/src/health_checks`); all shards, and the control thread, read the
//! [`CheckFlags`] in the cluster's health.

mod conversation;
mod flags;
mod grpc;
mod http1;
mod http2;
mod judge;
mod payload;
mod session;
mod tcp;
mod wire;

pub use conversation::{Conversation, Reply, Verdict};
pub use flags::CheckFlags;
pub(crate) use flags::SharedFlags;
pub use session::{CheckEvent, Outcome, Session, Transition, interval};
pub(crate) use wire::{Heard, Wire};

use millrace_config::{Cluster, ClusterDiscovery};

/// Why a check failed (`HealthCheckFailureType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The endpoint answered, and the answer says that it does not pass.
    Active,
    /// Traffic told so (`x-envoy-immediate-health-check-fail`).
    Passive,
    /// The connection could not be made, or ended without an answer.
    Network,
    /// No answer came in time.
    NetworkTimeout,
}

impl FailureKind {
    /// True for failures of the network, which always count towards the threshold.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Network | Self::NetworkTimeout)
    }
}

/// A check that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// It counts towards the threshold; all others of [`FailureKind::Active`] suffice at once.
    pub retriable: bool,
    /// The HTTP status, or 0.
    pub status: u16,
    /// The endpoint says itself that it shall get nothing: it does not count as a member meanwhile.
    pub exclude: bool,
}

impl Failure {
    /// One without an answer.
    pub const fn of(kind: FailureKind) -> Self {
        Self { kind, retriable: false, status: 0, exclude: false }
    }
}

/// What is assumed of an endpoint that was never checked: it fails until its first check says otherwise.
pub(crate) fn initial_flags(cluster: &Cluster, is_checked: bool) -> CheckFlags {
    match &cluster.health_check {
        Some(check) if is_checked => {
            let ignored = check.ignore_new_hosts && !matches!(cluster.discovery, ClusterDiscovery::Static);
            if ignored { CheckFlags::FAILED.with(CheckFlags::PENDING) } else { CheckFlags::FAILED }
        }
        _ => CheckFlags::default(),
    }
}
