//! Decisions of the TCP proxy: where a connection goes and how often connecting is tried. The bytes themselves
//! are the shard's business.

use std::time::Duration;

use millrace_base::{ResponseFlag, ResponseFlags};
use millrace_config::{ClusterId, MetadataMatch, TcpClusterSpecifier, TcpProxy, TcpWeightedCluster};

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its index among weighted ones.
    pub weighted: Option<usize>,
}

/// The cluster of a connection; `random` chooses among weighted ones.
pub fn target(specifier: &TcpClusterSpecifier, random: u64) -> Option<Target> {
    match specifier {
        TcpClusterSpecifier::Cluster(id) => Some(Target { cluster: *id, weighted: None }),
        TcpClusterSpecifier::Weighted(entries, total) => {
            let mut left = random % (*total).max(1);
            let chosen = |entry: &TcpWeightedCluster| match left.checked_sub(u64::from(entry.weight)) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            };
            let at = entries.iter().position(chosen)?;
            entries.get(at).map(|entry| Target { cluster: entry.cluster, weighted: Some(at) })
        }
    }
}

/// What the endpoint of a connection must have: `metadata_match` of the weighted cluster, or else of the proxy.
pub fn metadata_match(proxy: &TcpProxy, target: Option<Target>) -> Option<&MetadataMatch> {
    match (&proxy.cluster, target.and_then(|target| target.weighted)) {
        (TcpClusterSpecifier::Weighted(entries, _), Some(at)) => {
            entries.get(at).and_then(|entry| entry.metadata_match.as_deref())
        }
        _ => proxy.metadata_match.as_deref(),
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

    /// How long to wait before the next attempt: at random below an interval that doubles from the first failure on.
    /// `None` for no pause.
    pub fn pause(self, proxy: &TcpProxy, random: u64) -> Option<Duration> {
        let limits = proxy.back_off?;
        let doublings = self.failed.saturating_sub(1).min(31);
        let interval = limits.base.saturating_mul(1 << doublings).min(limits.max);
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        Some(Duration::from_millis(random % millis))
    }

    /// Attempts that failed.
    pub fn count(self) -> u32 {
        self.failed
    }
}

/// `max_downstream_connection_duration` of one connection, at random up to its jitter longer.
pub fn longest(proxy: &TcpProxy, random: u64) -> Option<Duration> {
    let whole = proxy.max_downstream_connection_duration?;
    Some(whole + crate::jitter(whole, proxy.duration_jitter_percent, random))
}

#[cfg(test)]
mod tests {
    use millrace_config::{BackOff, ScopeId};

    use super::*;

    fn proxy(max_connect_attempts: u32) -> TcpProxy {
        TcpProxy {
            stat_prefix: "t".into(),
            scope: ScopeId(0),
            cluster: TcpClusterSpecifier::Cluster(ClusterId(0)),
            idle_timeout: None,
            max_connect_attempts,
            back_off: None,
            max_downstream_connection_duration: None,
            duration_jitter_percent: 0.0,
            check_drain_close: false,
            access_logs: Vec::new(),
            hash_policies: Vec::new(),
            metadata_match: None,
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
    fn pauses_double_up_to_the_longest() {
        let ms = Duration::from_millis;
        let mut proxy = proxy(9);
        let mut attempts = ConnectAttempts::default();
        assert_eq!(attempts.pause(&proxy, 7), None);
        proxy.back_off = Some(BackOff { base: ms(100), max: ms(250) });
        let pauses: Vec<_> = (0..4)
            .filter_map(|_| {
                attempts.failed(&proxy, ConnectError::Failed, &mut ResponseFlags::default());
                attempts.pause(&proxy, u64::from(u32::MAX))
            })
            .collect();
        let below = |interval: u64| ms(u64::from(u32::MAX) % interval);
        assert_eq!(pauses, [below(100), below(200), below(250), below(250)]);
    }

    #[test]
    fn the_jitter_makes_a_duration_longer() {
        let mut proxy = proxy(1);
        assert_eq!(longest(&proxy, 5), None);
        proxy.max_downstream_connection_duration = Some(Duration::from_secs(1));
        assert_eq!(longest(&proxy, 5), Some(Duration::from_secs(1)));
        proxy.duration_jitter_percent = 50.0;
        assert_eq!(longest(&proxy, 499), Some(Duration::from_millis(1499)));
        assert_eq!(longest(&proxy, 500), Some(Duration::from_secs(1)));
    }

    #[test]
    fn weights_are_shares() {
        let entry = |id: u32, weight: u32| TcpWeightedCluster {
            cluster: ClusterId(id),
            weight,
            metadata_match: (id == 2).then(std::sync::Arc::default),
        };
        let proxy = TcpProxy {
            cluster: TcpClusterSpecifier::Weighted(vec![entry(1, 1), entry(2, 3)], 4),
            ..proxy(1)
        };
        let picked: Vec<u32> = (0..5)
            .filter_map(|random| target(&proxy.cluster, random))
            .map(|target| target.cluster.0)
            .collect();
        assert_eq!(picked, [1, 2, 2, 2, 1]);
        let matched = |random| metadata_match(&proxy, target(&proxy.cluster, random)).is_some();
        assert_eq!([matched(0), matched(1)], [false, true]);
        assert!(metadata_match(&proxy, None).is_none());
        let one = TcpClusterSpecifier::Cluster(ClusterId(7));
        assert_eq!(target(&one, 3), Some(Target { cluster: ClusterId(7), weighted: None }));
    }
}
