//! Health discovery (HDS): a control plane says what is to be checked, and is told what was found.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use millrace_e2e::{Case, case};
use millrace_proto::pb::envoy::config::core::v3::HealthStatus;
use millrace_proto::pb::envoy::config::core::v3::address::Address;
use millrace_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use millrace_proto::pb::envoy::service::health::v3::EndpointHealth;
use millrace_proto::pb::google::protobuf::value::Kind;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::tls::server::Options as TlsOptions;
use millrace_support::tls::{Leaf, Server, authority};
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Code, ControlPlane, Options};

pub(crate) const CASES: &[Case] = &[
    case!(endpoints_are_checked_and_reported),
    case!(changes_leave_everything_else_alone),
    case!(the_same_specifier_is_no_update),
    case!(the_status_is_that_of_the_last_answer),
    case!(what_is_invalid_is_refused),
    case!(a_stream_that_ends_is_opened_again),
    case!(connections_and_grpc_are_checked),
    case!(transport_sockets_are_matched),
    case!(clusters_of_traffic_are_others),
    case!(endpoints_say_where_they_are_checked),
];

const HTTP: &str = "http_health_check: {path: /hc}";
const TIMES: &str = "timeout: 0.3s, interval: 0.05s, no_traffic_interval: 0.05s, unhealthy_threshold: 1, healthy_threshold: 1";

/// A subject that asks this control plane what to check, and nothing else.
#[track_caller]
fn proxy(subject: &Subject, plane: &ControlPlane) -> Proxy {
    let source = Flavor::AdsSotw.api_config_source("xds");
    let bootstrap = Bootstrap::new().top(yaml::NODE).top(&format!("hds_config: {source}\n"));
    Proxy::start(subject, &yaml::plane_cluster(bootstrap, "xds", plane))
}

fn endpoint(at: SocketAddr, more: &str) -> String {
    format!("{{address: {{socket_address: {{address: \"{}\", port_value: {}}}}}{more}}}", at.ip(), at.port())
}

/// One locality of a cluster.
fn locality(zone: &str, endpoints: &[SocketAddr]) -> String {
    let all: Vec<String> = endpoints.iter().map(|at| endpoint(*at, "")).collect();
    format!("{{locality: {{region: r, zone: {zone}}}, endpoints: [{}]}}", all.join(", "))
}

/// A `ClusterHealthCheck`.
fn cluster(name: &str, check: &str, localities: &[String]) -> String {
    format!(
        "{{cluster_name: {name}, health_checks: [{{{TIMES}, {check}}}], locality_endpoints: [{}]}}",
        localities.join(", ")
    )
}

/// A `HealthCheckSpecifier` that wants reports every 100 ms.
fn specifier(clusters: &[String]) -> String {
    format!("{{interval: 0.1s, cluster_health_checks: [{}]}}", clusters.join(", "))
}

/// Port, health and `http_status_code` of an endpoint.
type Found = (u16, HealthStatus, Option<u16>);

fn found(health: &EndpointHealth) -> Found {
    let address = health.endpoint.as_ref().and_then(|endpoint| endpoint.address.as_ref());
    let port = match address.and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => match &socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => u16::try_from(*port).unwrap_or(0),
            _ => 0,
        },
        _ => 0,
    };
    let code = health.health_metadata.as_ref().and_then(|all| all.fields.get("http_status_code"));
    let code = code.and_then(|value| match value.kind {
        Some(Kind::NumberValue(number)) => Some(number as u16),
        _ => None,
    });
    (port, health.health_status(), code)
}

/// The newest report after a mark: endpoints by cluster and zone.
fn report(plane: &ControlPlane, mark: usize) -> Option<BTreeMap<(String, String), Vec<Found>>> {
    let last = plane.health_reports(mark).pop()?;
    let mut all = BTreeMap::new();
    let mut flat = Vec::new();
    for cluster in &last.cluster_endpoints_health {
        for locality in &cluster.locality_endpoints_health {
            let zone = locality.locality.as_ref().map(|own| own.zone.clone()).unwrap_or_default();
            all.insert(
                (cluster.cluster_name.clone(), zone),
                locality.endpoints_health.iter().map(found).collect(),
            );
            flat.extend(locality.endpoints_health.clone());
        }
    }
    #[expect(deprecated, reason = "Envoy fills both")]
    let legacy = &last.endpoints_health;
    assert_eq!(*legacy, flat, "the flat list holds the same");
    Some(all)
}

/// Waits until the newest report says this of a locality.
#[track_caller]
fn wait_report(plane: &ControlPlane, cluster: &str, zone: &str, expected: &[Found]) {
    let key = (cluster.to_owned(), zone.to_owned());
    let mut last = None;
    let met = wait::until(wait::PATIENCE, || {
        last = report(plane, 0).and_then(|all| all.get(&key).cloned());
        (last.as_deref() == Some(expected)).then_some(())
    });
    assert!(met.is_some(), "waited for {expected:?} of {key:?}, the last report says {last:?}");
}

fn healthy(upstream: &Upstream) -> Found {
    (upstream.address().port(), HealthStatus::Healthy, Some(200))
}

fn endpoints_are_checked_and_reported(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let (good, bad) = (Upstream::fixed("x"), Upstream::start(|_| Reply::status(503)));
    let hanging = Upstream::start(|_| Reply::hang());
    let refused = Refused::new();
    let nobody = refused.address();
    plane.ask_health(&specifier(&[
        cluster("a", HTTP, &[locality("one", &[good.address(), bad.address()]), locality("two", &[nobody])]),
        cluster("b", HTTP, &[locality("one", &[hanging.address(), good.address()])]),
    ]));
    let proxy = proxy(subject, &plane);
    wait_report(
        &plane,
        "a",
        "one",
        &[healthy(&good), (bad.address().port(), HealthStatus::Unhealthy, Some(503))],
    );
    wait_report(&plane, "a", "two", &[(nobody.port(), HealthStatus::Unhealthy, None)]);
    let late = (hanging.address().port(), HealthStatus::Timeout, None);
    wait_report(&plane, "b", "one", &[late, healthy(&good)]);
    let (_, first) = plane.health_requests(0).into_iter().next().expect("a first message");
    assert_eq!(first.node.map(|node| node.id).as_deref(), Some("sidecar-1"));
    assert_eq!(first.capability.map(|own| own.health_check_protocols), Some(vec![0, 1]), "HTTP and TCP");
    assert_eq!(proxy.stat("hds_delegate.requests"), Some(1));
    assert_eq!(proxy.stat("hds_delegate.updates"), Some(1));
    assert_eq!(proxy.stat("hds_delegate.errors"), Some(0));
    assert!(proxy.stat("hds_delegate.responses") > Some(2));
    assert!(proxy.stat("cluster.a.health_check.attempt") > Some(0));
    assert_eq!(proxy.stat("cluster.a.health_check.healthy"), Some(1));
    assert!(!proxy.admin_get("/clusters").text().contains("a::"), "it is no cluster of traffic");
}

/// An endpoint whose status can be changed; 0 is no answer, 1 the end of the connection.
fn changing() -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let script = Arc::clone(&status);
    let script = move |_: &_| match script.load(Ordering::Relaxed) {
        0 => Reply::hang(),
        1 => Reply::close(),
        status => Reply::status(status),
    };
    (Upstream::start(script), status)
}

fn changes_leave_everything_else_alone(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let ((stays, status), leaves, comes) = (changing(), Upstream::fixed("x"), Upstream::fixed("x"));
    plane.ask_health(&specifier(&[
        cluster("a", HTTP, &[locality("one", &[stays.address(), leaves.address()])]),
        cluster("b", HTTP, &[locality("one", &[leaves.address()])]),
    ]));
    let proxy = proxy(subject, &plane);
    wait_report(&plane, "a", "one", &[healthy(&stays), healthy(&leaves)]);
    wait_report(&plane, "b", "one", &[healthy(&leaves)]);
    plane.ask_health(&specifier(&[cluster(
        "a",
        HTTP,
        &[locality("one", &[comes.address(), stays.address()])],
    )]));
    wait_report(&plane, "a", "one", &[healthy(&comes), healthy(&stays)]);
    assert_eq!(stays.connections(), 1, "its check went on");
    wait::for_true("the others to be left", || leaves.active() == 0);
    assert!(report(&plane, 0).is_some_and(|all| all.keys().all(|(name, _)| name == "a")));
    // What was found out stays until it is found out anew.
    status.store(500, Ordering::Relaxed);
    wait_report(
        &plane,
        "a",
        "one",
        &[healthy(&comes), (stays.address().port(), HealthStatus::Unhealthy, Some(500))],
    );
    let path = "http_health_check: {path: /other}";
    plane.ask_health(&specifier(&[cluster(
        "a",
        path,
        &[locality("one", &[comes.address(), stays.address()])],
    )]));
    wait::for_true("the other check", || comes.requests().iter().any(|request| request.target == "/other"));
    assert_eq!(proxy.stat("hds_delegate.updates"), Some(3));
    plane.ask_health("{interval: 0.1s}");
    wait::for_true("nothing to be checked", || comes.active() == 0 && stays.active() == 0);
    let mark = plane.mark();
    wait::for_true("messages that report nothing", || plane.health_silences(mark) > 1);
    assert!(report(&plane, mark).is_none());
}

fn the_same_specifier_is_no_update(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let good = Upstream::fixed("x");
    let ask = specifier(&[cluster("a", HTTP, &[locality("one", &[good.address()])])]);
    plane.ask_health(&ask);
    let proxy = proxy(subject, &plane);
    wait_report(&plane, "a", "one", &[healthy(&good)]);
    plane.ask_health(&ask);
    proxy.wait_stat("hds_delegate.requests", 2);
    assert_eq!(proxy.stat("hds_delegate.updates"), Some(1));
    assert_eq!(proxy.stat("hds_delegate.errors"), Some(0));
}

fn the_status_is_that_of_the_last_answer(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let (endpoint, status) = changing();
    plane.ask_health(&specifier(&[cluster("a", HTTP, &[locality("one", &[endpoint.address()])])]));
    let _proxy = proxy(subject, &plane);
    let port = endpoint.address().port();
    for (answer, health, told) in [
        (200, HealthStatus::Healthy, Some(200)),
        (0, HealthStatus::Timeout, None),
        (503, HealthStatus::Unhealthy, Some(503)),
        (1, HealthStatus::Unhealthy, None),
        (200, HealthStatus::Healthy, Some(200)),
    ] {
        status.store(answer, Ordering::Relaxed);
        wait_report(&plane, "a", "one", &[(port, health, told)]);
    }
}

fn what_is_invalid_is_refused(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let good = Upstream::fixed("x");
    plane.ask_health(&specifier(&[cluster("a", HTTP, &[locality("one", &[good.address()])])]));
    let proxy = proxy(subject, &plane);
    wait_report(&plane, "a", "one", &[healthy(&good)]);
    // Without an interval, and a check of nothing.
    let lacking = "{cluster_health_checks: [{cluster_name: a, health_checks: [{timeout: 1s}]}]}";
    plane.ask_health(lacking);
    proxy.wait_stat("hds_delegate.errors", 1);
    assert_eq!(proxy.stat("hds_delegate.updates"), Some(1));
    assert_eq!(proxy.stat("hds_delegate.requests"), Some(2));
    let (mark, checks) = (plane.mark(), good.requests().len());
    wait::for_true("checks and reports to go on", || {
        report(&plane, mark).is_some_and(|all| all.len() == 1) && good.requests().len() > checks
    });
    plane.ask_health(&specifier(&[cluster("b", HTTP, &[locality("one", &[good.address()])])]));
    wait_report(&plane, "b", "one", &[healthy(&good)]);
    assert_eq!(proxy.stat("hds_delegate.updates"), Some(2));
}

fn a_stream_that_ends_is_opened_again(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let good = Upstream::fixed("x");
    plane.ask_health(&specifier(&[cluster("a", HTTP, &[locality("one", &[good.address()])])]));
    let proxy = proxy(subject, &plane);
    wait_report(&plane, "a", "one", &[healthy(&good)]);
    let mark = plane.mark();
    plane.end_streams(Code::Unavailable, "restart");
    wait::for_true("reports on a new stream", || report(&plane, mark).is_some_and(|all| all.len() == 1));
    assert_eq!(plane.health_requests(mark).len(), 1, "it introduces itself again");
    assert_eq!(proxy.stat("hds_delegate.errors"), Some(1));
    assert_eq!(proxy.stat("hds_delegate.updates"), Some(2), "the new stream says it anew");
    assert_eq!(good.connections(), 1, "its check went on");
    // Nobody listens for a while.
    plane.stop();
    wait::for_true("attempts", || proxy.stat("hds_delegate.errors") > Some(2));
    let checks = good.requests().len();
    wait::for_true("checks to go on", || good.requests().len() > checks + 2);
    let mark = plane.mark();
    plane.restart();
    wait::for_true("reports again", || report(&plane, mark).is_some_and(|all| all.len() == 1));
}

fn connections_and_grpc_are_checked(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let open = listener.local_addr().expect("its address");
    let refused = Refused::new();
    let nobody = refused.address();
    let serving = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&serving);
    let grpc = millrace_support::h2::Upstream::start(move |_| {
        let status = if script.load(Ordering::Relaxed) { 1 } else { 2 };
        millrace_support::h2::Reply::default()
            .head(200, &[("content-type", "application/grpc")], false)
            .data(&[0, 0, 0, 0, 2, 8, status], false)
            .trailers(&[("grpc-status", "0")])
    });
    plane.ask_health(&specifier(&[
        cluster("tcp", "tcp_health_check: {}", &[locality("one", &[open, nobody])]),
        cluster("grpc", "grpc_health_check: {}", &[locality("one", &[grpc.address()])]),
    ]));
    let _proxy = proxy(subject, &plane);
    wait_report(
        &plane,
        "tcp",
        "one",
        &[(open.port(), HealthStatus::Healthy, None), (nobody.port(), HealthStatus::Unhealthy, None)],
    );
    wait_report(&plane, "grpc", "one", &[(grpc.address().port(), HealthStatus::Healthy, None)]);
    serving.store(false, Ordering::Relaxed);
    wait_report(&plane, "grpc", "one", &[(grpc.address().port(), HealthStatus::Unhealthy, None)]);
}

fn transport_sockets_are_matched(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let (plain, behind) = (Upstream::fixed("x"), Upstream::fixed("x"));
    let authority = authority::shared();
    let identity = authority.issue(&Leaf::dns("checked.test"));
    let secure = Server::start(TlsOptions::new(&identity, behind.address()));
    let tls = format!(
        "transport_socket_matches: [{{name: secure, match: {{mtls: \"on\"}}, transport_socket: {{name: \
         envoy.transport_sockets.tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: checked.test, \
         common_tls_context: {{validation_context: {{trusted_ca: {{inline_string: {}}}}}}}}}}}}}]",
        serde_json::Value::from(authority.pem())
    );
    let one = |name: &str, criteria: &str, at: SocketAddr| {
        let mut all = cluster(name, &format!("{HTTP}{criteria}"), &[locality("one", &[at])]);
        all.truncate(all.len() - 1);
        format!("{all}, {tls}}}")
    };
    let secured = ", transport_socket_match_criteria: {mtls: \"on\"}";
    plane.ask_health(&specifier(&[
        one("secure", secured, secure.address()),
        one("plain", "", plain.address()),
    ]));
    let _proxy = proxy(subject, &plane);
    wait_report(&plane, "plain", "one", &[healthy(&plain)]);
    wait_report(&plane, "secure", "one", &[(secure.address().port(), HealthStatus::Healthy, Some(200))]);
    assert_eq!(secure.wait_seen(0).name.as_deref(), Some("checked.test"));
}

/// A cluster of traffic has the same name, and its endpoint is not checked.
fn clusters_of_traffic_are_others(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let (serving, status) = changing();
    status.store(503, Ordering::Relaxed);
    let checked = specifier(&[
        cluster("up", HTTP, &[locality("one", &[serving.address()])]),
        // A name that was there is not taken again.
        cluster("up", HTTP, &[locality("two", &[serving.address()])]),
    ]);
    plane.ask_health(&checked);
    let source = Flavor::AdsSotw.api_config_source("xds");
    let bootstrap = Bootstrap::new().top(yaml::NODE).top(&format!("hds_config: {source}\n"));
    let bootstrap = bootstrap.http(Http::to("up")).cluster("up", &[serving.address()], "");
    let proxy = Proxy::start(subject, &yaml::plane_cluster(bootstrap, "xds", &plane));
    let port = serving.address().port();
    wait_report(&plane, "up", "one", &[(port, HealthStatus::Unhealthy, Some(503))]);
    assert!(report(&plane, 0).is_some_and(|all| all.len() == 1), "one cluster of a name");
    status.store(200, Ordering::Relaxed);
    assert_eq!(proxy.client().get("/").status, 200);
    wait_report(&plane, "up", "one", &[(port, HealthStatus::Healthy, Some(200))]);
    let text = proxy.admin_get("/clusters").text();
    assert!(text.contains(&format!("up::127.0.0.1:{port}::health_flags::healthy")), "{text}");
}

fn endpoints_say_where_they_are_checked(subject: &Subject) {
    let plane = ControlPlane::start(Options::default());
    let (good, never) = (Upstream::fixed("x"), Upstream::fixed("x"));
    let refused = Refused::new();
    let nobody = refused.address();
    let elsewhere = format!(", health_check_config: {{port_value: {}}}", good.address().port());
    let disabled = ", health_check_config: {disable_active_health_check: true}";
    let endpoints = [endpoint(nobody, &elsewhere), endpoint(never.address(), disabled)].join(", ");
    plane.ask_health(&specifier(&[cluster("a", HTTP, &[format!("{{endpoints: [{endpoints}]}}")])]));
    let _proxy = proxy(subject, &plane);
    wait_report(&plane, "a", "", &[(nobody.port(), HealthStatus::Healthy, Some(200))]);
    let checks = good.requests().len();
    wait::for_true("more checks", || good.requests().len() > checks + 3);
    assert!(never.requests().is_empty(), "it is neither checked nor reported");
}
