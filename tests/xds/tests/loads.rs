//! Load reports: what a control plane is told of the requests to each cluster, locality and endpoint.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millrace_e2e::{Case, case};
use millrace_proto::pb::envoy::config::core::v3::address::Address;
use millrace_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use millrace_proto::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamEndpointStats};
use millrace_proto::pb::envoy::service::load_stats::v3::LoadStatsResponse;
use millrace_proto::pb::google::protobuf;
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Code, ControlPlane, Resource, Type, from_yaml};
use millrace_xds_tests::{World, get, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(requests_by_locality_and_endpoint),
    case!(requests_in_progress),
    case!(metrics_that_endpoints_report_of_themselves),
    case!(requests_that_a_circuit_breaker_turns_away),
    case!(requests_that_the_control_plane_has_dropped),
    case!(all_clusters_and_named_ones),
    case!(a_stream_that_ends_is_opened_again),
    case!(endpoints_that_left_are_not_forgotten),
];

/// `cluster_manager` of a bootstrap whose control plane wants load reports.
const LOADS: &str = "cluster_manager: {load_stats_config: {api_type: GRPC, transport_api_version: V3, \
                     grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}";

/// Every 200 ms.
fn every() -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds: 0, nanos: 200_000_000 })
}

fn ask(cluster: &str) -> LoadStatsResponse {
    LoadStatsResponse {
        clusters: vec![cluster.to_owned()],
        load_reporting_interval: every(),
        report_endpoint_granularity: true,
        ..LoadStatsResponse::default()
    }
}

/// A subject that reports its load and forwards.
#[track_caller]
fn proxy(world: &World, subject: &Subject) -> Proxy {
    let bootstrap = yaml::bootstrap_with(&world.plane, world.flavor, "").top(LOADS);
    let proxy = Proxy::start(subject, &bootstrap);
    proxy.wait_listener("main");
    world.settle();
    proxy
}

/// Asks, and waits for a report, so that requests from now on are counted.
#[track_caller]
fn counting(plane: &ControlPlane, ask: &LoadStatsResponse, cluster: &str) {
    let mark = plane.mark();
    plane.ask_loads(ask);
    wait::for_true("a first report", || !plane.loads_of(mark, cluster).is_empty());
}

/// Issued, successful and failed requests.
type Sums = (u64, u64, u64);

fn add(sums: &mut Sums, (issued, success, error): Sums) {
    *sums = (sums.0 + issued, sums.1 + success, sums.2 + error);
}

/// By zone and priority, over all reports after the mark.
fn by_locality(plane: &ControlPlane, mark: usize, cluster: &str) -> BTreeMap<(String, u32), Sums> {
    let mut sums = BTreeMap::new();
    for l in plane.loads_of(mark, cluster).into_iter().flat_map(|stats| stats.upstream_locality_stats) {
        let zone = l.locality.map(|locality| locality.zone).unwrap_or_default();
        let counted = (l.total_issued_requests, l.total_successful_requests, l.total_error_requests);
        add(sums.entry((zone, l.priority)).or_default(), counted);
    }
    sums
}

fn total(plane: &ControlPlane, mark: usize, cluster: &str) -> Sums {
    let mut sums = Sums::default();
    by_locality(plane, mark, cluster).into_values().for_each(|more| add(&mut sums, more));
    sums
}

fn port(endpoint: &UpstreamEndpointStats) -> u32 {
    match endpoint.address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => match &socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => *port,
            Some(PortSpecifier::NamedPort(_)) | None => 0,
        },
        Some(_) | None => 0,
    }
}

/// By port of the endpoint, over all reports after the mark.
fn by_endpoint(plane: &ControlPlane, mark: usize, cluster: &str) -> BTreeMap<u32, Sums> {
    let mut sums = BTreeMap::new();
    let localities =
        plane.loads_of(mark, cluster).into_iter().flat_map(|stats| stats.upstream_locality_stats);
    for e in localities.flat_map(|locality| locality.upstream_endpoint_stats) {
        let counted = (e.total_issued_requests, e.total_successful_requests, e.total_error_requests);
        add(sums.entry(port(&e)).or_default(), counted);
    }
    sums
}

/// Answers 500 to `/bad`, 404 to `/missing` and 200 to all else.
fn picky() -> Upstream {
    Upstream::start(|request| match request.target.as_str() {
        "/bad" => Reply::status(500),
        "/missing" => Reply::status(404),
        _ => Reply::ok("one"),
    })
}

/// Two localities of the highest priority with an endpoint each, and one of the next.
fn three_localities(service: &str, endpoints: [SocketAddr; 3]) -> String {
    let one = |zone: &str, priority: u32, at: SocketAddr| {
        format!(
            "{{locality: {{region: r, zone: {zone}}}, priority: {priority}, lb_endpoints: [{{endpoint: {{address: \
             {{socket_address: {{address: \"{}\", port_value: {}}}}}}}}}]}}",
            at.ip(),
            at.port()
        )
    };
    let [a, b, c] = endpoints;
    format!(
        "{{cluster_name: {service}, endpoints: [{}, {}, {}]}}",
        one("a", 0, a),
        one("b", 0, b),
        one("c", 1, c)
    )
}

fn requests_by_locality_and_endpoint(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::Delta] {
        let (a, b) = (picky(), picky());
        let world = World::start(flavor);
        world.plane.update(|change| {
            let source = flavor.config_source();
            let text = format!(
                "name: up\ntype: EDS\neds_cluster_config: {{eds_config: {source}, service_name: service}}\n"
            );
            change.set(from_yaml(Type::Cluster, &text));
            let load = three_localities("service", [a.address(), b.address(), world.upstream.address()]);
            change.set(from_yaml(Type::Endpoint, &load));
        });
        let proxy = proxy(&world, subject);
        let first = world.plane.load_reports(0).into_iter().next();
        let (_, first) = first.expect("a first message before anything is asked");
        let node = first.node.expect("a node");
        assert_eq!((&*node.id, first.cluster_stats.len()), ("sidecar-1", 0));
        assert_eq!(node.client_features, ["envoy.lrs.supports_send_all_clusters"]);
        // Not counted, because nobody has asked.
        assert_eq!(get(&proxy), (200, "one".into()));
        counting(&world.plane, &ask("up"), "up");
        let mark = world.plane.mark();
        let mut client = proxy.client();
        for (target, status) in
            [("/", 200), ("/bad", 500), ("/missing", 404), ("/", 200), ("/bad", 500), ("/", 200)]
        {
            assert_eq!(client.get(target).status, status);
        }
        wait::for_true("every request to be reported", || total(&world.plane, mark, "up") == (6, 4, 2));
        // Round robin: each has three of them, and the lower priority has none.
        let localities = by_locality(&world.plane, mark, "up");
        let zones: Vec<_> =
            localities.iter().map(|((zone, priority), sums)| (&**zone, *priority, sums.0)).collect();
        assert_eq!(zones, [("a", 0, 3), ("b", 0, 3)]);
        let endpoints = by_endpoint(&world.plane, mark, "up");
        assert_eq!(endpoints[&u32::from(a.address().port())], localities[&("a".to_owned(), 0)]);
        assert_eq!(endpoints[&u32::from(b.address().port())], localities[&("b".to_owned(), 0)]);
        let stats: Vec<ClusterStats> = world.plane.loads_of(mark, "up");
        assert!(stats.iter().all(|s| s.cluster_service_name == "service" && s.total_dropped_requests == 0));
        let interval = stats[0]
            .load_report_interval
            .as_ref()
            .map(|d| d.seconds.cast_unsigned() * 1000 + u64::from(d.nanos.cast_unsigned()) / 1_000_000);
        assert!(interval.is_some_and(|ms| (190..10_000).contains(&ms)), "{interval:?}");
        assert_eq!(proxy.stat("load_reporter.requests"), Some(1));
        assert!(proxy.stat("load_reporter.responses").unwrap_or(0) >= 3);
        assert_eq!(proxy.stat("load_reporter.errors"), Some(0));
        assert_eq!(proxy.stat("load_reporter.retries"), Some(0));
        // Who has sent nothing says so by saying nothing of localities.
        let quiet = world.plane.mark();
        wait::for_true("a quiet report", || {
            let last = world.plane.loads_of(quiet, "up").pop();
            last.is_some_and(|stats| stats.upstream_locality_stats.is_empty())
        });
    }
}

/// Answers when it is told to.
fn held() -> (Upstream, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&go);
    let upstream = Upstream::start(move |_| {
        let _ = wait::until(wait::PATIENCE, || may.load(Ordering::SeqCst).then_some(()));
        Reply::ok("late")
    });
    (upstream, go)
}

/// By zone ("" for all of them) and metric, over all reports after the mark: responses that had it and their sum.
fn metrics(plane: &ControlPlane, mark: usize) -> BTreeMap<(String, String), (u64, f64)> {
    let mut sums = BTreeMap::new();
    for l in plane.loads_of(mark, "up").into_iter().flat_map(|stats| stats.upstream_locality_stats) {
        let zone = l.locality.map(|locality| locality.zone).unwrap_or_default();
        let ends = l.upstream_endpoint_stats.into_iter().flat_map(|e| e.load_metric_stats);
        let all = l.load_metric_stats.into_iter().map(|stat| (zone.clone(), stat));
        for (zone, stat) in all.chain(ends.map(|stat| (String::new(), stat))) {
            let sum: &mut (u64, f64) = sums.entry((zone, stat.metric_name)).or_default();
            *sum = (sum.0 + stat.num_requests_finished_with_metric, sum.1 + stat.total_metric_value);
        }
    }
    sums
}

fn metrics_that_endpoints_report_of_themselves(subject: &Subject) {
    let says = |value: &'static str| {
        let field = ("endpoint-load-metrics", value);
        Upstream::start(move |_| Reply::with(200, &[field], b"x"))
    };
    let a = says("TEXT cpu_utilization=0.5,named_metrics.q=2,named_metrics.r=1,eps=3");
    let b = says("TEXT cpu_utilization=0.25,mem_utilization=0.75");
    let flavor = Flavor::AdsSotw;
    let world = World::start(flavor);
    world.plane.update(|change| {
        let source = flavor.config_source();
        let text = format!(
            "name: up\ntype: EDS\neds_cluster_config: {{eds_config: {source}, service_name: service}}\n\
             lrs_report_endpoint_metrics: [cpu_utilization, named_metrics.*, request_cost.x]\n"
        );
        change.set(from_yaml(Type::Cluster, &text));
        let load = three_localities("service", [a.address(), b.address(), world.upstream.address()]);
        change.set(from_yaml(Type::Endpoint, &load));
    });
    let proxy = proxy(&world, subject);
    counting(&world.plane, &ask("up"), "up");
    let mark = world.plane.mark();
    for _ in 0..8 {
        assert_eq!(get(&proxy), (200, "x".into()));
    }
    let found = wait::until(wait::PATIENCE, || {
        let sums = metrics(&world.plane, mark);
        let cpu = (String::new(), "cpu_utilization".to_owned());
        (sums.get(&cpu).is_some_and(|sum| sum.0 == 8)).then_some(sums)
    });
    let key = |zone: &str, name: &str| (zone.to_owned(), name.to_owned());
    let expected = BTreeMap::from([
        (key("", "cpu_utilization"), (8, 3.0)),
        (key("", "named_metrics.q"), (4, 8.0)),
        (key("", "named_metrics.r"), (4, 4.0)),
        (key("a", "cpu_utilization"), (4, 2.0)),
        (key("a", "named_metrics.q"), (4, 8.0)),
        (key("a", "named_metrics.r"), (4, 4.0)),
        (key("b", "cpu_utilization"), (4, 1.0)),
    ]);
    assert_eq!(found, Some(expected), "{:?}", metrics(&world.plane, mark));
}

fn requests_in_progress(subject: &Subject) {
    let (slow, go) = held();
    let world = World::start(Flavor::AdsSotw);
    world.plane.set(yaml::endpoints("up", &[slow.address()]));
    let proxy = proxy(&world, subject);
    counting(&world.plane, &ask("up"), "up");
    let mark = world.plane.mark();
    let mut client = Client::connect(proxy.listener("main"));
    client.request("GET", "/", &[("host", "test.local")], b"");
    // Twice: it is issued once, and in progress as long as it takes.
    wait::for_true("the request in progress in two reports", || {
        let reports = world.plane.loads_of(mark, "up");
        let busy = reports.iter().flat_map(|stats| &stats.upstream_locality_stats);
        busy.filter(|locality| locality.total_requests_in_progress == 1).count() >= 2
    });
    assert_eq!(total(&world.plane, mark, "up"), (1, 0, 0));
    go.store(true, Ordering::SeqCst);
    assert_eq!(client.response("GET").map(|r| r.status).ok(), Some(200));
    wait::for_true("the end to be reported", || total(&world.plane, mark, "up") == (1, 1, 0));
}

fn requests_that_a_circuit_breaker_turns_away(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let none = "circuit_breakers: {thresholds: [{max_pending_requests: 0}]}\n";
    world.plane.set(yaml::eds_cluster("up", world.flavor, none));
    let proxy = proxy(&world, subject);
    counting(&world.plane, &ask("up"), "up");
    let mark = world.plane.mark();
    for _ in 0..3 {
        assert_eq!(get(&proxy).0, 503);
    }
    wait::for_true("what was turned away to be reported", || {
        world.plane.loads_of(mark, "up").iter().map(|stats| stats.total_dropped_requests).sum::<u64>() == 3
    });
}

/// An assignment of this endpoint, and of one in reserve if `more`, with this policy.
fn dropping(endpoint: SocketAddr, policy: &str, more: bool) -> Resource {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    let reserve = "{priority: 1, lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}}}]}";
    let reserve = if more { reserve } else { "" };
    let text = format!(
        "{{cluster_name: up, policy: {{{policy}}}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: \
         {{socket_address: {{address: \"{ip}\", port_value: {port}}}}}}}}}]}}, {reserve}]}}"
    );
    from_yaml(Type::Endpoint, &text)
}

fn requests_that_the_control_plane_has_dropped(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::Delta] {
        let world = World::start(flavor);
        let proxy = proxy(&world, subject);
        counting(&world.plane, &ask("up"), "up");
        assert_eq!(get(&proxy), (200, "one".into()));
        let mark = world.plane.mark();
        let all = "drop_overloads: [{category: throttle, drop_percentage: {numerator: 100}}]";
        world.plane.set(dropping(world.upstream.address(), all, true));
        wait::for_true("requests to be dropped", || {
            get(&proxy) == (503, "unconditional drop overload".into())
        });
        for _ in 0..3 {
            assert_eq!(get(&proxy).0, 503);
        }
        let reports = || -> Vec<ClusterStats> { world.plane.loads_of(mark, "up") };
        wait::for_true("what was dropped to be reported", || {
            reports().iter().map(|stats| stats.total_dropped_requests).sum::<u64>() == 4
        });
        let by_category: Vec<_> = reports().into_iter().flat_map(|stats| stats.dropped_requests).collect();
        assert!(by_category.iter().all(|dropped| dropped.category == "throttle"), "{by_category:?}");
        assert_eq!(by_category.iter().map(|dropped| dropped.dropped_count).sum::<u64>(), 4);
        // Envoy does not apply another policy alone.
        world.plane.set(dropping(world.upstream.address(), "", !subject.is_envoy()));
        wait::for_true("requests to be served again", || get(&proxy) == (200, "one".into()));
        // What Envoy cannot serve is refused, and the last one goes on.
        let refused = world.plane.mark();
        let two = "drop_overloads: [{category: a}, {category: b}]";
        world.plane.set(dropping(world.upstream.address(), two, true));
        let _ = world.plane.wait_nack(refused, Type::Endpoint);
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}

fn all_clusters_and_named_ones(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    world.plane.set(yaml::static_cluster("other", &[world.upstream.address()], ""));
    let proxy = proxy(&world, subject);
    let all = LoadStatsResponse {
        send_all_clusters: true,
        load_reporting_interval: every(),
        ..LoadStatsResponse::default()
    };
    counting(&world.plane, &all, "other");
    let mark = world.plane.mark();
    assert_eq!(get(&proxy), (200, "one".into()));
    wait::for_true("the request to be reported", || total(&world.plane, mark, "up") == (1, 1, 0));
    assert!(by_endpoint(&world.plane, mark, "up").is_empty(), "endpoints were not asked for");
    assert_eq!(total(&world.plane, mark, "other"), (0, 0, 0));
    // The last word counts.
    counting(&world.plane, &ask("other"), "other");
    let mark = world.plane.mark();
    assert_eq!(get(&proxy), (200, "one".into()));
    wait::for_true("two more reports", || world.plane.loads_of(mark, "other").len() >= 2);
    assert!(world.plane.loads_of(mark, "up").is_empty());
    assert_eq!(proxy.stat("load_reporter.requests"), Some(2));
}

fn a_stream_that_ends_is_opened_again(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = proxy(&world, subject);
    counting(&world.plane, &ask("up"), "up");
    let mark = world.plane.mark();
    world.plane.end_streams(Code::Unavailable, "restart");
    // Counting goes on while nobody listens.
    assert_eq!(get(&proxy), (200, "one".into()));
    wait::for_true("the request to be reported on a new stream", || {
        total(&world.plane, mark, "up") == (1, 1, 0)
    });
    assert_eq!(proxy.stat("load_reporter.retries"), Some(1));
    assert_eq!(proxy.stat("load_reporter.errors"), Some(1));
    let streams: std::collections::BTreeSet<u64> =
        world.plane.load_reports(0).iter().map(|(stream, _)| *stream).collect();
    assert_eq!(streams.len(), 2);
}

/// Envoy reports what is in the cluster when the report is made.
fn endpoints_that_left_are_not_forgotten(subject: &Subject) {
    if subject.is_envoy() {
        println!("skipped: Envoy does not report endpoints that left");
        return;
    }
    let world = World::start(Flavor::AdsSotw);
    let proxy = proxy(&world, subject);
    let slowly = LoadStatsResponse {
        load_reporting_interval: Some(protobuf::Duration { seconds: 2, nanos: 0 }),
        ..ask("up")
    };
    counting(&world.plane, &slowly, "up");
    let mark = world.plane.mark();
    assert_eq!(get(&proxy), (200, "one".into()));
    let two = Upstream::fixed("two");
    world.plane.set(yaml::endpoints("up", &[two.address()]));
    wait_get(&proxy, 200, "two");
    wait::for_true("both endpoints to be reported", || {
        let endpoints = by_endpoint(&world.plane, mark, "up");
        let of = |upstream: &Upstream| {
            endpoints.get(&u32::from(upstream.address().port())).map_or(0, |sums| sums.1)
        };
        of(&world.upstream) >= 1 && of(&two) == 1
    });
}
