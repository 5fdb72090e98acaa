//! Decisions of the TCP proxy: where a connection goes and how often connecting is tried. The bytes themselves
//! are the shard's business.

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

    /// Attempts that failed.
    pub fn count(self) -> u32 {
        self.failed
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
