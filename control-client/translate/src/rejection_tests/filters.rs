//! Bad HTTP filters.

use super::Case;
use super::Kind::{Listener as L, Route};

/// A listener whose only HTTP filter beside the router is `$filter`.
macro_rules! with {
    ($filter:literal) => {
        concat!(
            "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {}, http_filters: [{name: f, typed_config: {'@type': t/envoy.extensions.filters.http.",
            $filter,
            "}}, {name: r, typed_config: {'@type': t/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}"
        )
    };
}

/// A route table with this configuration of the filter `f`.
macro_rules! for_route {
    ($config:literal) => {
        concat!(
            "{virtual_hosts: [{name: a, domains: [x], typed_per_filter_config: {f: {'@type': t/envoy.extensions.filters.http.",
            $config,
            "}}}]}"
        )
    };
}

macro_rules! at {
    ($path:expr) => {
        concat!("filter_chains[0].filters[0].typed_config.http_filters[0].typed_config", $path)
    };
}

/// The same with the filter `custom_response` and one policy for everything; `$policy` are its type and fields.
macro_rules! custom {
    ($policy:literal) => {
        concat!(
            "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {}, http_filters: [{name: f, typed_config: {'@type': t/envoy.extensions.filters.http.custom_response.v3.CustomResponse, custom_response_matcher: {on_no_match: {action: {name: p, typed_config: {'@type': t/envoy.extensions.http.custom_response.",
            $policy,
            "}}}}}}, {name: r, typed_config: {'@type': t/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}"
        )
    };
}

/// A path inside that policy.
macro_rules! policy {
    ($path:literal) => {
        at!(concat!(".custom_response_matcher.on_no_match.action.typed_config", $path))
    };
}

/// What Envoy refuses too.
pub(super) const INVALID: &[Case] = &[
    (
        L,
        with!("fault.v3.HTTPFault, delay: {percentage: {numerator: 1}}"),
        at!(".delay.fault_delay_secifier"),
        "is required",
    ),
    (L, with!("fault.v3.HTTPFault, abort: {http_status: 700}"), at!(".abort.http_status"), "less than 600"),
    (
        L,
        with!(
            "local_ratelimit.v3.LocalRateLimit, stat_prefix: a, token_bucket: {max_tokens: 1, fill_interval: 0.01s}"
        ),
        at!(".token_bucket.fill_interval"),
        "local rate limit token bucket fill timer must be >= 50ms",
    ),
    (
        L,
        with!(
            "local_ratelimit.v3.LocalRateLimit, stat_prefix: a, descriptors: [{entries: [{key: a, value: b}], token_bucket: {max_tokens: 1, fill_interval: 1s}}, {entries: [{key: a, value: b}], token_bucket: {max_tokens: 1, fill_interval: 1s}}]"
        ),
        at!(".descriptors[1]"),
        "duplicate descriptor in the local rate descriptor: a=b",
    ),
    (
        L,
        with!(
            "local_ratelimit.v3.LocalRateLimit, stat_prefix: a, rate_limits: [{stage: 1, actions: [{source_cluster: {}}]}]"
        ),
        at!(".rate_limits[0]"),
        "'stage' field and 'disable_key' field are not supported",
    ),
    (
        L,
        with!("local_ratelimit.v3.LocalRateLimit, stat_prefix: a, local_cluster_rate_limit: {}"),
        at!(".local_cluster_rate_limit"),
        "no local cluster name is present",
    ),
    (
        L,
        with!(
            "header_mutation.v3.HeaderMutation, mutations: {request_mutations: [{append: {header: {key: ':path', value: x}}}]}"
        ),
        at!(".mutations.request_mutations[0].append.header.key"),
        ":-prefixed or host headers may not be modified",
    ),
    (
        L,
        with!("header_mutation.v3.HeaderMutation, mutations: {query_parameter_mutations: [{}]}"),
        at!(".mutations.query_parameter_mutations[0]"),
        "One of 'append'/'remove' must be specified.",
    ),
    (
        L,
        with!(
            "header_mutation.v3.HeaderMutation, mutations: {query_parameter_mutations: [{append: {record: {key: a, value: 3}}}]}"
        ),
        at!(".mutations.query_parameter_mutations[0].append.record.value"),
        "Only string value is allowed for record value.",
    ),
    (L, with!("csrf.v3.CsrfPolicy"), at!(".filter_enabled"), "value is required"),
    (L, with!("compressor.v3.Compressor"), at!(".compressor_library"), "value is required"),
    (
        L,
        with!(
            "compressor.v3.Compressor, compressor_library: {name: l, typed_config: {'@type': t/envoy.extensions.compression.gzip.compressor.v3.Gzip, window_bits: 16}}"
        ),
        at!(".compressor_library.typed_config.window_bits"),
        "15",
    ),
    (
        L,
        with!("bandwidth_limit.v3.BandwidthLimit, stat_prefix: a, fill_interval: 0.001s"),
        at!(".fill_interval"),
        "0.02",
    ),
    (L, with!("admission_control.v3.AdmissionControl"), at!(".evaluation_criteria"), "is required"),
    (
        L,
        with!(
            "admission_control.v3.AdmissionControl, success_criteria: {http_criteria: {http_success_status: [{start: 500, end: 601}]}}"
        ),
        at!(".success_criteria.http_criteria.http_success_status[0]"),
        "invalid HTTP range",
    ),
    (
        L,
        with!(
            "admission_control.v3.AdmissionControl, success_criteria: {}, sr_threshold: {default_value: {value: 0.5}, runtime_key: x}"
        ),
        at!(".sr_threshold"),
        "cannot be less than 1.0%",
    ),
    (
        L,
        with!(
            "adaptive_concurrency.v3.AdaptiveConcurrency, gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 1s}, min_rtt_calc_params: {}}"
        ),
        at!(".gradient_controller_config.min_rtt_calc_params"),
        "fixed_value",
    ),
    (L, with!("buffer.v3.Buffer"), at!(".max_request_bytes"), "value is required"),
    (
        Route,
        for_route!("local_ratelimit.v3.LocalRateLimit, stat_prefix: a"),
        "virtual_hosts[0].typed_per_filter_config[\"f\"].token_bucket",
        "must be set for per filter configs",
    ),
    (
        Route,
        for_route!("bandwidth_limit.v3.BandwidthLimit, stat_prefix: a"),
        "virtual_hosts[0].typed_per_filter_config[\"f\"].limit_kbps",
        "limit must be set for per route filter config",
    ),
    (
        Route,
        for_route!("admission_control.v3.AdmissionControl, success_criteria: {}"),
        "virtual_hosts[0].typed_per_filter_config[\"f\"]",
        "doesn't support virtual host or route specific configurations",
    ),
    (
        Route,
        for_route!("buffer.v3.BufferPerRoute"),
        "virtual_hosts[0].typed_per_filter_config.value.override",
        "is required",
    ),
    (
        L,
        with!(
            "local_ratelimit.v3.LocalRateLimit, stat_prefix: a, rate_limits: [{limit: {dynamic_metadata: {metadata_key: {key: k, path: [{key: a}]}}}, actions: [{remote_address: {}}]}]"
        ),
        at!(".rate_limits[0].limit"),
        "'limit' field is not supported",
    ),
    (
        L,
        with!("local_ratelimit.v3.LocalRateLimit, stat_prefix: a, max_dynamic_descriptors: 0"),
        at!(".max_dynamic_descriptors"),
        "",
    ),
    (
        L,
        custom!("local_response_policy.v3.LocalResponsePolicy, status_code: 700"),
        policy!(".status_code"),
        "must be less than 600",
    ),
    (L, custom!("redirect_policy.v3.RedirectPolicy"), policy!(".redirect_action_specifier"), "is required"),
    (
        L,
        custom!("redirect_policy.v3.RedirectPolicy, uri: nonsense"),
        policy!(".uri"),
        "Invalid uri specified for redirection for custom response: nonsense",
    ),
    (
        L,
        custom!("redirect_policy.v3.RedirectPolicy, redirect_action: {path_redirect: '/a#b'}"),
        policy!(".redirect_action.path_redirect"),
        "#fragment is not supported for custom response",
    ),
    (
        L,
        custom!("redirect_policy.v3.RedirectPolicy, redirect_action: {host_redirect: a, prefix_rewrite: /x}"),
        policy!(".redirect_action.prefix_rewrite"),
        "prefix_rewrite is not supported for Custom Response",
    ),
    (
        L,
        custom!(
            "redirect_policy.v3.RedirectPolicy, uri: 'http://a', request_headers_to_add: [{header: {key: host, value: x}}]"
        ),
        policy!(".request_headers_to_add[0].header.key"),
        ":-prefixed or host headers may not be modified",
    ),
    (
        L,
        with!("custom_response.v3.CustomResponse, custom_response_matcher: {matcher_list: {}}"),
        at!(".custom_response_matcher.matcher_list.matchers"),
        "at least 1 item",
    ),
    (
        L,
        with!(
            "local_ratelimit.v3.LocalRateLimit, stat_prefix: a, rate_limits: [{hits_addend: {is_negative_hits: true}, actions: [{remote_address: {}}]}]"
        ),
        at!(".rate_limits[0].hits_addend"),
        "hits_addend must contain either a format or a number",
    ),
];

/// What Envoy has and this build has not.
pub(super) const NOT_SERVED: &[Case] = &[
    (
        L,
        with!(
            "decompressor.v3.Decompressor, decompressor_library: {name: l, typed_config: {'@type': t/google.protobuf.Struct}}"
        ),
        at!(".decompressor_library"),
        "decompressor library 'l'",
    ),
    (
        L,
        with!("header_mutation.v3.HeaderMutation, mutations: {request_mutations: [{remove: host}]}"),
        at!(".mutations.request_mutations[0].remove"),
        "cannot be removed",
    ),
    (
        Route,
        "{virtual_hosts: [{name: a, domains: [x], rate_limits: [{actions: [{metadata: {descriptor_key: a, source: CLUSTER_ENTRY, metadata_key: {key: b, path: [{key: c}]}}}]}]}]}",
        "virtual_hosts[0].rate_limits[0].actions[0].metadata.source",
        "metadata of clusters",
    ),
    (
        L,
        with!(
            "custom_response.v3.CustomResponse, custom_response_matcher: {matcher_list: {matchers: [{predicate: {single_predicate: {input: {name: i, typed_config: {'@type': t/envoy.type.matcher.v3.HttpResponseTrailerMatchInput, header_name: x}}, value_match: {exact: a}}}, on_match: {matcher: {}}}]}}"
        ),
        at!(".custom_response_matcher.matcher_list.matchers[0].predicate.single_predicate.input"),
        "matching input 'i' of type",
    ),
    (
        L,
        custom!(
            "redirect_policy.v3.RedirectPolicy, uri: 'http://a', modify_request_headers_action: {name: m, typed_config: {'@type': t/google.protobuf.Struct}}"
        ),
        policy!(".modify_request_headers_action"),
        "no extension of this kind",
    ),
    (
        L,
        with!(
            "custom_response.v3.CustomResponse, custom_response_matcher: {on_no_match: {action: {name: p, typed_config: {'@type': t/envoy.extensions.filters.http.router.v3.Router}}}}"
        ),
        at!(".custom_response_matcher.on_no_match.action"),
        "custom response policy 'p'",
    ),
];
