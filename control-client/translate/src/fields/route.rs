//! Route tables.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const MATCHER: &str = "matcher trees are not served by this build";
const NEEDS_FILTER: &str = "only filters that are refused read it";
const HEADERS: &str =
    "request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.route.v3.RouteConfiguration",
        fields: &[
            (
                Served,
                "name virtual_hosts internal_only_headers most_specific_header_mutations_wins validate_clusters \
                 max_direct_response_body_size_bytes ignore_port_in_host_matching typed_per_filter_config \
                 vhds",
            ),
            (Served, HEADERS),
            (Refused("cluster specifier plugins are not served by this build"), "cluster_specifier_plugins"),
            (Refused("virtual hosts are chosen by the host"), "vhost_header"),
            (Refused("paths are matched with their parameters"), "ignore_path_parameters_in_path_matching"),
            (Refused("route specifiers are not served by this build"), "route_specifiers"),
            (Served, "request_mirror_policies"),
            (NoEffect(NEEDS_FILTER), "metadata"),
        ],
    },
    // Of tables of RDS; an inline table is refused with it. Hosts are not asked for on demand.
    Table { message: "envoy.config.route.v3.VirtualCluster", fields: &[(Served, "headers name")] },
    Table { message: "envoy.config.route.v3.Vhds", fields: &[(Served, "config_source")] },
    Table {
        message: "envoy.config.route.v3.ScopedRouteConfiguration",
        fields: &[
            (Served, "name route_configuration_name route_configuration key"),
            (Reported("the route table of a scope is asked for at once"), "on_demand"),
        ],
    },
    Table { message: "envoy.config.route.v3.ScopedRouteConfiguration.Key", fields: &[(Served, "fragments")] },
    Table {
        message: "envoy.config.route.v3.ScopedRouteConfiguration.Key.Fragment",
        fields: &[(Served, "string_key")],
    },
    Table {
        message: "envoy.config.route.v3.VirtualHost",
        fields: &[
            (
                Served,
                "name domains routes require_tls typed_per_filter_config include_request_attempt_count \
                 include_attempt_count_in_response retry_policy",
            ),
            (Served, HEADERS),
            (Refused(MATCHER), "matcher"),
            (NoEffect("Envoy 1.40 does not serve it either"), "retry_policy_typed_config"),
            (Refused("route specifiers are not served by this build"), "route_specifiers"),
            (Served, "virtual_clusters"),
            (Served, "hedge_policy include_is_timeout_retry_header"),
            (Served, "per_request_buffer_limit_bytes request_body_buffer_limit"),
            (Served, "request_mirror_policies"),
            (Served, "rate_limits cors"),
            (Served, "metadata"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.Route",
        fields: &[
            (Served, "name match route redirect direct_response typed_per_filter_config stat_prefix"),
            (Served, HEADERS),
            (
                Refused(
                    "routes without a forwarding, redirecting or direct action are not served by this build",
                ),
                "filter_action non_forwarding_action",
            ),
            (Refused("route specifiers are not served by this build"), "route_specifiers"),
            (Reported("nothing is traced"), "tracing"),
            (Served, "per_request_buffer_limit_bytes request_body_buffer_limit"),
            (NoEffect("nothing is traced"), "decorator"),
            (Served, "metadata"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RouteMatch",
        fields: &[
            (
                Served,
                "prefix path safe_regex connect_matcher path_separated_prefix case_sensitive runtime_fraction headers \
                 query_parameters grpc dynamic_metadata filter_state",
            ),
            (Refused("path match extensions are not served by this build"), "path_match_policy"),
            (Refused("the route would match too much without it"), "cookies tls_context"),
        ],
    },
    Table { message: "envoy.config.route.v3.RouteMatch.ConnectMatcher", fields: &[] },
    Table { message: "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", fields: &[] },
    Table {
        message: "envoy.config.route.v3.HeaderMatcher",
        fields: &[(
            Served,
            "name exact_match safe_regex_match range_match present_match prefix_match suffix_match contains_match \
             string_match invert_match treat_missing_header_as_empty",
        )],
    },
    Table {
        message: "envoy.config.route.v3.QueryParameterMatcher",
        fields: &[(Served, "name string_match present_match")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction",
        fields: &[
            (
                Served,
                "cluster cluster_header weighted_clusters cluster_not_found_response_code prefix_rewrite regex_rewrite \
                 host_rewrite_literal auto_host_rewrite host_rewrite_header host_rewrite_path_regex \
                 append_x_forwarded_host timeout idle_timeout flush_timeout retry_policy priority upgrade_configs \
                 max_stream_duration max_grpc_timeout grpc_timeout_offset hash_policy metadata_match",
            ),
            (
                Refused("cluster specifier plugins are not served by this build"),
                "cluster_specifier_plugin inline_cluster_specifier_plugin",
            ),
            (
                Refused("this way of rewriting is not served by this build"),
                "path_rewrite_policy path_rewrite host_rewrite",
            ),
            (NoEffect("Envoy 1.40 does not serve it either"), "retry_policy_typed_config"),
            (Served, "request_mirror_policies"),
            (Served, "internal_redirect_policy internal_redirect_action max_internal_redirects"),
            (Served, "hedge_policy"),
            (NoEffect("there is no early data without TLS"), "early_data_policy"),
            (Served, "rate_limits include_vh_rate_limits cors"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.HashPolicy",
        fields: &[
            (Served, "header cookie connection_properties query_parameter terminal"),
            (Served, "filter_state"),
        ],
    },
    Table { message: "envoy.config.route.v3.RouteAction.HashPolicy.FilterState", fields: &[(Served, "key")] },
    Table {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.Header",
        fields: &[(Served, "header_name regex_rewrite")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.Cookie",
        fields: &[(Served, "name ttl path attributes")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute",
        fields: &[(Served, "name value")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties",
        fields: &[(Served, "source_ip")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter",
        fields: &[(Served, "name")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
        fields: &[
            (
                Served,
                "cluster cluster_header runtime_fraction disable_shadow_host_suffix_append \
                 request_headers_mutations host_rewrite_literal",
            ),
            (NoEffect("nothing is traced"), "trace_sampled"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.InternalRedirectPolicy",
        fields: &[(
            Served,
            "max_internal_redirects redirect_response_codes predicates allow_cross_scheme_redirect \
             response_headers_to_copy",
        )],
    },
    Table {
        message: "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig",
        fields: &[(Served, "allowed_route_names")],
    },
    Table {
        message: "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig",
        fields: &[],
    },
    Table {
        message: "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig",
        fields: &[],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.MaxStreamDuration",
        fields: &[(Served, "max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.UpgradeConfig",
        fields: &[(Served, "upgrade_type enabled connect_config")],
    },
    Table {
        message: "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig",
        fields: &[
            (Refused("PROXY protocol is not sent by this build"), "proxy_protocol_config"),
            (Refused("only CONNECT is ended here"), "allow_post"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RetryPolicy",
        fields: &[
            (
                Served,
                "retry_on num_retries per_try_timeout per_try_idle_timeout retry_host_predicate \
                 host_selection_retry_max_attempts retriable_status_codes retry_back_off retriable_headers \
                 retriable_request_headers rate_limited_retry_back_off",
            ),
            (Served, "retry_priority refresh_cluster_on_retry"),
            (
                NoEffect("there is none in Envoy 1.40: any is refused in its words"),
                "retry_options_predicates",
            ),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff",
        fields: &[(Served, "reset_headers max_interval")],
    },
    Table { message: "envoy.config.route.v3.RetryPolicy.ResetHeader", fields: &[(Served, "name format")] },
    Table {
        message: "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
        fields: &[(Served, "name typed_config")],
    },
    Table { message: "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", fields: &[] },
    Table {
        message: "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate",
        fields: &[],
    },
    Table {
        message: "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig",
        fields: &[(Served, "metadata_match")],
    },
    Table {
        message: "envoy.config.route.v3.RetryPolicy.RetryPriority",
        fields: &[(Served, "name typed_config")],
    },
    Table {
        message: "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        fields: &[(Served, "update_frequency")],
    },
    Table {
        message: "envoy.config.route.v3.HedgePolicy",
        fields: &[
            (Served, "hedge_on_per_try_timeout"),
            (NoEffect("Envoy does not serve it either"), "initial_requests additional_request_chance"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RetryPolicy.RetryBackOff",
        fields: &[(Served, "base_interval max_interval")],
    },
    Table {
        message: "envoy.config.route.v3.WeightedCluster",
        fields: &[
            (Served, "clusters header_name use_hash_policy"),
            (NoEffect("the sum of the weights counts, in Envoy too"), "total_weight"),
            (Reported("weights are not read from the runtime"), "runtime_key_prefix"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        fields: &[
            (
                Served,
                "name cluster_header weight typed_per_filter_config host_rewrite_literal metadata_match",
            ),
            (Served, HEADERS),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RedirectAction",
        fields: &[
            (
                Served,
                "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite \
                 regex_rewrite response_code strip_query",
            ),
            (Refused("this way of rewriting is not served by this build"), "path_rewrite"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.DirectResponseAction",
        fields: &[(Served, "status body body_format")],
    },
    Table {
        message: "envoy.config.route.v3.FilterConfig",
        fields: &[(Served, "config is_optional disabled")],
    },
];
