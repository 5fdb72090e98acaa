//! Control planes that are bad for long, while traffic flows and memory stays bounded. The parts run side by side.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::chaos::{Chaos, Fault, Plan};
use millrace_support::ledger::{self, Running};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Answer, Event, Transport, Type};
use millrace_xds_tests::{World, get, never, wait_get};

pub(crate) const CASES: &[Case] =
    &[case!(dead_or_sick_for_long), case!(a_response_of_a_hundred_megabytes), case!(refusals_without_end)];

/// The largest wait between two attempts is 30 s.
const LONGEST_WAIT: Duration = Duration::from_secs(35);

fn dead_or_sick_for_long(subject: &Subject) {
    let parts: [(&str, fn(&Subject)); 3] =
        [("dead", dead), ("half open", half_open), ("an octet a second", an_octet_a_second)];
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let running = parts.map(|(name, part)| (name, scope.spawn(move || part(subject))));
        running.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// A world whose upstream keeps books, a proxy, and traffic through it.
fn under_load(subject: &Subject, flavor: Flavor) -> (World, Proxy, Running) {
    let mut world = World::start(flavor);
    world.upstream = ledger::upstream();
    world.plane.set(yaml::endpoints("up", &[world.upstream.address()]));
    let proxy = world.proxy(subject);
    let plan = ledger::Plan {
        connections: 2,
        requests: usize::MAX,
        max_body: 5000,
        time: Duration::from_secs(120),
        pause: Duration::from_millis(20),
        ..ledger::Plan::default()
    };
    let running = Running::start(proxy.listener("main"), &plan);
    (world, proxy, running)
}

/// Ends the traffic: nothing was lost and no connection was closed.
fn settle(world: &World, proxy: &Proxy, running: Running) {
    let total = proxy.stat("http.main.downstream_cx_total");
    running.stop();
    let books = running.finish();
    books.assert_all_answered();
    books.assert_exactly_once(&world.upstream);
    assert_eq!(total, Some(2), "connections of the traffic");
}

fn dead(subject: &Subject) {
    let (world, proxy, running) = under_load(subject, Flavor::AdsSotw);
    world.plane.stop();
    never(Duration::from_secs(20), "not ready", || !proxy.is_ready());
    let two = Upstream::fixed("two");
    world.plane.update(|change| {
        change.set(yaml::static_cluster("later", &[two.address()], ""));
    });
    let mark = world.plane.mark();
    world.plane.restart();
    let back = world.plane.wait_within(mark, LONGEST_WAIT, |entry| {
        entry.request().filter(|r| r.is(Type::Cluster) && r.is_ack()).map(|_| ())
    });
    assert!(back.is_some(), "no new stream\n{}", world.plane.transcript(mark));
    settle(&world, &proxy, running);
    world.plane.set(yaml::route("r", "later"));
    wait_get(&proxy, 200, "two");
}

/// A path to the control plane that swallows everything from some octet on: only a PING notices.
fn half_open(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    let chaos = Chaos::start(world.plane.tcp(), 1, |_, number| {
        let fault = (number == 0).then_some((200_000, Fault::Blackhole));
        (Plan::default(), Plan { fault, ..Plan::default() })
    });
    let alive =
        "explicit_http_config: {http2_protocol_options: {connection_keepalive: {interval: 1s, timeout: 1s}}}";
    let http2 = yaml::HTTP2.replace("explicit_http_config: {http2_protocol_options: {}}", alive);
    let bootstrap = millrace_support::bootstrap::Bootstrap::new()
        .top(yaml::NODE)
        .top(&Flavor::AdsDelta.dynamic_resources(""))
        .cluster("xds", &[chaos.address()], &format!("connect_timeout: 1s\n{http2}"));
    let proxy = Proxy::start(subject, &bootstrap);
    wait_get(&proxy, 200, "one");
    let two = Upstream::fixed("two");
    world.plane.next_answer(Type::Endpoint, Answer::Padded(400_000));
    world.plane.set(yaml::endpoints("up", &[two.address()]));
    // The change is lost on the way; the next connection brings it.
    wait::for_true("another connection", || chaos.connections() > 1);
    wait_get(&proxy, 200, "two");
}

fn an_octet_a_second(subject: &Subject) {
    let (world, proxy, running) = under_load(subject, Flavor::AdsSotw);
    world.plane.transport(Transport::Trickle(1, Duration::from_secs(1)));
    let mark = world.plane.mark();
    world.plane.drop_connections();
    world.plane.wait_entry(mark, "another connection", |e| matches!(e.event, Event::Connected(_)));
    never(Duration::from_secs(10), "not ready", || !proxy.is_ready());
    world.plane.transport(Transport::Normal);
    let mark = world.plane.mark();
    world.plane.drop_connections();
    world.plane.set(yaml::static_cluster("later", &[], ""));
    let back = world.plane.wait_within(mark, LONGEST_WAIT, |entry| {
        entry.request().filter(|r| r.is(Type::Cluster) && r.is_ack()).map(|_| ())
    });
    assert!(back.is_some(), "no new stream\n{}", world.plane.transcript(mark));
    settle(&world, &proxy, running);
}

/// `VmRSS` in MiB.
fn resident(proxy: &Proxy) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap_or_default();
    let kib =
        text.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// The largest `VmRSS` until `done`, and whether that came in time.
fn peak(proxy: &Proxy, limit: Duration, mut done: impl FnMut() -> bool) -> (u64, bool) {
    let deadline = Instant::now() + limit;
    let mut most = resident(proxy);
    while Instant::now() < deadline {
        most = most.max(resident(proxy));
        if done() {
            return (most, true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    (most, false)
}

fn a_response_of_a_hundred_megabytes(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    let proxy = world.proxy(subject);
    let before = resident(&proxy);
    let mark = world.plane.mark();
    world.plane.next_answer(Type::Cluster, Answer::Padded(100 << 20));
    world.plane.set(yaml::static_cluster("new", &[], ""));
    let answered = || {
        let said = world.plane.requests_since(mark).iter().any(|r| r.is(Type::Cluster) || r.first);
        assert_eq!(get(&proxy), (200, "one".into()), "traffic goes on");
        said
    };
    // Envoy takes it and keeps it several times.
    let bound = if subject.is_envoy() { 1000 } else { 300 };
    let (most, done) = peak(&proxy, 3 * wait::PATIENCE, answered);
    assert!(done, "no answer, neither yes nor no");
    assert!(most < bound, "{most} MiB at the most, {before} before");
    world.plane.set(yaml::static_cluster("new", &[], "connect_timeout: 1s\n"));
    world.in_force(Type::Cluster);
    let after = || resident(&proxy);
    let back = wait::until(wait::PATIENCE, || (after() < before + 64).then_some(()));
    assert!(subject.is_envoy() || back.is_some(), "{} MiB afterwards, {before} before", after());
    println!("{}: 100 MB in one response: {before} MiB, at most {most}, then {}", subject.kind, after());
}

fn refusals_without_end(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let before = resident(&proxy);
    world.plane.insist(Type::Cluster, true);
    world.plane.set(yaml::static_cluster("bad", &[], "lb_policy: CLUSTER_PROVIDED\n"));
    let (most, _) = peak(&proxy, Duration::from_secs(6), || get(&proxy) != (200, "one".into()));
    let nacks = world.plane.nacks(Type::Cluster).len();
    world.plane.insist(Type::Cluster, false);
    assert!(nacks > 10, "{nacks} refusals");
    assert!(most < before + 40, "{most} MiB, {before} before, after {nacks} refusals");
    println!("{}: {nacks} refusals: {before} MiB, at most {most}", subject.kind);
    assert_eq!(get(&proxy), (200, "one".into()));
    world.plane.remove(Type::Cluster, "bad");
    world.plane.set(yaml::endpoints("up", &[]));
    wait_get(&proxy, 503, "no healthy upstream");
}
