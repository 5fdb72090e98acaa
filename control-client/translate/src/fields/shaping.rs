//! The HTTP filters that delay, refuse and rewrite.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.extensions.filters.http.fault.v3.HTTPFault",
        fields: &[
            (
                Served,
                "delay abort upstream_cluster headers downstream_nodes max_active_faults response_rate_limit \
                 delay_percent_runtime abort_percent_runtime delay_duration_runtime abort_http_status_runtime \
                 max_active_faults_runtime response_rate_limit_percent_runtime abort_grpc_status_runtime",
            ),
            (NoEffect("faults are not counted by the client's cluster"), "disable_downstream_cluster_stats"),
            (Reported("nothing is written to the metadata of a stream"), "filter_metadata"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.fault.v3.FaultAbort",
        fields: &[(Served, "http_status grpc_status header_abort percentage response_body")],
    },
    Table { message: "envoy.extensions.filters.http.fault.v3.FaultAbort.HeaderAbort", fields: &[] },
    Table {
        message: "envoy.extensions.filters.common.fault.v3.FaultDelay",
        fields: &[(Served, "fixed_delay header_delay percentage")],
    },
    Table { message: "envoy.extensions.filters.common.fault.v3.FaultDelay.HeaderDelay", fields: &[] },
    Table {
        message: "envoy.extensions.filters.common.fault.v3.FaultRateLimit",
        fields: &[(Served, "fixed_limit header_limit percentage")],
    },
    Table {
        message: "envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit",
        fields: &[(Served, "limit_kbps")],
    },
    Table { message: "envoy.extensions.filters.common.fault.v3.FaultRateLimit.HeaderLimit", fields: &[] },
    Table {
        message: "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
        fields: &[(Served, "session_state strict stat_prefix status_on_strict_destination_not_found")],
    },
    Table {
        message: "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
        fields: &[(Served, "disabled stateful_session")],
    },
    Table {
        message: "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
        fields: &[(Served, "cookie")],
    },
    Table { message: "envoy.type.http.v3.Cookie", fields: &[(Served, "name ttl path attributes")] },
    Table { message: "envoy.type.http.v3.CookieAttribute", fields: &[(Served, "name value")] },
    Table {
        message: "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
        fields: &[(Served, "name")],
    },
    Table {
        message: "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState",
        fields: &[(Served, "header")],
    },
    Table {
        message: "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState.Header",
        fields: &[(Served, "name")],
    },
    Table {
        message: "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        fields: &[(
            Served,
            "stat_prefix status token_bucket filter_enabled filter_enforced \
                 request_headers_to_add_when_not_enforced response_headers_to_add descriptors stage \
                 local_rate_limit_per_downstream_connection enable_x_ratelimit_headers vh_rate_limits \
                 always_consume_default_token_bucket rate_limited_as_resource_exhausted rate_limits \
                 enable_retry_after_header local_cluster_rate_limit max_dynamic_descriptors",
        )],
    },
    // With it the filter is refused, as Envoy does without a local cluster.
    Table { message: "envoy.extensions.common.ratelimit.v3.LocalClusterRateLimit", fields: &[] },
    Table {
        message: "envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor",
        fields: &[(Served, "entries token_bucket shadow_mode")],
    },
    Table {
        message: "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry",
        fields: &[(Served, "key value")],
    },
    Table {
        message: "envoy.type.v3.TokenBucket",
        fields: &[(Served, "max_tokens tokens_per_fill fill_interval")],
    },
    Table { message: "envoy.type.v3.HttpStatus", fields: &[(Served, "code")] },
    Table {
        message: "envoy.config.route.v3.RateLimit",
        fields: &[
            (Served, "stage disable_key actions hits_addend apply_on_stream_done x_ratelimit_option"),
            (
                NoEffect(
                    "local limits are not overridden, as in Envoy; the filter's own policies must not have it",
                ),
                "limit",
            ),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action",
        fields: &[
            (
                Served,
                "source_cluster destination_cluster request_headers query_parameters remote_address generic_key \
                 header_value_match masked_remote_address query_parameter_value_match dynamic_metadata metadata remote_address_match",
            ),
            (Refused("extensions that make descriptors are not served by this build"), "extension"),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.HitsAddend",
        fields: &[(Served, "number format is_negative_hits")],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.RemoteAddressMatch",
        fields: &[
            (Served, "descriptor_value descriptor_key address_matcher"),
            (
                NoEffect("values are not evaluated, as in Envoy 1.40 unless its runtime says so"),
                "default_value",
            ),
        ],
    },
    Table { message: "envoy.config.route.v3.RateLimit.Action.SourceCluster", fields: &[] },
    Table { message: "envoy.config.route.v3.RateLimit.Action.DestinationCluster", fields: &[] },
    Table { message: "envoy.config.route.v3.RateLimit.Action.RemoteAddress", fields: &[] },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.RequestHeaders",
        fields: &[(Served, "header_name descriptor_key skip_if_absent")],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.QueryParameters",
        fields: &[(Served, "query_parameter_name descriptor_key skip_if_absent")],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.MaskedRemoteAddress",
        fields: &[(Served, "v4_prefix_mask_len v6_prefix_mask_len")],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.GenericKey",
        fields: &[
            (Served, "descriptor_value descriptor_key"),
            (
                NoEffect("values are not evaluated, as in Envoy 1.40 unless its runtime says so"),
                "default_value",
            ),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch",
        fields: &[
            (Served, "descriptor_value descriptor_key expect_match headers"),
            (
                NoEffect("values are not evaluated, as in Envoy 1.40 unless its runtime says so"),
                "default_value",
            ),
        ],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch",
        fields: &[
            (Served, "descriptor_value descriptor_key expect_match query_parameters"),
            (
                NoEffect("values are not evaluated, as in Envoy 1.40 unless its runtime says so"),
                "default_value",
            ),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        fields: &[(Served, "mutations most_specific_header_mutations_wins")],
    },
    Table {
        message: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
        fields: &[(Served, "mutations")],
    },
    Table {
        message: "envoy.extensions.filters.http.header_mutation.v3.Mutations",
        fields: &[(
            Served,
            "request_mutations query_parameter_mutations response_mutations response_trailers_mutations \
             request_trailers_mutations",
        )],
    },
    Table {
        message: "envoy.config.common.mutation_rules.v3.HeaderMutation",
        fields: &[(Served, "remove append remove_on_match")],
    },
    Table {
        message: "envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch",
        fields: &[(Served, "key_matcher")],
    },
    Table { message: "envoy.config.core.v3.KeyValueMutation", fields: &[(Served, "append remove")] },
    Table {
        message: "envoy.config.core.v3.KeyValueAppend",
        fields: &[(Served, "record action"), (Refused("a record takes its place"), "entry")],
    },
    Table { message: "envoy.config.core.v3.KeyValuePair", fields: &[(Served, "key value")] },
    Table { message: "envoy.extensions.filters.http.cors.v3.Cors", fields: &[] },
    Table {
        message: "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        fields: &[(
            Served,
            "allow_origin_string_match allow_methods allow_headers expose_headers max_age allow_credentials \
             filter_enabled shadow_enabled allow_private_network_access forward_not_matching_preflights",
        )],
    },
    Table {
        message: "envoy.config.route.v3.CorsPolicy",
        fields: &[(
            Served,
            "allow_origin_string_match allow_methods allow_headers expose_headers max_age allow_credentials \
             filter_enabled shadow_enabled allow_private_network_access forward_not_matching_preflights",
        )],
    },
    Table {
        message: "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
        fields: &[(Served, "filter_enabled shadow_enabled additional_origins")],
    },
    Table {
        message: "envoy.extensions.filters.http.buffer.v3.Buffer",
        fields: &[(Served, "max_request_bytes")],
    },
    Table {
        message: "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        fields: &[(Served, "disabled buffer")],
    },
    Table {
        message: "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
        fields: &[(Served, "stat_prefix token_bucket runtime_enabled share_key")],
    },
    Table {
        message: "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        fields: &[(Served, "stat_prefix max_connections runtime_enabled delay")],
    },
    Table {
        message: "envoy.config.core.v3.RuntimeFeatureFlag",
        fields: &[(Served, "default_value runtime_key")],
    },
];
