//! Route tables: matchers, actions, defaults, and what is refused in which words.

use millrace_config::{
    BodyBufferLimit, ClusterSpecifier, GrpcTimeout, HostRewrite, MaxStreamDuration, MirrorTarget,
    PathMatcher, PathRewrite, RedirectPath,
};
use millrace_observe::stats::Registry;
use millrace_proto::{message_from_json, schema, yaml};

use super::*;
use crate::context::Overrides;
use crate::resource;

fn bytes(text: &str) -> Vec<u8> {
    let message = schema::Message::by_type_url(resource::ROUTE_CONFIGURATION).unwrap();
    message_from_json(message, &yaml::parse(text).unwrap()).unwrap()
}

fn table(text: &str) -> Result<RouteConfiguration, Rejection> {
    let mut cx = Context::new(Registry::new(), Overrides::default());
    cx.known_clusters.insert("c".into());
    resource::route_configuration(&bytes(text), &mut cx).map(|translated| translated.value.routes)
}

/// The first route of the only virtual host.
fn one(route: &str) -> Result<Arc<Route>, Rejection> {
    let table = table(&format!(
        "{{validate_clusters: true, virtual_hosts: [{{name: v, domains: ['*'], routes: [{route}]}}]}}"
    ))?;
    Ok(table.virtual_hosts[0].routes[0].clone())
}

fn forward(action: &str) -> millrace_config::RouteForward {
    match &one(&format!("{{match: {{prefix: /}}, route: {{{action}}}}}")).unwrap().action {
        RouteAction::Forward(forward) => (**forward).clone(),
        other => panic!("a forwarding route, not {other:?}"),
    }
}

#[test]
fn matchers() {
    let route = one("{match: {path_separated_prefix: /A, case_sensitive: false, grpc: {}, runtime_fraction: {default_value: {numerator: 3, denominator: MILLION}}, headers: [{name: x}], query_parameters: [{name: q, present_match: true}]}, route: {cluster: c}}").unwrap();
    assert!(matches!(&route.matcher.path, PathMatcher::SeparatedPrefix(p) if **p == *b"/a"));
    assert!(!route.matcher.case_sensitive && route.matcher.grpc);
    let fraction = route.matcher.fraction.unwrap();
    assert_eq!((fraction.numerator, fraction.denominator), (3, 1_000_000));
    assert_eq!((route.matcher.headers.len(), route.matcher.query.len()), (1, 1));
}

#[test]
fn forwarding_defaults_and_overrides() {
    let plain = forward("cluster: c");
    assert_eq!(
        (plain.timeout, plain.cluster_not_found_status),
        (Some(std::time::Duration::from_secs(15)), 503)
    );
    assert!(plain.idle_timeout.is_none() && plain.retry_policy.is_none() && !plain.high_priority);
    let full = forward(
        "cluster: c, timeout: 0s, idle_timeout: 0s, flush_timeout: 0s, max_stream_duration: {max_stream_duration: 2s}, priority: HIGH, \
         prefix_rewrite: /x, auto_host_rewrite: true, cluster_not_found_response_code: NOT_FOUND, \
         upgrade_configs: [{upgrade_type: WebSocket, enabled: false}], retry_policy: {retry_on: '5xx,reset', \
         retry_back_off: {base_interval: 0.1s}, retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts}]}",
    );
    assert_eq!((full.timeout, full.idle_timeout, full.cluster_not_found_status), (None, Some(None), 404));
    assert_eq!((plain.flush_timeout, full.flush_timeout), (None, Some(None)));
    let duration = Some(Some(std::time::Duration::from_secs(2)));
    assert_eq!(full.max_stream_duration, Some(MaxStreamDuration { duration, grpc_timeout: None }));
    assert_eq!((plain.max_stream_duration, plain.grpc_timeout), (None, None));
    assert!(full.high_priority && matches!(full.host_rewrite, Some(HostRewrite::Auto)));
    assert!(matches!(&full.path_rewrite, Some(PathRewrite::Prefix(p)) if **p == *b"/x"));
    assert_eq!(full.upgrades, [(Arc::from("websocket"), false)]);
    let retry = full.retry_policy.unwrap();
    assert_eq!((retry.num_retries, retry.back_off.max), (1, std::time::Duration::from_secs(1)));
    assert!(retry.avoid_previous_hosts);
}

#[test]
fn grpc_timeouts_of_both_kinds() {
    let millis = std::time::Duration::from_millis;
    let old = forward("cluster: c, max_grpc_timeout: 0s, grpc_timeout_offset: 0.1s");
    assert_eq!(old.grpc_timeout, Some(GrpcTimeout { max: None, offset: millis(100) }));
    let new = forward(
        "cluster: c, max_stream_duration: {grpc_timeout_header_max: 1s, grpc_timeout_header_offset: 0.2s}",
    );
    let grpc_timeout = Some(GrpcTimeout { max: Some(millis(1000)), offset: millis(200) });
    assert_eq!(new.max_stream_duration, Some(MaxStreamDuration { duration: None, grpc_timeout }));
    let offsets = forward(
        "cluster: c, grpc_timeout_offset: 1s, max_stream_duration: {max_stream_duration: 0s, grpc_timeout_header_offset: 1s}",
    );
    assert_eq!(offsets.grpc_timeout, None);
    let expected = MaxStreamDuration { duration: Some(None), grpc_timeout: None };
    assert_eq!(offsets.max_stream_duration, Some(expected));
}

#[test]
fn mirrors_of_every_level() {
    let mirrors = |of_table: &str, of_host: &str, of_route: &str| {
        let table = table(&format!(
            "{{{of_table} virtual_hosts: [{{name: v, domains: ['*'], {of_host} routes: [{{match: {{prefix: /}}, \
             route: {{cluster: c, {of_route}}}}}]}}]}}"
        ))
        .unwrap();
        let RouteAction::Forward(forward) = &table.virtual_hosts[0].routes[0].action else {
            panic!("forwards")
        };
        forward.mirrors.iter().map(|policy| policy.target.clone()).collect::<Vec<_>>()
    };
    let level = |header: &str| format!("request_mirror_policies: [{{cluster_header: {header}}}],");
    let header = |name: &str| vec![MirrorTarget::Header(value::lower_bytes(name))];
    assert_eq!(mirrors("", "", ""), []);
    assert_eq!(mirrors(&level("X-T"), "", ""), header("x-t"));
    assert_eq!(mirrors(&level("X-T"), &level("x-h"), ""), header("x-h"));
    assert_eq!(mirrors(&level("X-T"), &level("x-h"), &level("x-r")), header("x-r"));
    let full = forward(
        "cluster: c, request_mirror_policies: [{cluster: c, runtime_fraction: {default_value: {numerator: 3}}, \
         disable_shadow_host_suffix_append: true, request_headers_mutations: [{remove: X-A}]}, {cluster: c, host_rewrite_literal: h}]",
    );
    let [first, second] = &full.mirrors[..] else { panic!("two policies") };
    assert_eq!(first.fraction.map(|f| (f.numerator, f.denominator)), Some((3, 100)));
    assert!(!first.marks_host && second.marks_host && first.mutations.len() == 1);
    assert_eq!(second.host_rewrite.as_deref(), Some(&b"h"[..]));
}

#[test]
fn internal_redirects_hedges_and_limits() {
    assert!(forward("cluster: c").internal_redirects.is_none());
    let redirects = |action: &str| {
        let found = forward(&format!("cluster: c, {action}")).internal_redirects.unwrap();
        (found.max, found.statuses.clone(), found.predicates.len(), found.allow_cross_scheme)
    };
    assert_eq!(redirects("internal_redirect_policy: {}"), (1, vec![302], 0, false));
    assert_eq!(redirects("internal_redirect_action: HANDLE_INTERNAL_REDIRECT"), (1, vec![302], 0, false));
    let full = "internal_redirect_policy: {max_internal_redirects: 4, redirect_response_codes: [303, 200, 308], \
                allow_cross_scheme_redirect: true, predicates: [{name: p, typed_config: {'@type': \
                t/envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig}}]}";
    assert_eq!(redirects(full), (4, vec![303, 308], 1, true));
    let of_host = "{virtual_hosts: [{name: v, domains: ['*'], hedge_policy: {hedge_on_per_try_timeout: true}, \
                   per_request_buffer_limit_bytes: 7, routes: [{match: {prefix: /a}, route: {cluster: c}}, \
                   {match: {prefix: /}, request_body_buffer_limit: 9, route: {cluster: c, hedge_policy: {}}}]}]}";
    let table = table(of_host).unwrap();
    let seen = table.virtual_hosts[0].routes.iter().filter_map(|route| match &route.action {
        RouteAction::Forward(forward) => Some((forward.hedges_on_per_try_timeout, forward.body_buffer_limit)),
        _ => None,
    });
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen, [(true, Some(BodyBufferLimit::AtMost(7))), (false, Some(BodyBufferLimit::Exact(9)))]);
}

#[test]
fn retries_choose_their_endpoints() {
    let policy = "retry_policy: {retry_host_predicate: [{name: envoy.retry_host_predicates.omit_canary_hosts}, {name: m, typed_config: \
                  {'@type': t/envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig, \
                  metadata_match: {filter_metadata: {envoy.lb: {b: 1, a: x}}}}}], retry_priority: {name: p, typed_config: {'@type': \
                  t/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, update_frequency: 3}}}";
    let retry = forward(&format!("cluster: c, {policy}")).retry_policy.unwrap();
    assert!(!retry.refresh_cluster);
    assert!(retry.avoid_canaries && !retry.avoid_previous_hosts && retry.chooses_hosts());
    assert_eq!((retry.avoid_metadata[0].len(), retry.avoid_priorities_every), (2, Some(3)));
}

#[test]
fn weighted_clusters_redirects_and_direct_responses() {
    let weighted =
        forward("weighted_clusters: {clusters: [{name: c, weight: 1}, {cluster_header: X-C, weight: 3}]}");
    let ClusterSpecifier::Weighted(weighted) = weighted.cluster else { panic!("weighted") };
    assert_eq!((weighted.total, weighted.clusters.len()), (4, 2));
    let redirect = one("{match: {prefix: /}, redirect: {https_redirect: true, port_redirect: 8443, prefix_rewrite: /y, response_code: SEE_OTHER}}").unwrap();
    let RouteAction::Redirect(redirect) = &redirect.action else { panic!("a redirect") };
    assert_eq!(
        (redirect.status, redirect.port, redirect.scheme.as_deref()),
        (303, Some(8443), Some(&b"https"[..]))
    );
    assert!(matches!(&redirect.path, RedirectPath::Prefix(p) if **p == *b"/y"));
    let direct =
        one("{match: {prefix: /}, direct_response: {status: 418, body: {inline_string: tea}}}").unwrap();
    let RouteAction::DirectResponse(direct) = &direct.action else { panic!("a direct response") };
    assert_eq!((direct.status, &*direct.body), (418, &b"tea"[..]));
}

#[test]
fn the_virtual_hosts_retry_policy_is_inherited() {
    let table = table("{virtual_hosts: [{name: v, domains: [A.com], retry_policy: {retry_on: reset, num_retries: 7}, routes: [{match: {prefix: /}, route: {cluster: x}}]}]}").unwrap();
    let host = table.virtual_host(b"a.com").unwrap();
    let RouteAction::Forward(forward) = &host.routes[0].action else { panic!("a forwarding route") };
    assert_eq!(forward.retry_policy.as_ref().unwrap().num_retries, 7);
}

#[test]
fn virtual_clusters_end_with_the_one_of_all_others() {
    let host = |clusters: &str| {
        let host = format!(
            "{{name: v, domains: ['*'], {clusters}routes: [{{match: {{prefix: /}}, route: {{cluster: x}}}}]}}"
        );
        table(&format!("{{virtual_hosts: [{host}]}}"))
            .map(|table| table.virtual_hosts[0].virtual_clusters.clone())
    };
    let some = host("virtual_clusters: [{name: a, headers: [{name: x}, {name: x-y}]}], ").unwrap();
    assert_eq!(some.iter().map(|one| one.headers.len()).collect::<Vec<_>>(), [2, 0]);
    assert!(some[0].scope != some[1].scope && host("").unwrap().is_empty());
    let refused = host("virtual_clusters: [{name: a, headers: [{name: x}]}, {name: b}], ").err().unwrap();
    let refused = refused.to_string();
    assert!(
        refused.contains("virtual_clusters[1]") && refused.contains("must define 'headers'"),
        "{refused}"
    );
}

#[test]
fn wrong_routes_are_refused_in_envoys_words() {
    for (route, reason) in [
        ("{match: {prefix: /}, route: {cluster: nope}}", "route.cluster: route: unknown cluster 'nope'"),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: nope, weight: 1}]}}}",
            "unknown weighted cluster 'nope'",
        ),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: c, weight: 0}]}}}",
            "Sum of weights in the weighted_cluster must be greater than 0.",
        ),
        ("{match: {prefix: /}}", "action: is required"),
        ("{match: {}, route: {cluster: c}}", "match.path_specifier: is required"),
        (
            "{match: {safe_regex: {regex: 'a('}}, route: {cluster: c}}",
            "match.safe_regex.regex: unclosed group: a(",
        ),
        ("{match: {path_separated_prefix: /a/}, route: {cluster: c}}", "value does not match regex pattern"),
        (
            "{match: {prefix: /}, route: {cluster: c, prefix_rewrite: /a, regex_rewrite: {pattern: {regex: a}}}}",
            "Specify only one of prefix_rewrite",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, retry_policy: {retry_back_off: {base_interval: 1s, max_interval: 0.5s}}}}",
            "retry_policy.max_interval must greater",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, retry_policy: {retry_options_predicates: [{name: p, typed_config: {'@type': t/envoy.extensions.filters.http.router.v3.Router}}]}}}",
            "retry_options_predicates[0]: Didn't find a registered implementation for 'p' with type URL: \
             'envoy.extensions.filters.http.router.v3.Router'",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, request_mirror_policies: [{cluster: nope}]}}",
            "route.request_mirror_policies[0].cluster: route: unknown shadow cluster 'nope'",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, request_mirror_policies: [{}]}}",
            "Exactly one of cluster or cluster_header in request mirror policy need to be specified",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, request_mirror_policies: [{cluster: c, cluster_header: x}]}}",
            "Only one of cluster 'c' or cluster_header 'x' in request mirror policy can be specified",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, internal_redirect_policy: {response_headers_to_copy: [host]}}}",
            ":-prefixed headers or Hosts may not be specified here.",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, internal_redirect_policy: {predicates: [{name: own}]}}}",
            "predicates[0].typed_config: value is required",
        ),
        (
            "{match: {prefix: /}, per_request_buffer_limit_bytes: 1, request_body_buffer_limit: 2, route: {cluster: c}}",
            "Only one of per_request_buffer_limit_bytes and request_body_buffer_limit",
        ),
        ("{match: {prefix: /}, direct_response: {status: 99}}", "direct_response.status: value must be"),
        (
            "{match: {prefix: /, cookies: [{name: a, string_match: {exact: b}}]}, route: {cluster: c}}",
            "match.cookies: the route would match too much without it",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {x: {'@type': t/envoy.extensions.filters.http.router.v3.Router}}}",
            "HTTP filter 'x' of type",
        ),
    ] {
        let error = one(route).unwrap_err().to_string();
        assert!(
            error.starts_with("virtual_hosts[0].routes[0]") && error.contains(reason),
            "{route}: {error}"
        );
    }
    let body = "a".repeat(4097);
    assert!(
        one(&format!(
            "{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: {body}}}}}}}"
        ))
        .unwrap_err()
        .reason
        .contains("maximum is 4096")
    );
    let twice =
        table("{name: r, virtual_hosts: [{name: a, domains: [x]}, {name: b, domains: [X]}]}").unwrap_err();
    assert_eq!(
        twice.reason,
        "Only unique values for domains are permitted. Duplicate entry of domain x in route r"
    );
    let stars = table("{name: r, virtual_hosts: [{name: a, domains: ['*']}, {name: b, domains: ['*']}]}")
        .unwrap_err();
    assert_eq!(stars.reason, "Only a single wildcard domain is permitted in route r");
}
