//! Clusters: endpoints, policies, limits, and what is refused or reported.

use millrace_config::{
    Consecutive, DnsLookupFamily, HealthStatus, Http2Keepalive, Http2Options, LbPolicy, OutlierDetection,
    ResponsePredicate, RetryBudget, UpstreamProtocol,
};
use millrace_observe::stats::Registry;
use millrace_proto::{message_from_json, schema, yaml};

use super::*;
use crate::context::Overrides;
use crate::error::RejectionKind;
use crate::resource;

pub(crate) fn cluster_of(fields: &str) -> Result<Cluster, Rejection> {
    let message = schema::Message::by_type_url(resource::CLUSTER).unwrap();
    let bytes =
        message_from_json(message, &yaml::parse(&format!("{{name: 'a:b', {fields}}}")).unwrap()).unwrap();
    resource::cluster(&bytes, None, &mut Context::new(Registry::new(), Overrides::default()))
        .map(|translated| translated.value)
}

const LOAD: &str = "load_assignment: {cluster_name: x, endpoints: [{priority: 1, lb_endpoints: [{endpoint: {address: \
                    {socket_address: {address: 10.0.0.2, port_value: 2}}}}]}, {locality: {zone: z}, lb_endpoints: \
                    [{health_status: DRAINING, load_balancing_weight: 5, endpoint: {hostname: h, address: \
                    {socket_address: {address: 10.0.0.1, port_value: 1}}}}]}]}";

#[test]
fn static_endpoints_are_sorted_by_priority() {
    let cluster = cluster_of(LOAD).unwrap();
    assert!(matches!(cluster.discovery, ClusterDiscovery::Static));
    let [first, second] = &cluster.localities[..] else { panic!("two localities") };
    assert_eq!((first.priority, &*first.locality.1, second.priority), (0, "z", 1));
    let endpoint = &first.endpoints[0];
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.weight), ("10.0.0.1:1", 5));
    assert_eq!((endpoint.health, &*endpoint.hostname), (HealthStatus::Draining, "h"));
    assert_eq!((cluster.connect_timeout, cluster.overprovisioning_factor), (Duration::from_secs(5), 140));
    assert_eq!((cluster.circuit_breakers.default.max_retries, cluster.http.head_bytes_max), (3, None));
}

#[test]
fn names_become_targets() {
    let cluster = cluster_of("type: STRICT_DNS, dns_lookup_family: V4_ONLY, respect_dns_ttl: true, load_assignment: {cluster_name: x, endpoints: {lb_endpoints: {endpoint: {address: {socket_address: {address: up.test, port_value: 80}}}}}}").unwrap();
    let ClusterDiscovery::Dns { logical, targets, family, schedule, .. } = &cluster.discovery else {
        panic!("DNS")
    };
    assert!(!logical && schedule.respect_ttl && *family == DnsLookupFamily::V4Only);
    assert_eq!((&*targets[0].host, targets[0].port, targets[0].locality), ("up.test", 80, 0));
    assert_eq!(&*targets[0].template.hostname, "up.test");
    assert!(cluster.localities[0].endpoints.is_empty());
}

#[test]
fn the_dns_extension_resolves_names() {
    let of = |fields: &str| {
        cluster_of(&format!(
            "cluster_type: {{name: envoy.cluster.dns, typed_config: {{'@type': t/envoy.extensions.clusters.dns.v3.DnsCluster, {fields}}}}}, \
             load_assignment: {{cluster_name: x, endpoints: {{lb_endpoints: {{endpoint: {{address: {{socket_address: {{address: up.test, port_value: 80}}}}}}}}}}}}"
        ))
        .unwrap()
        .discovery
    };
    let strict = of("dns_refresh_rate: 30s, dns_lookup_family: V4_PREFERRED, respect_dns_ttl: true");
    let ClusterDiscovery::Dns { logical, targets, family, schedule, .. } = &strict else { panic!("DNS") };
    assert!(!logical && schedule.respect_ttl && *family == DnsLookupFamily::V4Preferred);
    assert_eq!((&*targets[0].host, schedule.refresh_rate), ("up.test", Duration::from_secs(30)));
    let ClusterDiscovery::Dns { logical, family, .. } = of("all_addresses_in_single_endpoint: true") else {
        panic!("DNS")
    };
    assert!(logical && family == DnsLookupFamily::Auto);
}

#[test]
fn policies_limits_and_http_options() {
    let typed = "load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: {'@type': t/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest, choice_count: 5}}}]}";
    let LbPolicy::LeastRequest(least) = cluster_of(typed).unwrap().lb_policy else { panic!("least request") };
    assert_eq!(least.choice_count, 5);
    let cluster = cluster_of(
        "lb_policy: RANDOM, circuit_breakers: {thresholds: [{max_requests: 9, retry_budget: {}}, {priority: HIGH, max_retries: 1}]}, \
         common_lb_config: {healthy_panic_threshold: {value: 0}}, upstream_connection_options: {tcp_keepalive: {keepalive_time: 7}}, \
         typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': \
         t/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, common_http_protocol_options: {idle_timeout: 0s, max_requests_per_connection: 3}, \
         explicit_http_config: {http_protocol_options: {header_key_format: {proper_case_words: {}}}}}}",
    ).unwrap();
    assert_eq!(cluster.lb_policy, LbPolicy::Random);
    let budget = RetryBudget { percent: 20.0, min_concurrency: 3, interval: Duration::ZERO };
    assert_eq!(cluster.circuit_breakers.default.retry_budget, Some(budget));
    assert_eq!(
        (cluster.circuit_breakers.default.max_requests, cluster.circuit_breakers.high.max_retries),
        (9, 1)
    );
    assert!(cluster.panic_threshold.abs() < f64::EPSILON);
    assert_eq!(cluster.tcp_keepalive.unwrap().time, Some(7));
    assert_eq!((cluster.http.idle_timeout, cluster.http.max_requests_per_connection), (None, Some(3)));
    assert!(cluster.http.proper_case);
}

/// With `HttpProtocolOptions` of these fields.
fn cluster_with(options: &str) -> Result<Cluster, Rejection> {
    cluster_of(&format!(
        "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{'@type': \
         t/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, {options}}}}}"
    ))
}

#[test]
fn the_version_that_endpoints_are_spoken_to_in() {
    use UpstreamProtocol::{Http1, Http2, UseDownstream};
    for (fields, protocol) in [
        ("", Http1),
        ("http_protocol_options: {}", Http1),
        ("http2_protocol_options: {}", Http2),
        ("protocol_selection: USE_DOWNSTREAM_PROTOCOL", UseDownstream),
        (
            "http_protocol_options: {}, http2_protocol_options: {}, protocol_selection: USE_DOWNSTREAM_PROTOCOL",
            UseDownstream,
        ),
    ] {
        assert_eq!(cluster_of(fields).unwrap().http.protocol, protocol, "{fields}");
    }
    for (options, protocol) in [
        ("explicit_http_config: {http_protocol_options: {}}", Http1),
        ("explicit_http_config: {http2_protocol_options: {}}", Http2),
        ("use_downstream_protocol_config: {}", UseDownstream),
    ] {
        assert_eq!(cluster_with(options).unwrap().http.protocol, protocol, "{options}");
    }
    let both = cluster_with(
        "use_downstream_protocol_config: {http_protocol_options: {header_key_format: {proper_case_words: {}}}, \
         http2_protocol_options: {hpack_table_size: 7}}",
    );
    let both = both.unwrap().http;
    assert_eq!((both.proper_case, both.http2.hpack_table_size), (true, 7));
    let typed = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': \
                 t/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http_protocol_options: {}}}}";
    let replaced = cluster_of(&format!("http2_protocol_options: {{}}, {typed}")).unwrap();
    assert_eq!(replaced.http.protocol, Http1, "the extension replaces the deprecated fields");
}

#[test]
fn options_of_http2() {
    assert_eq!(cluster_of("http2_protocol_options: {}").unwrap().http.http2, Http2Options::UPSTREAM);
    let set = "hpack_table_size: 0, max_concurrent_streams: 5, initial_stream_window_size: 65535, \
               initial_connection_window_size: 65536, allow_connect: true, max_outbound_frames: 6, \
               max_outbound_control_frames: 7, max_consecutive_inbound_frames_with_empty_payload: 0, \
               max_inbound_priority_frames_per_stream: 9, max_inbound_window_update_frames_per_data_frame_sent: 10, \
               connection_keepalive: {interval: 30s, timeout: 5s, interval_jitter: {value: 1.5}, connection_idle_interval: 7s}";
    let wanted = Http2Options {
        max_concurrent_streams: 5,
        initial_stream_window: 65_535,
        initial_connection_window: 65_536,
        hpack_table_size: 0,
        allow_connect: true,
        max_outbound_frames: 6,
        max_outbound_control_frames: 7,
        max_consecutive_empty_frames: 0,
        max_priority_frames_per_stream: 9,
        max_window_updates_per_data: 10,
        keepalive: Some(Http2Keepalive {
            interval: Some(Duration::from_secs(30)),
            timeout: Duration::from_secs(5),
            jitter_percent: 1.5,
            idle_interval: Some(Duration::from_secs(7)),
        }),
    };
    assert_eq!(cluster_of(&format!("http2_protocol_options: {{{set}}}")).unwrap().http.http2, wanted);
    let typed = cluster_with(&format!("explicit_http_config: {{http2_protocol_options: {{{set}}}}}"));
    assert_eq!(typed.unwrap().http.http2, wanted);
    let keepalive = |fields: &str| {
        let text = format!("http2_protocol_options: {{connection_keepalive: {{timeout: 1s, {fields}}}}}");
        cluster_of(&text).unwrap().http.http2.keepalive
    };
    assert_eq!(keepalive(""), None, "without an interval nothing is sent");
    let plain = keepalive("interval: 2s").unwrap();
    assert!((plain.jitter_percent - 15.0).abs() < f64::EPSILON && plain.idle_interval.is_none());
}

#[test]
fn what_cannot_be_served_is_refused() {
    let error = cluster_of("type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, original_dst_lb_config: {metadata_key: {key: k, path: [{key: a}, {key: b}]}}").unwrap_err();
    let path = "original_dst_lb_config.metadata_key.path";
    assert!(error.path == path && error.kind == RejectionKind::NotServed, "{error}");
    for (fields, reason) in [
        (
            "load_assignment: {cluster_name: x, endpoints: {lb_endpoints: {endpoint: {address: {socket_address: {address: up, port_value: 1}}}}}}",
            "malformed IP address: up. Consider setting resolver_name",
        ),
        (
            "type: LOGICAL_DNS",
            "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
        ),
        ("lb_policy: LOAD_BALANCING_POLICY_CONFIG", "field load_balancing_policy need to be set"),
        ("connect_timeout: 0s", "value must be greater than 0s"),
    ] {
        let error = cluster_of(fields).unwrap_err();
        assert!(error.reason.contains(reason) && error.kind == RejectionKind::Invalid, "{error}");
    }
}

#[test]
fn fields_without_effect_are_reported() {
    let message = schema::Message::by_type_url(resource::CLUSTER).unwrap();
    let text = "{name: a, stats_matcher: {reject_all: true}, ignore_health_on_host_removal: false}";
    let bytes = message_from_json(message, &yaml::parse(text).unwrap()).unwrap();
    let mut cx = Context::new(Registry::new(), Overrides::default());
    let unsupported = resource::cluster(&bytes, None, &mut cx).unwrap().unsupported;
    let paths: Vec<_> = unsupported.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["stats_matcher"]);
}

#[test]
fn either_of_two_fields_asks_for_timeout_budgets() {
    let tracked = |fields: &str| {
        let tracked = cluster_of(fields).unwrap().tracked?;
        Some((tracked.budgets.is_some(), tracked.sizes.is_some()))
    };
    assert_eq!(tracked("type: STATIC"), None);
    assert_eq!(tracked("track_timeout_budgets: true"), Some((true, false)));
    let other = "track_timeout_budgets: true, track_cluster_stats: {timeout_budgets: false}";
    assert_eq!(tracked(other), Some((true, false)));
    let both = "track_cluster_stats: {timeout_budgets: true, request_response_sizes: true}";
    assert_eq!(tracked(both), Some((true, true)));
}

#[test]
fn outlier_detection_has_envoys_defaults_and_its_bounds_fit() {
    assert_eq!(cluster_of("type: STATIC").unwrap().outlier_detection, None);
    let of = |fields: &str| cluster_of(&format!("outlier_detection: {{{fields}}}"));
    assert_eq!(of("").unwrap().outlier_detection.as_deref(), Some(&OutlierDetection::default()));
    let longer = of("base_ejection_time: 400s").unwrap().outlier_detection.unwrap();
    assert_eq!(longer.max_ejection_time, Duration::from_secs(400));
    let set = of(
        "consecutive_gateway_failure: 0, enforcing_consecutive_gateway_failure: 7, max_ejection_percent: 100, \
                  split_external_local_origin_errors: true, success_rate_stdev_factor: 1000",
    );
    let set = set.unwrap().outlier_detection.unwrap();
    assert_eq!(set.consecutive_gateway_failure, Consecutive { threshold: 0, enforcing: 7 });
    assert_eq!((set.max_ejection_percent, set.split_local_origin), (100, true));
    assert_eq!(set.success_rate.stdev_factor, 1000);
    let refused = of("base_ejection_time: 10s, max_ejection_time: 5s").unwrap_err();
    assert_eq!(refused.path, "outlier_detection.max_ejection_time");
    assert!(of("detect_degraded_hosts: true").unwrap().outlier_detection.unwrap().detect_degraded);
    let monitor = "monitors: [{name: mine, typed_config: {'@type': t/google.protobuf.Empty}}]";
    assert_eq!(of(monitor).unwrap_err().path, "outlier_detection.monitors");
}

#[test]
fn an_error_matcher_looks_at_the_heads_of_responses_only() {
    let of = |rule: &str| {
        let http = "explicit_http_config: {http_protocol_options: {}}";
        cluster_with(&format!("{http}, outlier_detection: {{error_matcher: {{{rule}}}}}"))
    };
    let header = "http_response_headers_match: {headers: [{name: x-failed, present_match: true}]}";
    let both = of(&format!("and_match: {{rules: [{{{header}}}, {{not_match: {{any_match: true}}}}]}}"));
    let errors = both.unwrap().http.errors;
    assert!(matches!(errors.as_deref(), Some(ResponsePredicate::All(rules)) if rules.len() == 2));
    let refused =
        of("or_match: {rules: [{any_match: true}, {http_request_headers_match: {}}]}").err().unwrap();
    assert!(refused.to_string().contains("or_match.rules[1].http_request_headers_match"), "{refused}");
    let deep = (0..40).fold("any_match: true".to_owned(), |rule, _| format!("not_match: {{{rule}}}"));
    assert!(of(&deep).err().unwrap().to_string().contains("nested too deeply"));
}

#[test]
fn pools_preconnects_and_policies() {
    let cluster = cluster_of(
        "circuit_breakers: {thresholds: [{max_connection_pools: 7, track_remaining: true}]}, \
         preconnect_policy: {per_upstream_preconnect_ratio: 1.5, predictive_preconnect_ratio: 2.5}",
    )
    .unwrap();
    let (own, high) = (cluster.circuit_breakers.default, cluster.circuit_breakers.high);
    assert_eq!((own.max_connection_pools, own.track_remaining), (Some(7), true));
    assert_eq!((high.max_connection_pools, high.track_remaining), (None, false));
    assert!((cluster.http.preconnect_ratio - 1.5).abs() < f64::EPSILON);
    assert!((cluster.http.predictive_preconnect_ratio - 2.5).abs() < f64::EPSILON);
    assert!(cluster.http.policies.is_none() && cluster.http.max_stream_duration.is_none());
    let http = cluster_with(
        "explicit_http_config: {http_protocol_options: {}}, common_http_protocol_options: {max_stream_duration: 2s}, \
         retry_policy: {retry_on: 5xx, num_retries: 4}, request_mirror_policies: [{cluster: other}, {cluster_header: x}]",
    )
    .unwrap()
    .http;
    let policies = http.policies.unwrap();
    assert_eq!(http.max_stream_duration, Some(Duration::from_secs(2)));
    assert_eq!((policies.retry.as_ref().unwrap().num_retries, policies.mirrors.len()), (4, 2));
    let refused = cluster_with(
        "explicit_http_config: {http_protocol_options: {}}, request_mirror_policies: [{cluster: a}, {}]",
    );
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("request_mirror_policies[1]"), "{refused}");
}
