//! The choice of a virtual host and a route.

use std::hint::black_box;
use std::sync::Arc;

use millrace_base::Written;
use millrace_config::{
    ClusterId, ClusterSpecifier, HeaderMutations, PathMatcher, RequireTls, Route, RouteAction,
    RouteConfiguration, RouteForward, RouteMatch, VirtualHost,
};
use millrace_http::RequestHead;
use millrace_route::select;

use crate::{Bench, Routine, repeat};

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new("route/domains_10", "virtual host by exact name among 10, one route each", || domains(10)),
    Bench::new("route/domains_1000", "virtual host by exact name among 1,000, one route each", || {
        domains(1000)
    }),
    Bench::new("route/wildcard_1000", "virtual host by `*.suffix` among 1,000 of one length", wildcards),
    Bench::new("route/routes_10", "the last of 10 prefix routes of one virtual host", || routes(10)),
    Bench::new("route/routes_1000", "the last of 1,000 prefix routes of one virtual host", || routes(1000)),
    Bench::new("route/regex", "the second of two regex routes, the path fully matched", regex),
];

pub(crate) fn forward() -> RouteForward {
    RouteForward::to(ClusterSpecifier::Cluster(ClusterId(0)))
}

pub(crate) fn route(path: PathMatcher) -> Route {
    Route {
        name: "".into(),
        matcher: RouteMatch { path, ..RouteMatch::any() },
        action: RouteAction::Forward(Box::new(forward())),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        per_filter: Vec::new(),
        metadata: None,
        stat_scope: None,
    }
}

pub(crate) fn virtual_host(domain: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: domain.into(),
        domains: vec![domain.into()],
        routes: routes.into_iter().map(Arc::new).collect(),
        require_tls: RequireTls::None,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        include_request_attempt_count: false,
        include_attempt_count_in_response: false,
        include_is_timeout_retry: false,
        retry_policy: None,
        per_filter: Vec::new(),
        for_filters: millrace_config::RouteFilterFields::default(),
        metadata: None,
        virtual_clusters: Vec::new(),
    }
}

pub(crate) fn configuration(hosts: Vec<VirtualHost>) -> RouteConfiguration {
    let mut config = RouteConfiguration::default();
    config.virtual_hosts = hosts.into_iter().map(Arc::new).collect();
    config.compile().expect("domains of their own")
}

fn prefix(text: &str) -> PathMatcher {
    PathMatcher::Prefix(Arc::from(text.as_bytes()))
}

fn head(authority: &str, path: &str) -> RequestHead {
    let mut head = RequestHead::new();
    head.set_method(b"GET");
    head.set_authority(authority.as_bytes());
    head.set_path(path.as_bytes());
    head
}

/// Selects for one head after the other. The seed of the domain table's hash differs from process to process:
/// many names even out what a single one would cost by chance.
fn selecting(config: RouteConfiguration, heads: Vec<RequestHead>) -> Routine {
    for head in &heads {
        assert!(select(&config, head, &Written::default(), 0).route().is_some(), "{head:?}");
    }
    let mut at = 0;
    repeat(move || {
        at = if at + 1 < heads.len() { at + 1 } else { 0 };
        black_box(select(&config, black_box(&heads[at]), &Written::default(), 0));
    })
}

fn domains(count: usize) -> Routine {
    let name = |n: usize| format!("service-{n:04}.shop.svc.cluster.local");
    let hosts = (0..count).map(|n| virtual_host(&name(n), vec![route(prefix("/"))])).collect();
    selecting(configuration(hosts), (0..count).map(|n| head(&name(n), "/api/v1/users/42")).collect())
}

fn wildcards() -> Routine {
    let hosts =
        (0..1000).map(|n| virtual_host(&format!("*.tenant-{n:04}.example.com"), vec![route(prefix("/"))]));
    let heads = (0..1000).map(|n| head(&format!("www.tenant-{n:04}.example.com"), "/api/v1/users/42"));
    selecting(configuration(hosts.collect()), heads.collect())
}

fn routes(count: usize) -> Routine {
    let path = |n: usize| format!("/api/v1/resource-{n:04}/");
    let host = virtual_host("*", (0..count).map(|n| route(prefix(&path(n)))).collect());
    let head = head("shop.example.com", &format!("{}42?verbose=1", path(count - 1)));
    selecting(configuration(vec![host]), vec![head])
}

fn regex() -> Routine {
    // Anchored as `control-client/translate` anchors them.
    let pattern = |text: &str| {
        PathMatcher::Regex(regex::bytes::Regex::new(&format!("^(?:{text})$")).expect("a valid pattern"))
    };
    let patterns = [pattern("/api/v[0-9]+/users/[0-9]+"), pattern("/api/v[0-9]+/orders/[0-9a-f-]+/items")];
    let host = virtual_host("*", patterns.into_iter().map(route).collect());
    let head = head("shop.example.com", "/api/v1/orders/5f9c6d2e-2c5b-4d1f/items?limit=20");
    selecting(configuration(vec![host]), vec![head])
}
