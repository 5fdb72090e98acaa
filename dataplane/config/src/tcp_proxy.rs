//! The TCP proxy filter (`envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`).

use std::sync::Arc;
use std::time::Duration;

use crate::{AccessLog, BackOff, ClusterId, HashPolicy, MetadataMatch, ScopeId};

/// Which cluster a connection goes to.
#[derive(Clone, Debug)]
pub enum TcpClusterSpecifier {
    /// `cluster`.
    Cluster(ClusterId),
    /// `weighted_clusters`, and the sum of the weights, which is not zero.
    Weighted(Vec<TcpWeightedCluster>, u64),
}

/// `TcpProxy.WeightedCluster.ClusterWeight`.
#[derive(Clone, Debug)]
pub struct TcpWeightedCluster {
    /// `name`.
    pub cluster: ClusterId,
    /// `weight`.
    pub weight: u32,
    /// `metadata_match`, merged over that of the proxy.
    pub metadata_match: Option<Arc<MetadataMatch>>,
}

/// One TCP proxy.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    /// `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Statistics scope `tcp.<stat_prefix>.`.
    pub scope: ScopeId,
    /// Where connections go.
    pub cluster: TcpClusterSpecifier,
    /// `idle_timeout`, default 1 h; `None` when set to 0.
    pub idle_timeout: Option<Duration>,
    /// `max_connect_attempts`, default 1.
    pub max_connect_attempts: u32,
    /// `backoff_options`: between attempts to connect; `None` for no pause.
    pub back_off: Option<BackOff>,
    /// `max_downstream_connection_duration`.
    pub max_downstream_connection_duration: Option<Duration>,
    /// `max_downstream_connection_duration_jitter_percentage`: at most so many percent more, at random.
    pub duration_jitter_percent: f64,
    /// `check_drain_close`: bytes on a connection that drains end it.
    pub check_drain_close: bool,
    /// `access_log`.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `hash_policy`: source addresses and filter state only.
    pub hash_policies: Vec<HashPolicy>,
    /// `metadata_match`.
    pub metadata_match: Option<Arc<MetadataMatch>>,
}
