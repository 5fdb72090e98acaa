//! The dynamic forward proxy: hosts that requests name, resolved by a name server of our own.

pub(crate) mod traffic;

use std::net::SocketAddr;

use crate::config::with_file;
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::dns::{NameServer, PATIENT, Say};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(a_host_is_resolved_once),
    case!(what_cannot_be_resolved),
    case!(hosts_without_a_port),
    case!(routes_name_another_host),
    case!(the_cluster_resolves_what_the_router_writes),
    case!(no_more_wait_than_may),
    case!(who_leaves_makes_room),
    case!(no_more_hosts_than_may),
    case!(unused_hosts_are_dropped),
    case!(addresses_change),
    case!(failures_are_asked_for_again_at_their_own_rate),
    case!(failures_are_asked_for_again_by_requests),
    case!(hosts_known_from_the_start),
    case!(every_address_is_tried),
    case!(addresses_that_are_not_wanted),
    case!(a_body_waits_with_its_request),
    case!(configurations_that_are_refused),
];

const FILTER: &str = "envoy.extensions.filters.http.dynamic_forward_proxy.v3";

/// Gives up soon.
const QUICK: &str = ", query_tries: 1, query_timeout_seconds: 1";

/// The cluster, with more of its fields.
fn cluster(cache: &str, more: &str) -> String {
    format!(
        "lb_policy: CLUSTER_PROVIDED\ncluster_type: {{name: envoy.clusters.dynamic_forward_proxy, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, {cache}}}}}\n{more}"
    )
}

fn filters(cache: &str) -> String {
    format!(
        "http_filters:\n- name: dfp\n  typed_config: {{\"@type\": type.googleapis.com/{FILTER}.FilterConfig, {cache}}}\n\
         - name: router\n  typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n"
    )
}

fn bootstrap(server: &NameServer, more: &str, routes: &str) -> Bootstrap {
    let cache = server.dns_cache(more);
    let http = Http::routes(&format!("{routes}- match: {{prefix: \"/\"}}\n  route: {{cluster: up}}\n"));
    Bootstrap::new().http(http.hcm(&filters(&cache))).cluster("up", &[], &cluster(&cache, ""))
}

fn start(subject: &Subject, server: &NameServer, more: &str) -> Proxy {
    Proxy::start(subject, &bootstrap(server, more, ""))
}

/// The same with a resolver that gives up soon.
fn start_quick(subject: &Subject, server: &NameServer, more: &str) -> Proxy {
    let cache = server.dns_cache(more).replace(PATIENT, QUICK);
    let http = Http::to("up").hcm(&filters(&cache));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster(&cache, "")))
}

/// Status and body of a request to a host.
fn ask(client: &mut Client, host: &str, path: &str) -> (u16, String) {
    client.request("GET", path, &[("host", host)], b"");
    let response = client.response("GET").expect("a response");
    (response.status, response.text())
}

fn at(name: &str, port: &SocketAddr) -> String {
    format!("{name}:{}", port.port())
}

fn good() -> (u16, String) {
    (200, "x".to_owned())
}

fn assert_stats(proxy: &Proxy, stats: &[(&str, u64)]) {
    for (stat, value) in stats {
        assert_eq!(proxy.stat(stat), Some(*value), "{stat}");
    }
}

fn a_host_is_resolved_once(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let address = upstream.address();
    for name in ["a.test", "b.test"] {
        server.set_addresses(name, &["127.0.0.1"]);
    }
    let proxy = start(subject, &server, "");
    let mut client = proxy.client();
    for host in [at("a.test", &address), at("b.test", &address), at("a.test", &address)] {
        assert_eq!(ask(&mut client, &host, "/"), good(), "{host}");
    }
    // An address needs no name server; another spelling is another host.
    assert_eq!(ask(&mut proxy.client(), &address.to_string(), "/"), good());
    assert_eq!(server.asked("a.test"), (1, 0));
    assert_eq!(ask(&mut client, &at("A.test", &address), "/"), good());
    assert_eq!(server.asked("a.test"), (2, 0));
    let hosts: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| request.fields.get("host").unwrap_or("").to_owned())
        .collect();
    assert_eq!(hosts.last(), Some(&at("A.test", &address)));
    assert_stats(
        &proxy,
        &[
            ("dns_cache.c.dns_query_attempt", 4),
            ("dns_cache.c.dns_query_success", 4),
            ("dns_cache.c.dns_query_failure", 0),
            ("dns_cache.c.host_added", 4),
            ("dns_cache.c.host_address_changed", 4),
            ("dns_cache.c.num_hosts", 4),
            ("dns_cache.c.circuit_breakers.rq_pending_open", 0),
            ("dns_cache.c.circuit_breakers.rq_pending_remaining", 1024),
            ("cluster.up.membership_total", 4),
            ("cluster.up.membership_healthy", 4),
            ("cluster.up.membership_change", 4),
            ("cluster.up.upstream_rq_total", 5),
            ("cluster.up.upstream_cx_total", 4),
        ],
    );
    let listed = proxy.admin_get("/clusters").text();
    for line in
        [format!("up::{address}::hostname::a.test:{}", address.port()), format!("up::{address}::rq_total::2")]
    {
        assert!(listed.contains(&line), "{line}\n{listed}");
    }
}

fn what_cannot_be_resolved(subject: &Subject) {
    let server = NameServer::start();
    server.set("failing.test", Say::Failure);
    server.set("empty.test", Say::Addresses(Vec::new(), 60));
    let proxy = start_quick(subject, &server, "");
    let long = format!("{}.test:80", "a".repeat(64));
    let cases: &[(&str, &str)] = &[
        ("nobody.test:80", "cares_norecords:Domain_name_not_found"),
        ("nobody.test:80", "cares_norecords:Domain_name_not_found"),
        ("empty.test:80", "cares_norecords:DNS_server_returned_answer_with_no_data"),
        ("failing.test:80", "cares_failure:DNS_server_returned_general_failure"),
        ("a..test:80", "cares_failure:Misformatted_domain_name"),
        ("[::1]:80", "cares_failure:Misformatted_domain_name"),
        (&long, "cares_failure:Misformatted_domain_name"),
    ];
    for (n, (host, why)) in cases.iter().enumerate() {
        let reply = ask(&mut proxy.client(), host, "/");
        assert_eq!(reply, (503, "DNS resolution failure".to_owned()), "{host}");
        let line = proxy.log().line(n);
        let details = format!("dns_resolution_failure{{{why}}}");
        assert_eq!(line.verdict(), ("503", "DF", &*details), "{host}");
    }
    // A port that is none is no host of HTTP/1.1 to us (decision 0005); to Envoy it is part of the name.
    for host in ["a.test:99999", "a.test:eighty"] {
        let status = if subject.is_envoy() { 503 } else { 400 };
        assert_eq!(ask(&mut proxy.client(), host, "/").0, status, "{host}");
    }
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost:\r\n\r\n");
    let response = client.response("GET").expect("a response");
    assert_eq!(response.status, 400);
    if subject.is_envoy() {
        assert_eq!(response.text(), "Empty host header");
        assert_eq!(proxy.log().line(cases.len() + 2).verdict(), ("400", "-", "empty_host_header"));
    }
    assert_eq!(server.asked("nobody.test").0, 1);
    assert_stats(
        &proxy,
        &[
            ("dns_cache.c.dns_query_success", 2),
            ("dns_cache.c.dns_query_failure", if subject.is_envoy() { 6 } else { 4 }),
            ("cluster.up.membership_total", 0),
            ("cluster.up.upstream_cx_none_healthy", 0),
        ],
    );
}

fn hosts_without_a_port(subject: &Subject) {
    let server = NameServer::start();
    // Nobody listens there.
    server.set_addresses("a.test", &["127.77.77.77"]);
    let proxy = start(subject, &server, "");
    assert_eq!(ask(&mut proxy.client(), "a.test", "/").0, 503);
    let listed = proxy.admin_get("/clusters").text();
    assert!(listed.contains("up::127.77.77.77:80::hostname::a.test:80"), "{listed}");
}

fn routes_name_another_host(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let address = upstream.address();
    for name in ["a.test", "b.test", "c.test"] {
        server.set_addresses(name, &["127.0.0.1"]);
    }
    let route = |prefix: &str, field: &str| {
        format!(
            "- match: {{prefix: \"{prefix}\"}}\n  route: {{cluster: up}}\n  typed_per_filter_config: {{dfp: {{\"@type\": \
             type.googleapis.com/{FILTER}.PerRouteConfig, {field}}}}}\n"
        )
    };
    let literal = format!("host_rewrite_literal: \"{}\"", at("b.test", &address));
    let routes = [route("/literal", &literal), route("/header", "host_rewrite_header: x-host")].concat();
    let proxy = Proxy::start(subject, &bootstrap(&server, "", &routes));
    let own = at("a.test", &address);
    let third = at("c.test", &address);
    let mut client = proxy.client();
    for (path, fields, want) in [
        ("/literal", vec![], "b.test"),
        ("/header", vec![("x-host", third.as_str())], "c.test"),
        ("/header", vec![("x-host", third.as_str()), ("x-host", "nobody.test")], "c.test"),
        ("/header", vec![], "a.test"),
    ] {
        let mut all = vec![("host", own.as_str())];
        all.extend(fields);
        client.request("GET", path, &all, b"");
        assert_eq!(client.response("GET").expect("a response").text(), "x", "{path}");
        let seen =
            upstream.requests().last().and_then(|request| request.fields.get("host").map(str::to_owned));
        assert_eq!(seen, Some(at(want, &address)), "{path}");
    }
    assert_eq!(server.asked("nobody.test"), (0, 0));
}

/// The router may write another host than the filter has seen: then the balancer waits.
fn the_cluster_resolves_what_the_router_writes(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let address = upstream.address();
    for name in ["a.test", "b.test"] {
        server.set_addresses(name, &["127.0.0.1"]);
    }
    let route = |prefix: &str, host: &str| {
        let host = at(host, &address);
        format!(
            "- match: {{prefix: \"{prefix}\"}}\n  route: {{cluster: up, host_rewrite_literal: \"{host}\"}}\n"
        )
    };
    let routes = [route("/good", "b.test"), route("/bad", "nobody.test")].concat();
    let proxy = Proxy::start(subject, &bootstrap(&server, "", &routes));
    let own = at("a.test", &address);
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &own, "/good"), good());
    let nobody = (503, "no healthy upstream".to_owned());
    let details = "dns_resolution_failure{cares_norecords:Domain_name_not_found}";
    // The second time the balancer knows.
    for (n, none_healthy) in [(1, 0), (2, 1)] {
        assert_eq!(ask(&mut client, &own, "/bad"), nobody);
        assert_eq!(proxy.log().line(n).verdict(), ("503", "UH", details));
        assert_eq!(proxy.stat("cluster.up.upstream_cx_none_healthy"), Some(none_healthy));
    }
    assert_eq!(proxy.stat("dns_cache.c.num_hosts"), Some(3));
}

/// A proxy that lets one request wait, in front of a name that is never answered; and a host that is known.
fn with_one_place(subject: &Subject, server: &NameServer, upstream: &Upstream) -> (Proxy, String) {
    server.set("silent.test", Say::Silence);
    let more = "dns_query_timeout: 1s, dns_cache_circuit_breaker: {max_pending_requests: 1}, ";
    let proxy = start(subject, server, more);
    let known = upstream.address().to_string();
    assert_eq!(ask(&mut proxy.client(), &known, "/"), good());
    (proxy, known)
}

fn no_more_wait_than_may(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let (proxy, known) = with_one_place(subject, &server, &upstream);
    let mut waiting = proxy.client();
    waiting.request("GET", "/", &[("host", "silent.test:80")], b"");
    // Hosts that are known are refused, too.
    let full = (503, "Dynamic forward proxy pending request overflow".to_owned());
    let mut client = proxy.client();
    wait::for_true("an overflow", || ask(&mut client, &known, "/") == full);
    let overflows = proxy.stat("dns_cache.c.dns_rq_pending_overflow");
    assert!(overflows.is_some_and(|count| count >= 1), "{overflows:?}");
    let response = waiting.response("GET").expect("a response");
    assert_eq!((response.status, response.text()), (503, "DNS resolution failure".to_owned()));
    wait::for_true("room again", || ask(&mut client, &known, "/") == good());
    for verdict in [
        ("503", "DF", "dns_resolution_failure{resolve_timeout}"),
        ("503", "-", "dynamic_forward_proxy_pending_request_overflow"),
    ] {
        wait::for_true(verdict.2, || proxy.log().lines().iter().any(|line| line.verdict() == verdict));
    }
    assert!(proxy.stat("dns_cache.c.dns_query_timeout").is_some_and(|count| count >= 1));
}

fn who_leaves_makes_room(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set("silent.test", Say::Silence);
    let more = "dns_query_timeout: 60s, dns_cache_circuit_breaker: {max_pending_requests: 1}, ";
    let proxy = start(subject, &server, more);
    let known = upstream.address().to_string();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &known, "/"), good());
    for _ in 0..3 {
        let mut waiting = proxy.client();
        waiting.request("GET", "/", &[("host", "silent.test:80")], b"");
        wait::for_true("an overflow", || ask(&mut client, &known, "/").0 == 503);
        waiting.reset();
        wait::for_true("room again", || ask(&mut client, &known, "/") == good());
    }
    assert_eq!(proxy.stat("dns_cache.c.dns_query_attempt"), Some(2));
    proxy.wait_stat("http.main.downstream_rq_active", 0);
}

fn no_more_hosts_than_may(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let address = upstream.address();
    for name in ["a.test", "b.test"] {
        server.set_addresses(name, &["127.0.0.1"]);
    }
    let proxy = start(subject, &server, "max_hosts: 1, ");
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &at("a.test", &address), "/"), good());
    let full = (503, "DNS cache overflow".to_owned());
    assert_eq!(ask(&mut client, &at("b.test", &address), "/"), full);
    assert_eq!(proxy.log().line(1).verdict(), ("503", "-", "dns_cache_overflow"));
    assert_eq!(ask(&mut client, &at("a.test", &address), "/"), good());
    assert_stats(&proxy, &[("dns_cache.c.host_overflow", 1), ("dns_cache.c.num_hosts", 1)]);
}

/// The shortest rates that may be configured.
const SOON: &str = "dns_min_refresh_rate: 1s, host_ttl: 0.1s, ";

fn unused_hosts_are_dropped(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set("a.test", Say::Addresses(vec![[127, 0, 0, 1].into()], 1));
    let host = at("a.test", &upstream.address());
    let proxy = start(subject, &server, SOON);
    for round in 1..=2 {
        assert_eq!(ask(&mut proxy.client(), &host, "/"), good());
        proxy.wait_stat("dns_cache.c.host_removed", round);
        proxy.wait_stat("cluster.up.membership_total", 0);
        assert_stats(&proxy, &[("dns_cache.c.num_hosts", 0), ("cluster.up.membership_change", 2 * round)]);
        let listed = proxy.admin_get("/clusters").text();
        assert!(!listed.contains("hostname::a.test"), "{listed}");
    }
}

fn addresses_change(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let one = |ip: [u8; 4]| Say::Addresses(vec![ip.into()], 1);
    server.set("a.test", one([127, 77, 77, 77]));
    let host = at("a.test", &upstream.address());
    let rates =
        "dns_min_refresh_rate: 1s, dns_refresh_rate: 1s, dns_failure_refresh_rate: {base_interval: 0.1s}, ";
    let proxy = start_quick(subject, &server, rates);
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &host, "/").0, 503);
    server.set("a.test", one([127, 0, 0, 1]));
    wait::for_true("the new address", || ask(&mut client, &host, "/") == good());
    let connections = upstream.connections();
    // A name that is gone keeps its address, and so do connections.
    for say in [Say::Failure, Say::NoName, one([127, 77, 77, 77])] {
        let asked = server.asked("a.test").0;
        server.set("a.test", say);
        wait::for_true("a question", || server.asked("a.test").0 > asked);
        assert_eq!(ask(&mut client, &host, "/"), good());
    }
    proxy.wait_stat("dns_cache.c.host_address_changed", 3);
    assert_eq!(ask(&mut client, &host, "/"), good());
    assert_eq!(upstream.connections(), connections);
    assert_stats(&proxy, &[("cluster.up.membership_change", 1), ("cluster.up.membership_total", 1)]);
}

fn failures_are_asked_for_again_at_their_own_rate(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set("a.test", Say::Failure);
    let host = at("a.test", &upstream.address());
    let rates = "dns_failure_refresh_rate: {base_interval: 0.02s, max_interval: 0.1s}, ";
    let proxy = start_quick(subject, &server, rates);
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &host, "/").0, 503);
    let failures = || proxy.stat("dns_cache.c.dns_query_failure");
    wait::for_true("failures", || failures().is_some_and(|count| count >= 2));
    server.set_addresses("a.test", &["127.0.0.1"]);
    wait::for_true("an address", || ask(&mut client, &host, "/") == good());
}

fn failures_are_asked_for_again_by_requests(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set("a.test", Say::Failure);
    let host = at("a.test", &upstream.address());
    let proxy = start_quick(subject, &server, "disable_dns_refresh_on_failure: true, ");
    let mut client = proxy.client();
    for attempts in 1..=2 {
        assert_eq!(ask(&mut client, &host, "/").0, 503);
        assert_eq!(proxy.stat("dns_cache.c.dns_query_attempt"), Some(attempts));
    }
    server.set_addresses("a.test", &["127.0.0.1"]);
    assert_eq!(ask(&mut client, &host, "/"), good());
    assert_stats(&proxy, &[("dns_cache.c.host_added", 3), ("dns_cache.c.host_removed", 2)]);
}

fn hosts_known_from_the_start(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set_addresses("a.test", &["127.0.0.1"]);
    let port = upstream.address().port();
    let more = format!("preresolve_hostnames: [{{address: a.test, port_value: {port}}}], ");
    let proxy = start(subject, &server, &more);
    proxy.wait_stat("dns_cache.c.dns_query_success", 1);
    assert_eq!(ask(&mut proxy.client(), &at("a.test", &upstream.address()), "/"), good());
    assert_eq!(server.asked("a.test"), (1, 0));
    assert_stats(&proxy, &[("cluster.up.membership_total", 1), ("dns_cache.c.host_added", 1)]);
}

fn every_address_is_tried(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    server.set_addresses("a.test", &["127.77.77.77", "127.77.77.78", "127.0.0.1"]);
    let proxy = start(subject, &server, "");
    assert_eq!(ask(&mut proxy.client(), &at("a.test", &upstream.address()), "/"), good());
    assert_stats(&proxy, &[("cluster.up.membership_total", 1), ("cluster.up.upstream_cx_connect_fail", 0)]);
}

fn addresses_that_are_not_wanted(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::fixed("x"));
    let address = upstream.address();
    server.set_addresses("a.test", &["127.77.77.77", "127.0.0.1"]);
    server.set_addresses("b.test", &["127.77.77.77"]);
    let more = "resolved_address_filter: {ranges: [{address_prefix: 127.77.0.0, prefix_len: 16}]}, ";
    let proxy = start(subject, &server, more);
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &at("a.test", &address), "/"), good());
    for host in [at("b.test", &address), at("127.77.77.77", &address)] {
        assert_eq!(ask(&mut client, &host, "/"), (503, "DNS resolution failure".to_owned()));
    }
    for n in [1, 2] {
        let verdict = ("503", "DF", "dns_resolution_failure{address_denied}");
        assert_eq!(proxy.log().line(n).verdict(), verdict);
    }
    assert_eq!(proxy.stat("dns_cache.c.dns_address_filter_out"), Some(3));
}

fn a_body_waits_with_its_request(subject: &Subject) {
    let (server, upstream) = (NameServer::start(), Upstream::echo());
    server.set("a.test", Say::Silence);
    let host = at("a.test", &upstream.address());
    let proxy = start(subject, &server, "dns_query_timeout: 60s, ");
    let body: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let (request, mut client) = (body.clone(), proxy.client());
    let sender = std::thread::spawn(move || {
        client.request("POST", "/", &[("host", &host)], &request);
        client.response("POST").expect("a response")
    });
    wait::for_true("a question", || server.asked("a.test").0 > 0);
    server.set_addresses("a.test", &["127.0.0.1"]);
    let response = sender.join().expect("an exchange");
    assert_eq!((response.status, response.body == body), (200, true));
}

fn configurations_that_are_refused(subject: &Subject) {
    let server = NameServer::start();
    let (one, other) = (server.dns_cache(""), server.dns_cache("max_hosts: 7, "));
    let with = |filter: &str, cluster: &str| {
        Bootstrap::new().http(Http::to("up").hcm(&filters(filter))).cluster("up", &[], cluster)
    };
    let insecure = "upstream_http_protocol_options: {auto_sni: true}\n";
    let many = server.dns_cache(
        "max_hosts: 1, preresolve_hostnames: [{address: a, port_value: 1}, {address: b, port_value: 1}], ",
    );
    for (bootstrap, why) in [
        (with(&one, &cluster(&other, "")), "config specified DNS cache 'c' with different settings"),
        (with(&one, &cluster(&one, insecure)), "must have auto_sni and auto_san_validation true"),
        (with(&many, &cluster(&many, "")), "preresolve_hostnames=2 larger than max_hosts=1"),
        (
            with(&one, &cluster(&one, "").replace("CLUSTER_PROVIDED", "ROUND_ROBIN")),
            "cluster provided LB not specified but cluster 'up' provided one",
        ),
    ] {
        let finished = with_file(subject, "dfp.yaml", &bootstrap.yaml(), &["--mode", "validate"]);
        assert_ne!(finished.code, Some(0), "{why}");
        let text = finished.stderr + &finished.stdout;
        assert!(text.contains(why), "{why}\n{text}");
    }
    let allowed = cluster(&format!("allow_insecure_cluster_options: true, {one}"), insecure);
    let finished = with_file(subject, "dfp.yaml", &with(&one, &allowed).yaml(), &["--mode", "validate"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}
