//! Balancers that Envoy refuses too.

use super::Case;
use super::Kind::{Bootstrap, Cluster as C};

/// What Envoy refuses too.
pub(super) const BALANCING: &[Case] = &[
    (C, "{name: c, lb_policy: CLUSTER_PROVIDED}", "lb_policy", "did not provide one"),
    (
        C,
        "{name: c, lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 10, maximum_ring_size: 5}}",
        "ring_hash_lb_config.minimum_ring_size",
        "minimum_ring_size (10) > maximum_ring_size (5)",
    ),
    (
        C,
        "{name: c, lb_policy: MAGLEV, maglev_lb_config: {table_size: 10}}",
        "maglev_lb_config.table_size",
        "must be prime number",
    ),
    (
        C,
        "{name: c, lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: KEYS_SUBSET}]}}",
        "lb_subset_config.subset_selectors[0].fallback_keys_subset",
        "cannot be empty",
    ),
    (
        C,
        "{name: c, lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [b]}]}}",
        "lb_subset_config.subset_selectors[0].fallback_keys_subset",
        "must be a subset of selector keys",
    ),
    (
        C,
        "{name: c, lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [a]}]}}",
        "lb_subset_config.subset_selectors[0].fallback_keys_subset",
        "cannot be equal to keys",
    ),
    (
        C,
        "{name: c, lb_subset_config: {}, load_balancing_policy: {policies: []}}",
        "lb_subset_config",
        "cannot be combined with lb_subset_config",
    ),
    (
        C,
        "{name: c, common_lb_config: {locality_weighted_lb_config: {}}, load_balancing_policy: {policies: []}}",
        "common_lb_config",
        "cannot be combined with partial fields",
    ),
    (
        Bootstrap,
        "{cluster_manager: {local_cluster_name: nobody}}",
        "cluster_manager.local_cluster_name",
        "local cluster 'nobody' must be defined",
    ),
];
