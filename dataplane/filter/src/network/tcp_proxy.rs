//! Decisions of the TCP proxy: where a connection goes, how often connecting is tried, and when each side
//! is closed. The bytes themselves are the shard's business.

use millrace_base::{ResponseFlag, ResponseFlags};
use millrace_config::{ClusterId, TcpClusterSpecifier, TcpProxy};

/// The cluster of a connection; `random` chooses among weighted ones.
pub fn cluster(specifier: &TcpClusterSpecifier, random: u64) -> Option<ClusterId> {
    match specifier {
        TcpClusterSpecifier::Cluster(id) => Some(*id),
        TcpClusterSpecifier::Weighted(entries, total) => {
            let mut left = random % (*total).max(1);
            entries.iter().find_map(|(id, weight)| match left.checked_sub(u64::from(*weight)) {
                Some(rest) => {
                    left = rest;
                    None
                }
                None => Some(*id),
            })
        }
    }
}

/// Why no upstream connection came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The cluster does not exist.
    NoCluster,
    /// The cluster has no usable endpoint.
    NoHealthyUpstream,
    /// The cluster's connection breaker is open.
    Overflow,
    /// Refused, unreachable or timed out.
    Failed,
}

/// What to do after a [`ConnectError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectStep {
    /// Choose an endpoint and connect again, now.
    Again,
    /// Close the downstream connection.
    GiveUp,
}

/// Connect attempts of one downstream connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectAttempts {
    failed: u32,
}

impl ConnectAttempts {
    /// Counts a failure, sets the flags that Envoy logs, and says what follows.
    pub fn failed(
        &mut self,
        proxy: &TcpProxy,
        error: ConnectError,
        flags: &mut ResponseFlags,
    ) -> ConnectStep {
        match error {
            ConnectError::NoCluster => flags.set(ResponseFlag::NoClusterFound),
            ConnectError::NoHealthyUpstream => flags.set(ResponseFlag::NoHealthyUpstream),
            ConnectError::Overflow => flags.set(ResponseFlag::UpstreamOverflow),
            ConnectError::Failed => {
                flags.set(ResponseFlag::UpstreamConnectionFailure);
                self.failed += 1;
                if self.failed < proxy.max_connect_attempts.max(1) {
                    return ConnectStep::Again;
                }
                flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
            }
        }
        ConnectStep::GiveUp
    }

    /// Attempts that failed.
    pub fn count(self) -> u32 {
        self.failed
    }
}

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The endpoint's.
    Upstream,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

/// What the shard does to the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseStep {
    /// Nothing yet.
    Wait,
    /// Send what is queued for this side, then FIN (`shutdown(SHUT_WR)`).
    ShutdownWrite(Side),
    /// Both directions are over: send what is queued on both sides, then close both.
    CloseBoth,
    /// Close both at once; `reset` tells the side named to see a reset rather than an orderly end.
    Abort {
        /// Which side is reset.
        reset: Side,
    },
}

/// Half-closed state of a proxied pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfClose {
    downstream_ended: bool,
    upstream_ended: bool,
}

impl HalfClose {
    /// One side will send no more (FIN received). The other direction goes on until it ends, too.
    pub fn ended(&mut self, side: Side) -> CloseStep {
        let (this, other) = match side {
            Side::Downstream => (&mut self.downstream_ended, self.upstream_ended),
            Side::Upstream => (&mut self.upstream_ended, self.downstream_ended),
        };
        if *this {
            return CloseStep::Wait;
        }
        *this = true;
        if other { CloseStep::CloseBoth } else { CloseStep::ShutdownWrite(side.peer()) }
    }

    /// A reset or write error on one side ends both.
    pub fn broken(&self, side: Side) -> CloseStep {
        CloseStep::Abort { reset: side.peer() }
    }

    /// Whether a side has ended.
    pub fn has_ended(&self, side: Side) -> bool {
        match side {
            Side::Downstream => self.downstream_ended,
            Side::Upstream => self.upstream_ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_config::ScopeId;

    use super::*;

    fn proxy(max_connect_attempts: u32) -> TcpProxy {
        TcpProxy {
            stat_prefix: "t".into(),
            scope: ScopeId(0),
            cluster: TcpClusterSpecifier::Cluster(ClusterId(0)),
            idle_timeout: None,
            max_connect_attempts,
            max_downstream_connection_duration: None,
            access_logs: Vec::new(),
        }
    }

    /// Attempts and flags of a connection whose every attempt ends so.
    fn exhausted(max: u32, error: ConnectError) -> (u32, String) {
        let (mut attempts, mut flags, proxy) =
            (ConnectAttempts::default(), ResponseFlags::default(), proxy(max));
        while attempts.failed(&proxy, error, &mut flags) == ConnectStep::Again {}
        (attempts.count(), flags.to_string())
    }

    #[test]
    fn flags_as_envoy_1_40_logged_them() {
        assert_eq!(exhausted(1, ConnectError::Failed), (1, "UF,URX".into()));
        assert_eq!(exhausted(3, ConnectError::Failed), (3, "UF,URX".into()));
        assert_eq!(exhausted(3, ConnectError::NoCluster), (0, "NC".into()));
        assert_eq!(exhausted(3, ConnectError::NoHealthyUpstream), (0, "UH".into()));
        assert_eq!(exhausted(3, ConnectError::Overflow), (0, "UO".into()));
    }

    #[test]
    fn weights_are_shares() {
        let weighted = TcpClusterSpecifier::Weighted(vec![(ClusterId(1), 1), (ClusterId(2), 3)], 4);
        let picked: Vec<u32> =
            (0..5).filter_map(|random| cluster(&weighted, random)).map(|id| id.0).collect();
        assert_eq!(picked, [1, 2, 2, 2, 1]);
        assert_eq!(cluster(&TcpClusterSpecifier::Cluster(ClusterId(7)), 3), Some(ClusterId(7)));
    }

    #[test]
    fn each_end_is_passed_on_once_and_both_close_the_pair() {
        for first in [Side::Downstream, Side::Upstream] {
            let mut pair = HalfClose::default();
            assert_eq!(pair.ended(first), CloseStep::ShutdownWrite(first.peer()));
            assert_eq!(pair.ended(first), CloseStep::Wait);
            assert!(pair.has_ended(first) && !pair.has_ended(first.peer()));
            assert_eq!(pair.ended(first.peer()), CloseStep::CloseBoth);
            assert_eq!(pair.broken(first), CloseStep::Abort { reset: first.peer() });
        }
    }
}
