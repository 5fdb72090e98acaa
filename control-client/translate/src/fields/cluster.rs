//! Clusters and endpoints.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const LEDS: &str = "endpoints that come one by one (LEDS) are not served by this build";
const HTTP3: &str = "HTTP/3 is not served by this build";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.cluster.v3.Cluster",
        fields: &[
            (
                Served,
                "name alt_stat_name type cluster_type connect_timeout per_connection_buffer_limit_bytes lb_policy \
                 load_assignment eds_cluster_config max_requests_per_connection circuit_breakers common_http_protocol_options \
                 http_protocol_options typed_extension_protocol_options dns_refresh_rate dns_jitter respect_dns_ttl \
                 dns_lookup_family wait_for_warm_on_init upstream_bind_config least_request_lb_config \
                 round_robin_lb_config ring_hash_lb_config maglev_lb_config lb_subset_config common_lb_config \
                 transport_socket upstream_connection_options \
                 close_connections_on_host_health_failure load_balancing_policy http2_protocol_options \
                 cleanup_interval original_dst_lb_config dns_failure_refresh_rate dns_resolvers \
                 use_tcp_for_dns_lookups dns_resolution_config typed_dns_resolver_config \
                 protocol_selection transport_socket_matches upstream_http_protocol_options outlier_detection \
                 health_checks ignore_health_on_host_removal connection_pool_per_downstream_connection",
            ),
            (Refused("matcher trees are not served by this build"), "transport_socket_matcher"),
            (Refused("filters on the upstream side are not served by this build"), "filters upstream_config"),
            (NoEffect("only istio.alpn reads it: alpn_override of istio"), "metadata"),
            (NoEffect("load is reported to cluster_manager.load_stats_config, by Envoy too"), "lrs_server"),
            (
                Served,
                "lrs_report_endpoint_metrics track_timeout_budgets track_cluster_stats preconnect_policy",
            ),
            (Reported("stats_config.stats_matcher applies alone"), "stats_matcher"),
            (
                Reported("a connection whose queue stays full is kept"),
                "per_connection_buffer_high_watermark_timeout",
            ),
            (Reported("waiting requests are served in order"), "queuing_policies"),
        ],
    },
    Table {
        message: "envoy.config.cluster.v3.TrackClusterStats",
        fields: &[(Served, "timeout_budgets request_response_sizes per_endpoint_stats")],
    },
    Table {
        message: "envoy.config.core.v3.UpstreamHttpProtocolOptions",
        fields: &[(Served, "auto_sni auto_san_validation override_auto_sni_header")],
    },
    Table {
        message: "envoy.config.cluster.v3.Cluster.CustomClusterType",
        fields: &[(Served, "name typed_config")],
    },
    Table {
        message: "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
        fields: &[(Served, "use_http_header http_header_name upstream_port_override metadata_key")],
    },
    Table {
        message: "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
        fields: &[(Served, "clusters")],
    },
    Table {
        message: "envoy.extensions.clusters.dns.v3.DnsCluster",
        fields: &[(
            Served,
            "dns_refresh_rate respect_dns_ttl dns_jitter dns_lookup_family all_addresses_in_single_endpoint \
                 dns_failure_refresh_rate typed_dns_resolver_config dns_min_refresh_rate",
        )],
    },
    Table {
        message: "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate",
        fields: &[(Served, "base_interval max_interval")],
    },
    Table {
        message: "envoy.config.cluster.v3.Cluster.RefreshRate",
        fields: &[(Served, "base_interval max_interval")],
    },
    Table {
        message: "envoy.config.core.v3.DnsResolutionConfig",
        fields: &[(Served, "resolvers dns_resolver_options")],
    },
    Table {
        message: "envoy.config.core.v3.DnsResolverOptions",
        fields: &[(Served, "use_tcp_for_dns_lookups no_default_search_domain")],
    },
    Table {
        message: "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        fields: &[
            (
                Served,
                "resolvers use_resolvers_as_fallback dns_resolver_options query_timeout_seconds query_tries \
                 rotate_nameservers",
            ),
            (Reported("addresses of every family are tried"), "filter_unroutable_families"),
            (
                NoEffect("each query has a socket of its own, and nothing is cached"),
                "udp_max_queries max_udp_channel_duration reinit_channel_on_timeout qcache_max_ttl",
            ),
            (Reported("the resolver has its own size"), "edns0_max_payload_size"),
        ],
    },
    Table {
        message: "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig",
        fields: &[(
            NoEffect("names are resolved with the system's settings"),
            "num_retries num_resolver_threads",
        )],
    },
    Table {
        message: "envoy.extensions.network.dns_resolver.hickory.v3.HickoryDnsResolverConfig",
        fields: &[
            (Served, "resolvers query_timeout query_tries"),
            (Refused("names are asked in clear text"), "dns_over_tls dns_over_https"),
            (Refused("answers are not validated"), "enable_dnssec"),
            (NoEffect("nothing is cached, and one thread asks"), "cache_size num_resolver_threads"),
            (NoEffect("/etc/hosts counts, and without resolvers /etc/resolv.conf"), "use_system_config"),
        ],
    },
    Table {
        message: "envoy.config.cluster.v3.CircuitBreakers",
        fields: &[(Served, "thresholds per_host_thresholds")],
    },
    Table {
        message: "envoy.config.cluster.v3.Cluster.PreconnectPolicy",
        fields: &[
            (Served, "per_upstream_preconnect_ratio predictive_preconnect_ratio"),
            (
                Reported("connections are opened ahead for the endpoints of requests only"),
                "preconnect_enabled_metadata",
            ),
        ],
    },
    Table {
        message: "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        fields: &[(
            Served,
            "priority max_connections max_pending_requests max_requests max_retries retry_budget \
                 max_connection_pools track_remaining",
        )],
    },
    Table {
        message: "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
        fields: &[(Served, "budget_percent min_retry_concurrency budget_interval")],
    },
    Table {
        message: "envoy.config.cluster.v3.OutlierDetection",
        fields: &[
            (
                Served,
                "consecutive_5xx interval base_ejection_time max_ejection_percent enforcing_consecutive_5xx \
                 enforcing_success_rate success_rate_minimum_hosts success_rate_request_volume \
                 success_rate_stdev_factor consecutive_gateway_failure enforcing_consecutive_gateway_failure \
                 split_external_local_origin_errors consecutive_local_origin_failure \
                 enforcing_consecutive_local_origin_failure enforcing_local_origin_success_rate \
                 failure_percentage_threshold enforcing_failure_percentage \
                 enforcing_failure_percentage_local_origin failure_percentage_minimum_hosts \
                 failure_percentage_request_volume max_ejection_time max_ejection_time_jitter \
                 always_eject_one_host successful_active_health_check_uneject_host detect_degraded_hosts",
            ),
            (Refused("Envoy 1.40 has no monitor of this kind, and neither has this build"), "monitors"),
        ],
    },
    Table {
        message: "envoy.config.cluster.v3.UpstreamConnectionOptions",
        fields: &[
            (Served, "tcp_keepalive happy_eyeballs_config"),
            (
                Reported("the interface's name is not kept"),
                "set_local_interface_name_on_upstream_connections",
            ),
        ],
    },
    Table {
        message: "envoy.config.cluster.v3.UpstreamConnectionOptions.HappyEyeballsConfig",
        fields: &[(Served, "first_address_family_version first_address_family_count")],
    },
    Table { message: "envoy.config.endpoint.v3.Endpoint.AdditionalAddress", fields: &[(Served, "address")] },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        fields: &[
            (
                Served,
                "common_http_protocol_options upstream_http_protocol_options explicit_http_config \
                 use_downstream_protocol_config auto_config hash_policy",
            ),
            (Refused("filters on the upstream side are not served by this build"), "http_filters"),
            (Served, "retry_policy request_mirror_policies outlier_detection"),
            (Reported("headers are checked by the built-in rules"), "header_validation_config"),
        ],
    },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.OutlierDetection",
        fields: &[(Served, "error_matcher")],
    },
    Table {
        message: "envoy.config.common.matcher.v3.MatchPredicate",
        fields: &[
            (Served, "or_match and_match not_match any_match http_response_headers_match"),
            (
                Refused("an answer is judged by its head"),
                "http_request_headers_match http_request_trailers_match http_response_trailers_match \
                 http_request_generic_body_match http_response_generic_body_match",
            ),
        ],
    },
    Table { message: "envoy.config.common.matcher.v3.MatchPredicate.MatchSet", fields: &[(Served, "rules")] },
    Table { message: "envoy.config.common.matcher.v3.HttpHeadersMatch", fields: &[(Served, "headers")] },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        fields: &[
            (Served, "http_protocol_options http2_protocol_options"),
            (Refused(HTTP3), "http3_protocol_options"),
        ],
    },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        fields: &[
            (Served, "http_protocol_options http2_protocol_options"),
            (NoEffect("no downstream connection speaks HTTP/3"), "http3_protocol_options"),
        ],
    },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
        fields: &[
            (Served, "http_protocol_options http2_protocol_options"),
            (
                Reported("HTTP/3 is not served by this build; ALPN chooses among HTTP/1.1 and HTTP/2"),
                "http3_protocol_options alternate_protocols_cache_options",
            ),
        ],
    },
    Table {
        message: "envoy.config.endpoint.v3.ClusterLoadAssignment",
        fields: &[
            (Served, "cluster_name endpoints policy"),
            (Refused("named endpoints are not served by this build"), "named_endpoints"),
        ],
    },
    Table {
        message: "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy",
        fields: &[(
            Served,
            "overprovisioning_factor weighted_priority_health endpoint_stale_after drop_overloads",
        )],
    },
    Table {
        message: "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.DropOverload",
        fields: &[(Served, "category drop_percentage")],
    },
    Table {
        message: "envoy.config.endpoint.v3.LocalityLbEndpoints",
        fields: &[
            (Served, "locality lb_endpoints load_balancing_weight priority"),
            (Refused(LEDS), "load_balancer_endpoints leds_cluster_locality_config"),
            (NoEffect("only transport_socket_matches read it, as they do in Envoy"), "metadata"),
            (NoEffect("nothing reads it"), "proximity"),
        ],
    },
    Table {
        message: "envoy.config.endpoint.v3.LbEndpoint",
        fields: &[
            (Served, "endpoint health_status load_balancing_weight metadata"),
            (Refused("named endpoints are not served by this build"), "endpoint_name"),
        ],
    },
    Table {
        message: "envoy.config.endpoint.v3.Endpoint",
        fields: &[
            (Served, "address hostname health_check_config additional_addresses"),
            (Reported("the endpoint is shown by its address"), "observability_name"),
        ],
    },
];
