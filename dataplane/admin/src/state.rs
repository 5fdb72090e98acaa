//! What the process must answer and do for the admin interface.

use std::time::Duration;

use millrace_config::{Address, Cluster, Endpoint, HealthStatus, Thresholds};
use regex::Regex;
use serde_json::Value;

/// `envoy.admin.v3.ServerInfo.State`; the discriminants are the values of the gauge `server.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Serving.
    Live = 0,
    /// `/healthcheck/fail` was called, or the server drains before it exits.
    Draining = 1,
    /// Waiting for the first clusters.
    PreInitializing = 2,
    /// Waiting for the first listeners.
    Initializing = 3,
}

impl ServerState {
    /// Envoy's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }
}

/// `envoy.admin.v3.Memory`, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Memory {
    pub allocated: u64,
    pub heap_size: u64,
    pub pageheap_unmapped: u64,
    pub pageheap_free: u64,
    pub total_thread_cache: u64,
    pub total_physical_bytes: u64,
}

/// The primary statistics of one host, as `/clusters` prints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HostStats {
    pub cx_active: u64,
    pub cx_connect_fail: u64,
    pub cx_total: u64,
    pub rq_active: u64,
    pub rq_error: u64,
    pub rq_pending_active: u64,
    pub rq_success: u64,
    pub rq_timeout: u64,
    pub rq_total: u64,
}

impl HostStats {
    /// By name.
    pub fn counters(&self) -> [(&'static str, u64); 6] {
        [
            ("cx_connect_fail", self.cx_connect_fail),
            ("cx_total", self.cx_total),
            ("rq_error", self.rq_error),
            ("rq_success", self.rq_success),
            ("rq_timeout", self.rq_timeout),
            ("rq_total", self.rq_total),
        ]
    }

    /// By name.
    pub fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("cx_active", self.cx_active),
            ("rq_active", self.rq_active),
            ("rq_pending_active", self.rq_pending_active),
        ]
    }
}

/// What is known of a host besides its configuration. Rates are percent of the last interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostChecks {
    /// It fails its active health checks.
    pub failed_active_health_check: bool,
    /// Its active health checks say that it is degraded.
    pub failed_active_degraded_check: bool,
    /// Discovery has dropped it, but it passes its active health checks.
    pub pending_dynamic_removal: bool,
    /// It gets nothing before its first active health check.
    pub pending_active_hc: bool,
    /// It said that it shall get nothing.
    pub excluded_via_immediate_hc_fail: bool,
    /// The active health check failed by a timeout.
    pub active_hc_timeout: bool,
    /// Ejected by outlier detection.
    pub failed_outlier_check: bool,
    /// An answer said that it is degraded (`detect_degraded_hosts`).
    pub degraded_outlier_detection: bool,
    /// Of answers; `None` without enough of them.
    pub success_rate: Option<f64>,
    /// Of attempts to get an answer; `None` without enough of them.
    pub local_origin_success_rate: Option<f64>,
}

/// One host of a cluster.
#[derive(Clone, Debug)]
pub struct HostStatus {
    /// Where it listens.
    pub address: Address,
    /// The host name, empty when unknown.
    pub hostname: String,
    /// Load balancing weight.
    pub weight: u32,
    /// Region, zone, sub-zone.
    pub locality: (String, String, String),
    /// Its metadata call it a canary.
    pub canary: bool,
    /// Priority, 0 is the highest.
    pub priority: u32,
    /// The health status of the configuration.
    pub health: HealthStatus,
    /// What traffic tells of it.
    pub checks: HostChecks,
    /// Counters and gauges.
    pub stats: HostStats,
}

impl HostStatus {
    /// Envoy's gauge `healthy`: requests go to it as long as there are others like it.
    pub fn is_healthy(&self) -> bool {
        let ill = self.checks.failed_active_health_check
            || self.checks.failed_active_degraded_check
            || self.checks.failed_outlier_check
            || self.checks.degraded_outlier_detection;
        !ill && matches!(self.health, HealthStatus::Unknown | HealthStatus::Healthy)
    }
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// Name.
    pub name: String,
    /// `alt_stat_name`, or the name.
    pub observability_name: String,
    /// False for clusters of the bootstrap.
    pub added_via_api: bool,
    /// Circuit breakers of priority `DEFAULT`.
    pub default_priority: Thresholds,
    /// Circuit breakers of priority `HIGH`.
    pub high_priority: Thresholds,
    /// Outlier detection: mean success rate and threshold, percent, of answers and of local origin; `None` without it.
    pub success_rates: Option<[Option<(f64, f64)>; 2]>,
    /// Hosts in configuration order.
    pub hosts: Vec<HostStatus>,
}

impl ClusterStatus {
    /// The status of a configured cluster; `stats` merges the shards' counters of one endpoint
    /// and says what they know of it.
    pub fn from_config(
        cluster: &Cluster,
        added_via_api: bool,
        mut stats: impl FnMut(&Endpoint) -> (HostStats, HostChecks),
    ) -> Self {
        let mut hosts = Vec::new();
        for group in &cluster.localities {
            let (region, zone, sub_zone) = &group.locality;
            hosts.extend(group.endpoints.iter().map(|endpoint| {
                let (stats, checks) = stats(endpoint);
                HostStatus {
                    address: endpoint.address.clone(),
                    hostname: endpoint.hostname.to_string(),
                    weight: endpoint.weight,
                    locality: (region.to_string(), zone.to_string(), sub_zone.to_string()),
                    canary: endpoint.lb_metadata.as_ref().is_some_and(|metadata| metadata.canary),
                    priority: group.priority,
                    health: endpoint.health,
                    checks,
                    stats,
                }
            }));
        }
        Self {
            name: cluster.name.to_string(),
            observability_name: cluster.stat_name.to_string(),
            added_via_api,
            default_priority: cluster.circuit_breakers.default,
            high_priority: cluster.circuit_breakers.high,
            success_rates: cluster.outlier_detection.as_ref().map(|_| [None; 2]),
            hosts,
        }
    }
}

/// One listener with the addresses it is bound to (the real port where 0 was configured).
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Name.
    pub name: String,
    /// `address`.
    pub local_address: Address,
    /// `additional_addresses`.
    pub additional_addresses: Vec<Address>,
}

/// The sections of `/config_dump`, in the order Envoy prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ConfigSection {
    Bootstrap,
    Clusters,
    Endpoints,
    Listeners,
    ScopedRoutes,
    Routes,
    Secrets,
    Ecds,
}

/// One runtime key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeEntry {
    /// The key.
    pub key: String,
    /// One value per layer, empty where the layer has none.
    pub layer_values: Vec<String>,
    /// What applies.
    pub final_value: String,
}

/// The runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeView {
    /// Layer names, lowest first.
    pub layers: Vec<String>,
    /// Sorted by key.
    pub entries: Vec<RuntimeEntry>,
    /// True when an `admin_layer` exists, so that `/runtime_modify` works.
    pub has_admin_layer: bool,
}

/// One logger of the application log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggerStatus {
    /// For example `upstream`.
    pub name: &'static str,
    /// One of `trace`, `debug`, `info`, `warning`, `error`, `critical`, `off`.
    pub level: &'static str,
}

/// Which representation `/stats` shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StatsFormat {
    Text,
    Json,
    Prometheus,
}

/// `/stats?type=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StatType {
    Counters,
    Gauges,
    Histograms,
    TextReadouts,
}

/// `/stats?histogram_buckets=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HistogramBuckets {
    /// Not asked for: quantiles in text and JSON, cumulative buckets in Prometheus.
    #[default]
    Unset,
    Cumulative,
    Disjoint,
    Detailed,
    Summary,
}

/// A parsed `/stats` request.
#[derive(Clone, Debug)]
pub struct StatsQuery {
    /// Representation.
    pub format: StatsFormat,
    /// `usedonly`: leave out what was never written.
    pub used_only: bool,
    /// Partial match on the raw (dotted) name.
    pub filter: Option<Regex>,
    /// `invert_filter`.
    pub invert_filter: bool,
    /// `type`; `None` for all.
    pub only: Option<StatType>,
    /// `histogram_buckets`.
    pub histogram_buckets: HistogramBuckets,
    /// `text_readouts` (Prometheus only): print them as gauges with the value 0.
    pub text_readouts: bool,
}

impl StatsQuery {
    /// True when a statistic with this raw name shall be printed.
    pub fn wants_name(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.is_match(name) != self.invert_filter)
    }

    /// True when statistics of this kind shall be printed.
    pub fn wants_type(&self, kind: StatType) -> bool {
        self.only.is_none_or(|only| only == kind)
    }
}

/// A mutation, carried out by the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// `/healthcheck/fail`: health checks fail, the state is draining.
    HealthCheckFail,
    /// `/healthcheck/ok`.
    HealthCheckOk,
    /// `/drain_listeners`.
    DrainListeners {
        /// Close gently during the drain time before the listeners stop.
        graceful: bool,
        /// Only listeners with `traffic_direction: INBOUND`.
        inbound_only: bool,
        /// Never stop the listeners.
        skip_exit: bool,
    },
    /// `/quitquitquit`: exit now, without draining.
    Quit,
    /// `/reset_counters`.
    ResetCounters,
    /// `/reopen_logs`.
    ReopenLogs,
    /// `/runtime_modify`: set, or with an empty value remove, overrides of the admin layer.
    RuntimeModify(Vec<(String, String)>),
    /// `/logging?level=`: every logger. The level is one of [`LoggerStatus::level`].
    SetAllLogLevels(&'static str),
    /// `/logging?paths=` or `?<name>=`: these loggers. Names exist, levels are valid.
    SetLogLevels(Vec<(&'static str, &'static str)>),
}

/// The process as the admin interface sees it.
pub trait AdminState {
    /// The state behind `/ready`.
    fn server_state(&self) -> ServerState;
    /// Time since this process started.
    fn uptime(&self) -> Duration;
    /// The five-part version.
    fn version(&self) -> String;
    /// `disabled`, or the hot restart compatibility version.
    fn hot_restart_version(&self) -> String;
    /// `envoy.admin.v3.CommandLineOptions` with every field present.
    fn command_line_options(&self) -> Value;
    /// `envoy.config.core.v3.Node`.
    fn node(&self) -> Value;
    /// Memory use.
    fn memory(&self) -> Memory;
    /// Clusters, in the order to be printed.
    fn clusters(&mut self) -> Vec<ClusterStatus>;
    /// Listeners, in the order to be printed.
    fn listeners(&self) -> Vec<ListenerStatus>;
    /// Renders statistics.
    fn stats(&mut self, query: &StatsQuery) -> Vec<u8>;
    /// One section as proto3 JSON with proto field names, unset fields left out and no `@type`; `None`
    /// when the section does not exist. Endpoints are asked for with `include_eds` only.
    fn config_dump(&mut self, section: ConfigSection) -> Option<Value>;
    /// The runtime.
    fn runtime(&self) -> RuntimeView;
    /// `envoy.admin.v3.Certificate` values.
    fn certificates(&self) -> Vec<Value>;
    /// Names of what start-up still waits for.
    fn unready_targets(&self) -> Vec<String>;
    /// The loggers, in the order to be printed.
    fn loggers(&self) -> Vec<LoggerStatus>;
    /// Carries out a mutation. `/logging` reads [`Self::loggers`] right afterwards; everything else may
    /// happen later.
    fn execute(&mut self, command: AdminCommand);
}
