//! Active health checks on the simulated network: endpoints that hang, reset and flap, on one shard and on two.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Address, Cluster, ClusterId, Endpoint, HeaderMutations, HealthCheck, HealthCheckIntervals,
    HealthCheckKind, HttpHealthCheck, Snapshot, TcpHealthCheck, Update,
};
use millrace_ring::sim::Peer;
use millrace_shard::Members;
use millrace_shard::shared::Message;
use millrace_sim::bed::{Bed, SOON};
use millrace_sim::fixture::Mode;
use millrace_sim::tls::Tls;

const INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(50);
const ID: ClusterId = ClusterId(0);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

fn check(kind: HealthCheckKind) -> HealthCheck {
    HealthCheck {
        fingerprint: 1,
        timeout: TIMEOUT,
        intervals: HealthCheckIntervals {
            interval: INTERVAL,
            no_traffic: INTERVAL,
            no_traffic_healthy: INTERVAL,
            unhealthy: INTERVAL,
            unhealthy_edge: INTERVAL,
            healthy_edge: INTERVAL,
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
        },
        unhealthy_threshold: 2,
        healthy_threshold: 2,
        reuse_connection: true,
        always_log_failures: false,
        always_log_success: false,
        event_logs: Vec::new(),
        alpn: None,
        transport_match: None,
        kind,
        ignore_health_on_removal: false,
        ignore_new_hosts: false,
    }
}

fn http() -> HealthCheckKind {
    HealthCheckKind::Http(Box::new(HttpHealthCheck {
        host: "".into(),
        path: "/hc".into(),
        method: "GET",
        send: Vec::new(),
        receive: vec![b"ok".to_vec()],
        response_bytes: None,
        headers: HeaderMutations::default(),
        expected: vec![(200, 201)],
        retriable: Vec::new(),
        http2: false,
        service_name: None,
    }))
}

fn checked(snapshot: &mut Snapshot, kind: HealthCheckKind) {
    let mut cluster = Cluster::clone(snapshot.cluster(ID).expect("the cluster"));
    cluster.health_check = Some(Arc::new(check(kind)));
    snapshot.clusters = vec![Some(Arc::new(cluster))];
}

fn bed(shards: usize, kind: HealthCheckKind) -> Bed {
    Bed::new(Mode::Http, shards, |snapshot| checked(snapshot, kind))
}

fn healthy(bed: &Bed) -> bool {
    let Members { total, healthy, .. } = bed.shared.members(bed.snapshot.cluster(ID).expect("the cluster"));
    assert_eq!(total, 1);
    healthy == 1
}

/// Ends the connections that the endpoint has.
fn end_all(bed: &mut Bed, end: fn(&millrace_sim::net::Net, Peer)) {
    for peer in std::mem::take(&mut bed.servers) {
        end(&bed.net, peer);
    }
}

#[test]
fn an_endpoint_that_hangs_fails_and_is_cured_in_time() {
    let mut bed = bed(1, http());
    bed.run(SOON);
    assert!(healthy(&bed), "the first check passes it");
    bed.silent = true;
    bed.run(INTERVAL + TIMEOUT);
    assert!(healthy(&bed), "one failure is not enough");
    bed.run((INTERVAL + TIMEOUT) * 2);
    assert!(!healthy(&bed));
    bed.silent = false;
    bed.run(INTERVAL * 4);
    assert!(healthy(&bed));
    bed.asserts_nothing_left();
    assert_eq!(
        bed.servers.len(),
        1 + 2 + 1,
        "each check that is late costs its connection, and no other does"
    );
}

#[test]
fn resets_fail_and_a_reused_connection_is_one() {
    let mut bed = bed(1, http());
    bed.run(Duration::from_secs(1));
    assert_eq!((bed.servers.len(), healthy(&bed)), (1, true), "ten checks, one connection");
    // Between two checks an end tells nothing.
    end_all(&mut bed, |net, peer| net.reset(peer));
    bed.run(INTERVAL * 2);
    assert_eq!((bed.servers.len(), healthy(&bed)), (1, true));
    bed.silent = true;
    for _ in 0..40 {
        bed.run(SOON);
        end_all(&mut bed, |net, peer| net.reset(peer));
    }
    assert!(!healthy(&bed));
    bed.silent = false;
    bed.run(Duration::from_secs(1));
    assert!(healthy(&bed));
    bed.asserts_nothing_left();
}

#[test]
fn every_shard_leaves_a_failed_endpoint() {
    let mut bed = bed(2, http());
    let (one, two) = (bed.connect(), bed.connect());
    for client in [one, two] {
        assert!(bed.ask(client, REQUEST).starts_with("HTTP/1.1 200"));
    }
    let open =
        |bed: &Bed| -> Vec<usize> { bed.shards.iter().map(|(s, ..)| s.upstream_connections()).collect() };
    assert_eq!(open(&bed), [1, 1]);
    for _ in 0..3 {
        bed.silent = true;
        bed.run(Duration::from_millis(500));
        assert_eq!(
            (healthy(&bed), open(&bed)),
            (false, vec![0, 0]),
            "idle connections are closed everywhere"
        );
        bed.silent = false;
        bed.run(Duration::from_millis(500));
        assert!(healthy(&bed));
        for client in [one, two] {
            assert!(bed.ask(client, REQUEST).starts_with("HTTP/1.1 200"));
        }
    }
    [one, two].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}

#[test]
fn payloads_are_asked_for_over_tls_too() {
    let tcp =
        TcpHealthCheck { proxy_protocol: None, send: b"ping".to_vec(), receive: vec![b"ping".to_vec()] };
    for tls in [Tls::default(), Tls::UPSTREAM] {
        let kind = HealthCheckKind::Tcp(tcp.clone());
        let mut bed = Bed::secure(Mode::Http, 1, tls, |snapshot| checked(snapshot, kind));
        bed.run(Duration::from_secs(1));
        assert_eq!((healthy(&bed), bed.servers.len()), (true, 1));
        bed.asserts_nothing_left();
    }
}

#[test]
fn checks_end_with_their_cluster() {
    let mut bed = bed(1, http());
    bed.run(SOON);
    assert!(bed.shared.is_cluster_in_use(ID));
    bed.update(Update { clusters: vec![(ID, None)], ..Update::default() });
    let server = bed.servers[0];
    assert_eq!(bed.read(server), "FIN");
    assert!(!bed.shared.is_cluster_in_use(ID));
    bed.asserts_nothing_left();
    assert_eq!(bed.servers.len(), 1);
}

#[test]
fn a_cluster_is_checked_before_it_serves() {
    let mut bed = Bed::new(Mode::Http, 2, |_| {});
    let mut warming = bed.snapshot.clone();
    checked(&mut warming, http());
    let warming = warming.cluster(ID).cloned().expect("the cluster");
    bed.update(Update { warming: vec![warming.clone()], ..Update::default() });
    assert_eq!(bed.servers.len(), 1, "a check, and no traffic");
    assert_eq!(bed.shared.take_notices().into_iter().collect::<Vec<_>>(), [ID]);
    bed.update(Update { clusters: vec![(ID, Some(warming))], ..Update::default() });
    bed.run(INTERVAL * 5);
    assert_eq!((bed.servers.len(), healthy(&bed)), (1, true), "the checks go on");
    bed.asserts_nothing_left();
}

/// Everything is due at the same moment; nobody listens anywhere, so that a check is over at once.
#[test]
fn ten_thousand_endpoints_are_checked_within_a_second_and_never_at_once() {
    const COUNT: usize = 10_000;
    let address =
        |n: usize| Address::Inet(SocketAddr::from(([10, 9, (n / 250) as u8, (n % 250 + 1) as u8], 80)));
    let addresses: Vec<Address> = (0..COUNT).map(address).collect();
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    let mut cluster = Cluster::clone(bed.snapshot.cluster(ID).expect("the cluster"));
    let template = cluster.localities[0].endpoints[0].clone();
    let endpoint = |address: &Address| Endpoint { address: address.clone(), ..template.clone() };
    cluster.localities[0].endpoints = addresses.iter().map(endpoint).collect();
    let mut own = check(http());
    own.intervals.no_traffic = Duration::from_secs(60);
    cluster.health_check = Some(Arc::new(own));
    let update = Arc::new(Update { warming: vec![Arc::new(cluster)], ..Update::default() });
    bed.tell_all(|_| Message::Update(update.clone()));
    let (mut checked, mut most) = (0, 0);
    for _ in 0..100 {
        bed.run(Duration::from_millis(10));
        let known = bed
            .shared
            .health(ID, |health| addresses.iter().filter(|address| health.is_checked(address, 1)).count());
        let before = std::mem::replace(&mut checked, known.unwrap_or(0));
        most = most.max(checked - before);
    }
    assert_eq!(checked, COUNT);
    assert!((100..400).contains(&most), "{most} within 10 ms");
    assert_eq!(bed.shared.take_notices().into_iter().collect::<Vec<_>>(), [ID]);
    bed.update(Update { clusters: vec![(ID, None)], ..Update::default() });
    bed.asserts_nothing_left();
}
