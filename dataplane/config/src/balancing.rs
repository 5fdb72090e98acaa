//! How a cluster spreads requests over its endpoints (`lb_policy`, `common_lb_config`, `lb_subset_config` and
//! `envoy.extensions.load_balancing_policies`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::MetadataStruct;

use crate::{ClusterId, HashPolicy, LocalityName, MetadataPairs, TransportMetadata};

/// The balancers that this build serves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `RANDOM`.
    Random,
    /// `LEAST_REQUEST`.
    LeastRequest(LeastRequest),
    /// `RING_HASH`.
    RingHash(RingHash),
    /// `MAGLEV`.
    Maglev(Maglev),
    /// `ClientSideWeightedRoundRobin`.
    ClientSideWeightedRoundRobin(ClientSideWeights),
    /// `PeakEwma`.
    PeakEwma(PeakEwma),
    /// `CLUSTER_PROVIDED`: the type of the cluster says which.
    ClusterProvided,
}

/// `Cluster.least_request_lb_config`, `LeastRequest`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastRequest {
    /// `choice_count`, default 2.
    pub choice_count: u32,
    /// `active_request_bias`, default 1.0; at least 0.
    pub active_request_bias: f64,
    /// `selection_method: FULL_SCAN`: the best of all endpoints instead of `choice_count` drawn ones.
    pub full_scan: bool,
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self { choice_count: 2, active_request_bias: 1.0, full_scan: false }
    }
}

/// `RingHashLbConfig.HashFunction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HashFunction {
    #[default]
    XxHash,
    MurmurHash2,
}

/// `Cluster.ring_hash_lb_config`, `RingHash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingHash {
    /// `minimum_ring_size`, default 1024.
    pub minimum_ring_size: u64,
    /// `maximum_ring_size`, default and largest 8 Mi; not below the minimum.
    pub maximum_ring_size: u64,
    /// `hash_function`.
    pub hash_function: HashFunction,
}

impl RingHash {
    /// The largest ring that may be configured.
    pub const SIZE_MAX: u64 = 8 * 1024 * 1024;
}

impl Default for RingHash {
    fn default() -> Self {
        Self {
            minimum_ring_size: 1024,
            maximum_ring_size: Self::SIZE_MAX,
            hash_function: HashFunction::XxHash,
        }
    }
}

/// `Cluster.maglev_lb_config`, `Maglev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maglev {
    /// `table_size`: a prime, default 65,537, at most 5,000,011.
    pub table_size: u32,
}

impl Maglev {
    /// The largest table that may be configured.
    pub const SIZE_MAX: u64 = 5_000_011;
}

impl Default for Maglev {
    fn default() -> Self {
        Self { table_size: 65_537 }
    }
}

/// `ClientSideWeightedRoundRobin`: weights made of the load that endpoints report of themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientSideWeights {
    /// `blackout_period`, default 10 s: reports must have come for so long.
    pub blackout: Duration,
    /// `weight_expiration_period`, default 3 min: the last report may be so old.
    pub expiration: Duration,
    /// `weight_update_period`, default 1 s.
    pub update: Duration,
    /// `error_utilization_penalty`.
    pub error_penalty: f64,
}

/// `enable_oob_load_report`: every endpoint is asked for a stream of reports, on a connection of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadStream {
    /// `oob_reporting_period`, default 10 s.
    pub period: Duration,
    /// `oob_reporting_config.port_value`: instead of the endpoint's own; 0 for none.
    pub port: u16,
    /// `oob_reporting_config.authority`, or empty.
    pub authority: Arc<str>,
    /// `oob_reporting_config.transport_socket_match_criteria`: instead of the endpoint's metadata.
    pub transport_match: Option<TransportMetadata>,
}

/// `PeakEwma`: the better of two endpoints drawn at random, by the time that they took to answer and the requests that they
/// have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    /// `decay_time`, default 10 s, at least 1 ms: an estimate has lost all but 1/e of its weight by then.
    pub decay: Duration,
    /// `default_rtt`, default 30 ms: what endpoints count with that nothing is known of.
    pub default_rtt: Duration,
    /// `penalty_value`: milliseconds that an endpoint counts with while it has requests and has never answered one.
    pub penalty: Option<f64>,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self { decay: Duration::from_secs(10), default_rtt: Duration::from_millis(30), penalty: None }
    }
}

/// What balancers have besides their policy. The default is Envoy's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balancing {
    /// What localities mean.
    pub locality: LocalityMode,
    /// `slow_start_config`; only round robin and least request read it.
    pub slow_start: Option<SlowStart>,
    /// `consistent_hashing_lb_config`; only ring hash and Maglev read it.
    pub consistent_hashing: ConsistentHashing,
    /// `metric_names_for_computing_utilization`.
    pub utilization_metrics: Arc<[Arc<str>]>,
    /// Reports that do not come with responses.
    pub load_stream: Option<Arc<LoadStream>>,
    /// `lb_subset_config`, `Subset`.
    pub subset: Option<Arc<Subset>>,
    /// `OverrideHost.override_host_sources`, in their order; empty without that policy.
    pub override_host: Arc<[OverrideHostSource]>,
    /// `OverrideHost.selected_host_key`: the dynamic metadata that the address of each try's endpoint is written to.
    pub selected_host: Option<Arc<MetadataPlace>>,
    /// `common_lb_config.override_host_status`.
    pub override_host_status: HostStatusSet,
    /// The locality of this proxy's node, for zone-aware routing.
    pub local_locality: Option<Arc<LocalityName>>,
    /// `cluster_manager.local_cluster_name`: the cluster that this proxy is an endpoint of.
    pub local_cluster: Option<ClusterId>,
    /// `common_lb_config.update_merge_window`: changes that bring and take no endpoint reach shards this seldom; zero for
    /// at once.
    pub update_merge_window: Duration,
    /// `load_assignment.policy.weighted_priority_health`: health counts weights instead of endpoints.
    pub weighted_priority_health: bool,
}

/// `LocalityLbConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalityMode {
    /// `zone_aware_lb_config`, or nothing; without a local cluster localities mean nothing.
    ZoneAware(ZoneAware),
    /// `locality_weighted_lb_config`: localities get requests by `LocalityLbEndpoints.load_balancing_weight`.
    Weighted,
}

impl Default for LocalityMode {
    fn default() -> Self {
        Self::ZoneAware(ZoneAware::default())
    }
}

/// `ZoneAwareLbConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// `routing_enabled`, percent of the requests.
    pub routing_enabled: u32,
    /// `min_cluster_size`, default 6.
    pub min_cluster_size: u64,
    /// `fail_traffic_on_panic`: no endpoint instead of any.
    pub fail_traffic_on_panic: bool,
    /// `force_local_zone.min_size`, or 1 for `force_locality_direct_routing`: all requests stay in the own locality while it
    /// has so many healthy endpoints.
    pub force_local: Option<u32>,
    /// `locality_basis: HEALTHY_HOSTS_WEIGHT`: localities count by the weights of their endpoints, not their number.
    pub by_weight: bool,
}

impl Default for ZoneAware {
    fn default() -> Self {
        Self {
            routing_enabled: 100,
            min_cluster_size: 6,
            fail_traffic_on_panic: false,
            force_local: None,
            by_weight: false,
        }
    }
}

/// `SlowStartConfig`: a new endpoint's weight grows to its full value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// `slow_start_window`, longer than zero.
    pub window: Duration,
    /// `aggression`, above 0; 1.0 is linear.
    pub aggression: f64,
    /// `min_weight_percent` as a share, default 0.1.
    pub min_weight: f64,
}

/// `ConsistentHashingLbConfig`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsistentHashing {
    /// `use_hostname_for_hashing`.
    pub use_hostname: bool,
    /// `hash_balance_factor`, percent of the average load that an endpoint may have; 0 for no bound.
    pub balance_factor: u32,
    /// `hash_policy`: replaces that of routes unless empty.
    pub hash_policies: Arc<[HashPolicy]>,
}

/// Metadata `envoy.lb` of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LbMetadata {
    /// Sorted by key, values as their JSON text.
    pub pairs: MetadataPairs,
    /// The elements of values that are lists, for `list_as_any`: positions in `pairs`, ascending.
    pub lists: Vec<(usize, Vec<Arc<str>>)>,
    /// `hash_key`, when it is a string: hashed instead of the address.
    pub hash_key: Option<Arc<str>>,
    /// `canary` is true: its answers count as those of canaries, too.
    pub canary: bool,
}

impl LbMetadata {
    /// The value of a key, and its elements when it is a list.
    pub fn get(&self, key: &str) -> Option<(&Arc<str>, Option<&[Arc<str>]>)> {
        let at = self.pairs.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        let list = self.lists.iter().find(|(position, _)| *position == at);
        Some((&self.pairs.get(at)?.1, list.map(|(_, elements)| elements.as_slice())))
    }
}

/// `RouteAction.metadata_match`, with that of the weighted cluster merged in: what a request's endpoint must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataMatch {
    /// Sorted by key, values as their JSON text.
    pub pairs: MetadataPairs,
    /// For `FALLBACK_LIST` when there is a `fallback_list`: each of its entries merged into the other pairs.
    pub fallbacks: Option<Vec<MetadataPairs>>,
}

impl MetadataMatch {
    /// The namespace of metadata that balancers read.
    pub const NAMESPACE: &'static str = "envoy.lb";

    /// What a route asks for, if anything, with the metadata of one request merged in.
    pub fn merged(route: Option<&Self>, request: &MetadataStruct) -> Self {
        let merge = |pairs: &[(Arc<str>, Arc<str>)]| -> MetadataPairs {
            let mut all: BTreeMap<Arc<str>, Arc<str>> = pairs.iter().cloned().collect();
            all.extend(request.iter().map(|(key, value)| (key.into(), value.comparable().into())));
            all.into_iter().collect()
        };
        let alternatives = route.and_then(|route| route.fallbacks.as_ref());
        Self {
            pairs: merge(route.map_or(&[], |route| &route.pairs)),
            fallbacks: alternatives.map(|list| list.iter().map(|pairs| merge(pairs)).collect()),
        }
    }
}

/// `LbSubsetFallbackPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SubsetFallback {
    #[default]
    NoFallback,
    AnyEndpoint,
    DefaultSubset,
}

/// `LbSubsetSelectorFallbackPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SelectorFallback {
    #[default]
    NotDefined,
    NoFallback,
    AnyEndpoint,
    DefaultSubset,
    /// `KEYS_SUBSET` with `fallback_keys_subset`, sorted.
    KeysSubset(Vec<Arc<str>>),
}

/// `LbSubsetSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsetSelector {
    /// `keys`, sorted, without duplicates; not empty.
    pub keys: Vec<Arc<str>>,
    /// `fallback_policy`.
    pub fallback: SelectorFallback,
    /// `single_host_per_subset`.
    pub single_host: bool,
}

/// `LbSubsetConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    /// `fallback_policy`.
    pub fallback: SubsetFallback,
    /// `default_subset`.
    pub default_subset: MetadataPairs,
    /// `subset_selectors`.
    pub selectors: Vec<SubsetSelector>,
    /// `locality_weight_aware`: subsets keep the weights of localities.
    pub locality_weight_aware: bool,
    /// `scale_locality_weight`: in proportion to the endpoints of the locality that are in the subset.
    pub scale_locality_weight: bool,
    /// `panic_mode_any`.
    pub panic_mode_any: bool,
    /// `list_as_any`: an endpoint with a list is in the subset of each element.
    pub list_as_any: bool,
    /// `metadata_fallback_policy: FALLBACK_LIST`.
    pub fallback_list: bool,
    /// `allow_redundant_keys`: keys of the request that no selector has are ignored.
    pub allow_redundant_keys: bool,
}

/// `OverrideHost.OverrideHostSource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideHostSource {
    /// `header`, lower case: addresses, separated by commas.
    Header(Arc<[u8]>),
    /// `metadata`: the same in a text of the dynamic metadata.
    Metadata(MetadataPlace),
}

/// `type.metadata.v3.MetadataKey`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPlace {
    /// `key`.
    pub namespace: Box<str>,
    /// `path`, at least one key.
    pub path: Vec<Box<str>>,
}

/// A set of `core.v3.HealthStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStatusSet(u8);

impl HostStatusSet {
    /// The set with nothing in it.
    pub const EMPTY: Self = Self(0);

    /// The set with `status`, too.
    #[must_use]
    pub fn with(self, status: crate::HealthStatus) -> Self {
        Self(self.0 | 1 << status as u8)
    }

    /// True when `status` is in it.
    pub fn contains(self, status: crate::HealthStatus) -> bool {
        self.0 & (1 << status as u8) != 0
    }
}

impl Default for HostStatusSet {
    /// `UNKNOWN`, `HEALTHY` and `DEGRADED`.
    fn default() -> Self {
        use crate::HealthStatus::{Degraded, Healthy, Unknown};
        Self::EMPTY.with(Unknown).with(Healthy).with(Degraded)
    }
}
