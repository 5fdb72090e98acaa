//! Balancers, in the older fields and as extensions.

use super::Status::{NoEffect, Served};
use super::Table;

const EXCHANGE: &str = "each shard takes what it measures at once, and nothing is exchanged";
const SUBSET: &str = "fallback_policy default_subset subset_selectors locality_weight_aware scale_locality_weight \
                      panic_mode_any list_as_any metadata_fallback_policy";
const SELECTOR: &str = "keys single_host_per_subset fallback_policy fallback_keys_subset";
const SLOW_START: &str = "slow_start_window aggression min_weight_percent";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig",
        fields: &[(Served, "slow_start_config")],
    },
    Table {
        message: "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
        fields: &[(Served, "choice_count active_request_bias slow_start_config")],
    },
    Table { message: "envoy.config.cluster.v3.Cluster.SlowStartConfig", fields: &[(Served, SLOW_START)] },
    Table {
        message: "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
        fields: &[(Served, "minimum_ring_size hash_function maximum_ring_size")],
    },
    Table { message: "envoy.config.cluster.v3.Cluster.MaglevLbConfig", fields: &[(Served, "table_size")] },
    Table { message: "envoy.config.cluster.v3.Cluster.LbSubsetConfig", fields: &[(Served, SUBSET)] },
    Table {
        message: "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector",
        fields: &[(Served, SELECTOR)],
    },
    Table {
        message: "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        fields: &[(
            Served,
            "healthy_panic_threshold zone_aware_lb_config locality_weighted_lb_config \
                 consistent_hashing_lb_config override_host_status update_merge_window \
                 ignore_new_hosts_until_first_hc close_connections_on_host_set_change",
        )],
    },
    Table {
        message: "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig",
        fields: &[(Served, "routing_enabled min_cluster_size fail_traffic_on_panic")],
    },
    Table { message: "envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", fields: &[] },
    Table {
        message: "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
        fields: &[(Served, "use_hostname_for_hashing hash_balance_factor")],
    },
    Table { message: "envoy.config.core.v3.HealthStatusSet", fields: &[(Served, "statuses")] },
    Table { message: "envoy.config.cluster.v3.LoadBalancingPolicy", fields: &[(Served, "policies")] },
    Table {
        message: "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
        fields: &[(Served, "typed_extension_config")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
        fields: &[(Served, "zone_aware_lb_config locality_weighted_lb_config")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
        fields: &[
            (Served, "routing_enabled min_cluster_size fail_traffic_on_panic force_locality_direct_routing"),
            (Served, "force_local_zone locality_basis"),
        ],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig.ForceLocalZone",
        fields: &[(Served, "min_size")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig",
        fields: &[],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig",
        fields: &[(Served, SLOW_START)],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig",
        fields: &[(Served, "use_hostname_for_hashing hash_balance_factor hash_policy")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
        fields: &[(Served, "slow_start_config locality_lb_config")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.random.v3.Random",
        fields: &[(Served, "locality_lb_config")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        fields: &[
            (
                Served,
                "choice_count active_request_bias slow_start_config locality_lb_config selection_method",
            ),
            (NoEffect("selection_method counts, in Envoy too"), "enable_full_scan"),
        ],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
        fields: &[(
            Served,
            "hash_function minimum_ring_size maximum_ring_size use_hostname_for_hashing hash_balance_factor \
             consistent_hashing_lb_config locality_weighted_lb_config",
        )],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
        fields: &[(Served, "table_size consistent_hashing_lb_config locality_weighted_lb_config")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.subset.v3.Subset",
        fields: &[(Served, SUBSET), (Served, "allow_redundant_keys subset_lb_policy")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.subset.v3.Subset.LbSubsetSelector",
        fields: &[(Served, SELECTOR)],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
        fields: &[(Served, "endpoint_picking_policy")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        fields: &[(
            Served,
            "blackout_period weight_expiration_period weight_update_period error_utilization_penalty \
                 metric_names_for_computing_utilization slow_start_config enable_oob_load_report oob_reporting_period \
                 oob_reporting_config",
        )],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.common.v3.OrcaOobReportingConfig",
        fields: &[(Served, "port_value authority transport_socket_match_criteria")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma",
        fields: &[
            (Served, "decay_time default_rtt penalty_value"),
            (NoEffect(EXCHANGE), "aggregation_interval max_samples_per_host"),
        ],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
        fields: &[(Served, "override_host_sources fallback_policy selected_host_key")],
    },
    Table {
        message: "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost.OverrideHostSource",
        fields: &[(Served, "header metadata")],
    },
];
