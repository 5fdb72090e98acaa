//! The dynamic forward proxy: its caches, its cluster and its filters.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const SUB_CLUSTERS: &str = "clusters that requests make are not served by this build";
const ADDRESS: &str = "the address has no text, and only the filter `rbac` reads it";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig",
        fields: &[
            (
                Served,
                "name dns_lookup_family dns_refresh_rate dns_min_refresh_rate host_ttl max_hosts \
                 disable_dns_refresh_on_failure dns_failure_refresh_rate dns_cache_circuit_breaker \
                 use_tcp_for_dns_lookups dns_resolution_config typed_dns_resolver_config preresolve_hostnames \
                 dns_query_timeout resolved_address_filter",
            ),
            (Reported("addresses are not kept when the process ends"), "key_value_config"),
        ],
    },
    Table {
        message: "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheCircuitBreakers",
        fields: &[(Served, "max_pending_requests")],
    },
    Table {
        message: "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
        fields: &[
            (Served, "dns_cache_config allow_insecure_cluster_options"),
            (Refused(SUB_CLUSTERS), "sub_clusters_config"),
            (Reported("hosts do not share connections"), "allow_coalesced_connections"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
        fields: &[
            (Served, "dns_cache_config allow_dynamic_host_from_filter_state"),
            (Refused(SUB_CLUSTERS), "sub_cluster_config"),
            (NoEffect(ADDRESS), "save_upstream_address"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig",
        fields: &[(Served, "host_rewrite_literal host_rewrite_header")],
    },
    Table {
        message: "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
        fields: &[(Served, "dns_cache_config port_value"), (NoEffect(ADDRESS), "save_upstream_address")],
    },
];
