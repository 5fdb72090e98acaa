//! What configurations become.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    BufferFilter, CompressorLibrary, FaultAbort, FaultDelay, FaultRate, Fraction, HeaderMutationStep,
    HttpConnectionManager, MinRtt, NetworkFilter, RateLimitHeaders, RouteAction, RouteSource,
};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml};

use super::*;
use crate::Overrides;

/// The connection manager `s` with this filter in front of the router; `route` are fields of its only route.
fn manager(filter: &str, route: &str, top: &str) -> Arc<HttpConnectionManager> {
    let filters = "t/envoy.extensions.filters.http";
    let text = format!(
        "static_resources: {{clusters: [{{name: c}}], listeners: [{{name: a, address: {{pipe: {{path: /x}}}}, filter_chains: [{{filters: [{{name: h, typed_config: {{'@type': t/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, http_filters: [{{name: f, typed_config: {{'@type': {filters}.{filter}}}}}, {{name: r, typed_config: {{'@type': {filters}.router.v3.Router}}}}], route_config: {{virtual_hosts: [{{name: v, domains: ['*'], rate_limits: [{{actions: [{{generic_key: {{descriptor_value: v}}}}]}}], routes: [{{match: {{prefix: /}}, route: {{cluster: c, rate_limits: [{{stage: 2, actions: [{{remote_address: {{}}}}, {{source_cluster: {{}}}}]}}], include_vh_rate_limits: true}}, {route}}}]}}]}}}}}}]}}]}}]}}\n{top}"
    );
    let parsed = bootstrap_from_yaml(&text, &LoadOptions::default()).unwrap();
    let mut cx = Context::new(Registry::new(), Overrides::default());
    let compiled = crate::bootstrap(&parsed.bytes, &mut cx).unwrap();
    match &compiled.snapshot.listeners[0].filter_chains[0].filters[0] {
        NetworkFilter::HttpConnectionManager(manager) => Arc::clone(manager),
        NetworkFilter::TcpProxy(_) => panic!("a connection manager"),
    }
}

fn per_route(manager: &HttpConnectionManager) -> PerFilterConfig {
    let RouteSource::Inline(table) = &manager.routes else { panic!("a table") };
    table.virtual_hosts[0].routes[0].per_filter[0].1.clone()
}

#[test]
fn faults_take_their_percentages_from_the_runtime() {
    let filter = "fault.v3.HTTPFault, delay: {fixed_delay: 1.5s, percentage: {numerator: 5, denominator: MILLION}}, abort: {grpc_status: 14, percentage: {numerator: 7}}, response_rate_limit: {header_limit: {}, percentage: {numerator: 100}}, max_active_faults: 3, upstream_cluster: c, abort_percent_runtime: my.abort";
    let top = "layered_runtime: {layers: [{name: l, static_layer: {my.abort: 30, fault.http.delay.fixed_duration_ms: 20}}]}";
    let manager = manager(filter, "name: x", top);
    let HttpFilterKind::Fault(filter) = &manager.http_filters[0].kind else { panic!("a fault") };
    let fault = &filter.fault;
    let of = |numerator, denominator| Fraction { numerator, denominator };
    assert_eq!(fault.delay, Some((FaultDelay::Fixed(Duration::from_millis(1500)), of(5, 1_000_000))));
    assert_eq!(fault.delay_override, Some(Duration::from_millis(20)));
    assert_eq!(fault.abort, Some((FaultAbort::Grpc(14), of(30, 100))));
    assert_eq!(fault.rate, Some((FaultRate::Header, of(100, 100))));
    assert_eq!((fault.max_active, &*fault.upstream_cluster), (Some(3), "c"));
}

#[test]
fn limits_of_routes_switch_the_filter_on() {
    let route = "typed_per_filter_config: {f: {'@type': t/envoy.config.route.v3.FilterConfig, config: {'@type': t/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: x, token_bucket: {max_tokens: 3, fill_interval: 1s}, status: {code: OK}, descriptors: [{entries: [{key: a, value: b}], token_bucket: {max_tokens: 1, tokens_per_fill: 2, fill_interval: 60s}}], vh_rate_limits: IGNORE}}}";
    let manager = manager("local_ratelimit.v3.LocalRateLimit, stat_prefix: whole", route, "");
    let PerFilterConfig::LocalRateLimit(limit) = per_route(&manager) else { panic!("a limit") };
    assert_eq!((limit.status, limit.bucket.map(|b| b.max_tokens)), (429, Some(3)));
    assert_eq!(limit.descriptors[0].bucket.fill_interval, Duration::from_secs(60));
    assert_eq!(limit.enabled.numerator, 0);
    let RouteSource::Inline(table) = &manager.routes else { panic!("a table") };
    let host = &table.virtual_hosts[0];
    let RouteAction::Forward(forward) = &host.routes[0].action else { panic!("a forward") };
    let fields = &forward.for_filters;
    assert_eq!((fields.rate_limits[0].stage, fields.rate_limits[0].actions.len()), (2, 2));
    assert!(fields.include_virtual_host_rate_limits && host.for_filters.rate_limits.len() == 1);
}

#[test]
fn what_policies_say_beside_their_actions() {
    let filter = "local_ratelimit.v3.LocalRateLimit, stat_prefix: a, max_dynamic_descriptors: 7, descriptors: [{entries: [{key: a}], token_bucket: {max_tokens: 1, fill_interval: 1s}}], rate_limits: [{x_ratelimit_option: 'OFF', apply_on_stream_done: true, actions: [{remote_address: {}}]}]";
    let manager = manager(filter, "name: x", "");
    let HttpFilterKind::LocalRateLimit(limit) = &manager.http_filters[0].kind else { panic!("a limit") };
    assert!(limit.descriptors[0].is_dynamic() && limit.max_dynamic == 7);
    let policy = &limit.rate_limits[0];
    assert!(policy.on_stream_done && policy.headers == RateLimitHeaders::Off);
}

#[test]
fn the_other_filters_and_their_routes() {
    let filter = "header_mutation.v3.HeaderMutation, mutations: {request_mutations: [{remove: X-A}, {append: {header: {key: X-B, value: b}}}], query_parameter_mutations: [{remove: q}]}";
    let built = manager(filter, "name: x", "");
    let HttpFilterKind::HeaderMutation(mutation) = &built.http_filters[0].kind else { panic!("mutations") };
    let [HeaderMutationStep::Remove(name), HeaderMutationStep::Append(option)] = &mutation.own.request[..]
    else {
        panic!("two steps")
    };
    assert_eq!((&**name, &*option.name, mutation.own.query.len()), (&b"x-a"[..], &b"x-b"[..], 1));

    let route = "typed_per_filter_config: {f: {'@type': t/envoy.extensions.filters.http.buffer.v3.BufferPerRoute, disabled: true}}";
    let built = manager("buffer.v3.Buffer, max_request_bytes: 9", route, "");
    let HttpFilterKind::Buffer(BufferFilter::UpTo(9)) = &built.http_filters[0].kind else { panic!("9") };
    assert!(matches!(per_route(&built), PerFilterConfig::Buffer(BufferFilter::Off)));

    let route = "typed_per_filter_config: {f: {'@type': t/envoy.extensions.filters.http.cors.v3.CorsPolicy, allow_origin_string_match: [{exact: o}], allow_credentials: false}}";
    let PerFilterConfig::Cors(policy) = per_route(&manager("cors.v3.Cors", route, "")) else {
        panic!("a policy")
    };
    assert_eq!((policy.enabled.numerator, policy.allow_credentials), (100, Some(false)));
    assert!(policy.allow_origins[0].matches(b"o") && policy.forward_not_matching.is_none());

    let filter = "csrf.v3.CsrfPolicy, filter_enabled: {default_value: {numerator: 3}}, additional_origins: [{suffix: x}]";
    let HttpFilterKind::Csrf(csrf) = &manager(filter, "name: x", "").http_filters[0].kind.clone() else {
        panic!("a filter")
    };
    assert_eq!((csrf.policy.enabled.numerator, csrf.policy.additional_origins.len()), (3, 1));
}

#[test]
fn compressors_and_their_directions() {
    let gzip = "{name: l, typed_config: {'@type': t/envoy.extensions.compression.gzip.compressor.v3.Gzip, compression_level: BEST_SPEED, chunk_size: 5000}}";
    let text = format!(
        "compressor.v3.Compressor, compressor_library: {gzip}, request_direction_config: {{}}, response_direction_config: {{common_config: {{min_content_length: 7, content_type: [A/b]}}, uncompressible_response_codes: [206]}}"
    );
    let route = "typed_per_filter_config: {f: {'@type': t/envoy.extensions.filters.http.compressor.v3.CompressorPerRoute, overrides: {response_direction_config: {remove_accept_encoding_header: true}, compressor_library: {name: z, typed_config: {'@type': t/envoy.extensions.compression.zstd.compressor.v3.Zstd, compression_level: 4}}}}}";
    let built = manager(&text, route, "");
    let HttpFilterKind::Compressor(filter) = &built.http_filters[0].kind else { panic!("a compressor") };
    let CompressorLibrary::Gzip(library) = &filter.library else { panic!("gzip") };
    assert_eq!((library.level, library.window_bits, library.memory_level), (Some(1), 12, 5));
    assert!(filter.request.enabled && filter.request.min_content_length == 30);
    assert!(filter.request.content_types.iter().any(|one| one.matches(b"text/plain")));
    let response = &filter.response;
    assert_eq!((response.common.min_content_length, &*response.uncompressible_codes), (7, &[206][..]));
    assert!(
        response.common.content_types[0].matches(b"a/B") && !response.common.content_types[0].matches(b"a/c")
    );
    let PerFilterConfig::Compressor(route) = per_route(&built) else { panic!("a route's") };
    assert_eq!((route.enabled, route.remove_accept_encoding), (Some(true), Some(true)));
    assert_eq!(route.library.as_ref().map(|library| library.coding().name()), Some("zstd"));

    let old = format!(
        "compressor.v3.Compressor, compressor_library: {gzip}, content_length: 9, runtime_enabled: {{runtime_key: my.off, default_value: true}}"
    );
    let off = "layered_runtime: {layers: [{name: l, static_layer: {my.off: false}}]}";
    let built = manager(&old, "name: x", off);
    let HttpFilterKind::Compressor(filter) = &built.http_filters[0].kind else { panic!("a compressor") };
    assert_eq!((filter.response.common.enabled, filter.response.common.min_content_length), (false, 9));
    assert!(!filter.request.enabled);
}

#[test]
fn the_filters_that_hold_back() {
    let text = "bandwidth_limit.v3.BandwidthLimit, stat_prefix: b, enable_mode: RESPONSE, limit_kbps: 5, enable_response_trailers: true, response_trailer_prefix: X";
    let built = manager(text, "name: x", "");
    let HttpFilterKind::BandwidthLimit(limit) = &built.http_filters[0].kind else { panic!("a limit") };
    assert_eq!((limit.request, limit.response, limit.kib_per_second), (false, true, Some(5)));
    let names = limit.trailers.as_ref().map(|names| names[1].to_vec());
    assert_eq!(names.as_deref(), Some(&b"x-bandwidth-response-delay-ms"[..]));

    let text = "admission_control.v3.AdmissionControl, success_criteria: {grpc_criteria: {grpc_success_status: [0, 3]}}, sampling_window: 1.6s, aggression: {default_value: 0.5, runtime_key: x}, max_rejection_probability: {default_value: {value: 30}, runtime_key: my.max}";
    let top = "layered_runtime: {layers: [{name: l, static_layer: {my.max: 40}}]}";
    let built = manager(text, "name: x", top);
    let HttpFilterKind::AdmissionControl(control) = &built.http_filters[0].kind else { panic!("a control") };
    assert_eq!((control.window, control.aggression), (Duration::from_secs(2), 1.0));
    assert!((control.max_rejection - 0.4).abs() < 1e-9 && (control.success_threshold - 0.95).abs() < 1e-9);
    assert!(control.is_http_success(499) && !control.is_http_success(500));
    assert!(control.is_grpc_success(3) && !control.is_grpc_success(1));

    let text = "adaptive_concurrency.v3.AdaptiveConcurrency, gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 1s}, min_rtt_calc_params: {fixed_value: 0.02s, min_concurrency: 9}}, concurrency_limit_exceeded_status: {code: OK}";
    let built = manager(text, "name: x", "");
    let HttpFilterKind::AdaptiveConcurrency(filter) = &built.http_filters[0].kind else { panic!("a limit") };
    assert_eq!((filter.status, filter.gradient.min_limit, filter.gradient.max_limit), (503, 9, 1000));
    assert_eq!(filter.gradient.min_rtt, MinRtt::Fixed(Duration::from_millis(20)));
}
