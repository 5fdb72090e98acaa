//! The TCP proxy: bytes both ways, ends of stream, failures.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Bootstrap;
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::rng::{BodyHash, Rng};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Blackhole, Refused, Role, TcpUpstream};

pub(crate) const CASES: &[Case] = &[
    case!(echo),
    case!(bulk_up),
    case!(bulk_down),
    case!(bulk_both_ways_at_once),
    case!(client_half_close),
    case!(upstream_half_close),
    case!(upstream_reset_reaches_the_client),
    case!(client_reset_reaches_the_upstream),
    case!(idle_timeout),
    case!(connection_refused),
    case!(second_endpoint_after_a_refusal),
    case!(pauses_between_attempts),
    case!(longest_connections_have_a_jitter),
    case!(connect_timeout),
    case!(weighted_clusters),
    case!(many_connections),
    case!(bytes_end_connections_that_drain),
    case!(connections_that_drain_go_on_by_default),
];

const TO_UP: &str = "cluster: up";

fn start(subject: &Subject, upstream: &TcpUpstream, fields: &str) -> Proxy {
    let bootstrap = Bootstrap::new().tcp("main", fields).cluster("up", &[upstream.address()], "");
    Proxy::start(subject, &bootstrap)
}

fn echo(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    for n in 0..10 {
        let message = format!("message {n}");
        client.send(message.as_bytes());
        assert_eq!(client.wire().exact(message.len(), "echo"), Ok(message.into_bytes()));
    }
    client.finish_sending();
    assert_eq!(client.end(), End::Closed(Vec::new()));
    let line = proxy.log().line(0);
    assert_eq!((line.get("rx"), line.get("tx"), line.get("flags")), ("90", "90", "-"));
    assert_eq!((line.get("cluster"), line.get("code")), ("up", "0"));
    proxy.wait_stat("tcp.main.downstream_cx_total", 1);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
}

fn bulk_up(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Sink);
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    let bytes = Rng::new(21).bytes(24 << 20);
    client.send(&bytes);
    client.finish_sending();
    assert_eq!(client.end(), End::Closed(BodyHash::of(&bytes).hex().into_bytes()));
    assert_eq!(upstream.received(), 24 << 20);
}

fn bulk_down(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Source(24 << 20));
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    let End::Closed(bytes) = client.end() else { unreachable!("the source ends with FIN") };
    assert_eq!(bytes.len(), 24 << 20);
    assert_eq!(BodyHash::of(&bytes), BodyHash::of(&Rng::new(1).bytes(24 << 20)));
}

fn bulk_both_ways_at_once(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    let bytes = Rng::new(22).bytes(8 << 20);
    let mut writer = client.wire().stream().try_clone().expect("a second handle");
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        writer.write_all(&sent).and_then(|()| writer.shutdown(std::net::Shutdown::Write))
    });
    let End::Closed(back) = client.end() else { unreachable!("the echo ends with FIN") };
    assert!(writing.join().is_ok_and(|r| r.is_ok()));
    assert!(back == bytes);
}

fn client_half_close(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Sink);
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    client.send(b"all there is");
    client.finish_sending();
    assert_eq!(client.end(), End::Closed(BodyHash::of(b"all there is").hex().into_bytes()));
    // Who closes its half last is who closed.
    proxy.wait_stat("cluster.up.upstream_cx_destroy_remote_with_active_rq", 1);
    proxy.wait_stat("cluster.up.upstream_cx_destroy_remote", 1);
}

fn upstream_half_close(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::FinishFirst);
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    assert_eq!(client.wire().exact(8, "greeting"), Ok(b"greeting".to_vec()));
    assert_eq!(client.end(), End::Closed(Vec::new()));
    // The client's own direction is still open.
    std::thread::sleep(Duration::from_millis(100));
    client.send(b"and more");
    client.finish_sending();
    millrace_support::wait::for_true("the late bytes", || upstream.received() == 8);
    proxy.wait_stat("cluster.up.upstream_cx_destroy_local_with_active_rq", 1);
    proxy.wait_stat("cluster.up.upstream_cx_destroy_local", 1);
}

fn upstream_reset_reaches_the_client(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Reset);
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    client.send(b"x");
    assert!(matches!(client.end(), End::Reset | End::Closed(_)));
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    proxy.wait_stat("tcp.main.downstream_cx_total", 1);
}

fn client_reset_reaches_the_upstream(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Silent);
    let proxy = start(subject, &upstream, TO_UP);
    let mut client = proxy.client();
    client.send(b"x");
    proxy.wait_stat("cluster.up.upstream_cx_active", 1);
    client.reset();
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
}

fn idle_timeout(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let proxy = start(subject, &upstream, "cluster: up\nidle_timeout: 0.4s");
    let mut client = proxy.client();
    for _ in 0..4 {
        client.send(b"x");
        assert!(client.wire().exact(1, "echo").is_ok());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(client.end(), End::Closed(Vec::new()));
    proxy.wait_stat("tcp.main.idle_timeout", 1);
}

fn connection_refused(subject: &Subject) {
    let nobody = Refused::new();
    let bootstrap = Bootstrap::new().tcp("main", TO_UP).cluster("up", &[nobody.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    assert!(matches!(client.end(), End::Closed(_) | End::Reset));
    let line = proxy.log().line(0);
    assert_eq!(line.get("flags"), "UF,URX");
    proxy.wait_stat("cluster.up.upstream_cx_connect_fail", 1);
}

fn second_endpoint_after_a_refusal(subject: &Subject) {
    let (nobody, upstream) = (Refused::new(), TcpUpstream::start(Role::Echo));
    let bootstrap = Bootstrap::new().tcp("main", "cluster: up\nmax_connect_attempts: 3").cluster(
        "up",
        &[nobody.address(), upstream.address()],
        "",
    );
    let proxy = Proxy::start(subject, &bootstrap);
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send(b"x");
        assert_eq!(client.wire().exact(1, "echo"), Ok(b"x".to_vec()));
    }
}

fn pauses_between_attempts(subject: &Subject) {
    let (nobody, upstream) = (Refused::new(), TcpUpstream::start(Role::Echo));
    let pauses = |attempts: u32| {
        format!(
            "cluster: up\nmax_connect_attempts: {attempts}\n\
             backoff_options: {{base_interval: 0.4s, max_interval: 0.5s}}"
        )
    };
    let endpoints = [nobody.address(), upstream.address()];
    let proxy =
        Proxy::start(subject, &Bootstrap::new().tcp("main", &pauses(30)).cluster("up", &endpoints, ""));
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..12).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(b"x");
        assert_eq!(client.wire().exact(1, "echo"), Ok(b"x".to_vec()));
    }
    // Half of them wait once, at random below the first interval: that all are short is as likely as 1 in 4,000.
    assert!(began.elapsed() > Duration::from_millis(100), "{:?}", began.elapsed());
    drop(clients);
    let nowhere = Bootstrap::new().tcp("main", &pauses(4)).cluster("up", &[nobody.address()], "");
    let proxy = Proxy::start(subject, &nowhere);
    assert!(matches!(proxy.client().end(), End::Closed(_) | End::Reset));
    assert_eq!(proxy.log().line(0).get("flags"), "UF,URX");
    proxy.wait_stat("cluster.up.upstream_cx_connect_fail", 4);
    proxy.wait_stat("cluster.up.upstream_cx_connect_attempts_exceeded", 1);
}

fn longest_connections_have_a_jitter(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let fields = "cluster: up\nmax_downstream_connection_duration: 0.6s\n\
                  max_downstream_connection_duration_jitter_percentage: {value: 100}";
    let proxy = start(subject, &upstream, fields);
    let mut clients: Vec<Client> = (0..16).map(|_| proxy.client()).collect();
    let began = Instant::now();
    let ends = clients.iter_mut().map(|client| {
        assert!(matches!(client.end(), End::Closed(_) | End::Reset));
        began.elapsed()
    });
    let last = ends.max().unwrap_or_default();
    // All within the first third of what may be: 1 in 40 million.
    assert!(last > Duration::from_millis(800) && last < Duration::from_secs(5), "{last:?}");
    proxy.wait_stat("tcp.main.max_downstream_connection_duration", 16);
    assert_eq!(proxy.log().line(0).get("flags"), "DT");
}

fn connect_timeout(subject: &Subject) {
    let hole = Blackhole::new();
    let bootstrap =
        Bootstrap::new().tcp("main", TO_UP).cluster("up", &[hole.address()], "connect_timeout: 0.3s");
    let proxy = Proxy::start(subject, &bootstrap);
    assert!(matches!(proxy.client().end(), End::Closed(_) | End::Reset));
    proxy.wait_stat("cluster.up.upstream_cx_connect_timeout", 1);
}

fn weighted_clusters(subject: &Subject) {
    let (a, b) = (TcpUpstream::start(Role::FinishFirst), TcpUpstream::start(Role::FinishFirst));
    let fields = "weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 1}]}";
    let bootstrap = Bootstrap::new().tcp("main", fields).cluster("a", &[a.address()], "").cluster(
        "b",
        &[b.address()],
        "",
    );
    let proxy = Proxy::start(subject, &bootstrap);
    for _ in 0..60 {
        assert_eq!(proxy.client().wire().exact(8, "greeting"), Ok(b"greeting".to_vec()));
    }
    assert_eq!(a.connections() + b.connections(), 60);
    assert!(a.connections() > 5 && b.connections() > 5, "{} and {}", a.connections(), b.connections());
}

fn many_connections(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let bootstrap = Bootstrap::new().tcp("main", TO_UP).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "2"]);
    let target = proxy.listener("main");
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(target)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(format!("{n:08}").as_bytes());
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.wire().exact(8, "echo"), Ok(format!("{n:08}").into_bytes()));
    }
    drop(clients);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(proxy.stat("tcp.main.downstream_cx_total"), Some(200));
}

/// Connections that have echoed, before and after the proxy is told to drain.
fn draining(subject: &Subject, fields: &str) -> (TcpUpstream, Proxy, [Client; 2]) {
    let upstream = TcpUpstream::start(Role::Echo);
    let proxy = start(subject, &upstream, fields);
    let clients = [(); 2].map(|()| {
        let mut client = proxy.client();
        client.send(b"before");
        assert!(client.wire().exact(6, "echo").is_ok());
        client
    });
    assert_eq!(proxy.admin_post("/healthcheck/fail").text(), "OK\n");
    (upstream, proxy, clients)
}

fn bytes_end_connections_that_drain(subject: &Subject) {
    let (_upstream, proxy, [mut busy, mut idle]) = draining(subject, "cluster: up\ncheck_drain_close: true");
    busy.send(b"after");
    assert_eq!(busy.end(), End::Closed(Vec::new()));
    let line = proxy.log().line(0);
    assert_eq!((line.get("rx"), line.get("tx"), line.get("flags")), ("11", "6", "-"));
    // Nobody looks at what says nothing.
    assert_eq!(proxy.stat("tcp.main.downstream_cx_drain_close"), Some(1));
    assert_eq!(proxy.stat("tcp.main.downstream_cx_total"), Some(2));
    assert_eq!(proxy.admin_post("/healthcheck/ok").text(), "OK\n");
    idle.send(b"later");
    assert_eq!(idle.wire().exact(5, "echo"), Ok(b"later".to_vec()));
}

fn connections_that_drain_go_on_by_default(subject: &Subject) {
    let (_upstream, proxy, [mut first, _second]) = draining(subject, "cluster: up");
    first.send(b"after");
    assert_eq!(first.wire().exact(5, "echo"), Ok(b"after".to_vec()));
    assert_eq!(proxy.stat("tcp.main.downstream_cx_drain_close"), Some(0));
}
