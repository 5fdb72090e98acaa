//! Clusters of a control plane whose endpoints are checked: they warm until then.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::Blackhole;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Resource, Type};
use millrace_xds_tests::{World, get, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(start_up_waits_for_many_endpoints),
    case!(a_new_cluster_waits_for_its_checks),
    case!(an_endpoint_that_leaves_is_not_awaited),
    case!(a_cluster_serves_unchecked_until_it_was_checked),
];

const FLAVORS: [Flavor; 2] = [Flavor::AdsSotw, Flavor::AdsDelta];

/// A check of connections that is given up after so long.
fn checks(timeout: &str, checker: &str) -> String {
    format!(
        "health_checks: [{{timeout: {timeout}, interval: 60s, no_traffic_interval: 60s, unhealthy_threshold: 1, \
         healthy_threshold: 1, {checker}}}]\n"
    )
}

const TCP: &str = "tcp_health_check: {}";

/// Addresses of 127.0.0.0/8 that one server accepts connections for.
fn many(count: u16) -> Vec<SocketAddr> {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    (0..count).map(|n| SocketAddr::from(([127, 2, (n / 200) as u8, (n % 200 + 1) as u8], port))).collect()
}

fn start_up_waits_for_many_endpoints(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let (hole, mut endpoints) = (Blackhole::new(), many(300));
        endpoints.push(hole.address());
        world.plane.update(|change| {
            change.set(yaml::eds_cluster("many", flavor, &checks("1.5s", TCP)));
            change.set(yaml::endpoints("many", &endpoints));
        });
        let proxy = world.unready(subject, "");
        proxy.wait_stat("cluster.many.health_check.success", 300);
        assert!(!proxy.is_ready() && proxy.bound("main").is_none(), "{flavor:?}");
        assert!(world.plane.requests().iter().all(|r| !r.is(Type::Listener)), "LDS comes after the checks");
        proxy.wait_ready();
        assert_eq!(proxy.stat("cluster.many.health_check.failure"), Some(1));
        proxy.wait_stat("cluster.many.membership_healthy", 300);
        wait_get(&proxy, 200, "one");
    }
}

/// A new cluster that a new route leads to.
fn late(world: &World, endpoints: &[SocketAddr], timeout: &str) {
    world.plane.update(|change| {
        change.set(yaml::eds_cluster("late", world.flavor, &checks(timeout, TCP)));
        change.set(yaml::endpoints("late", endpoints));
        change.set(yaml::route("r", "late"));
    });
}

fn a_new_cluster_waits_for_its_checks(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let (hole, two) = (Blackhole::new(), Upstream::fixed("two"));
        let (mark, started) = (world.plane.mark(), Instant::now());
        late(&world, &[two.address(), hole.address()], "1s");
        proxy.wait_stat("cluster.late.health_check.success", 1);
        // The route does not wait; who comes meanwhile finds no cluster.
        wait_get(&proxy, 503, "");
        assert_eq!(proxy.stat("cluster_manager.warming_clusters"), Some(1), "{flavor:?}");
        let accepted = || world.plane.requests_since(mark).iter().any(|r| r.is(Type::Cluster) && r.is_ack());
        assert!(started.elapsed() >= Duration::from_secs(1) || !accepted());
        world.plane.wait_ack(mark, Type::Cluster);
        assert!(started.elapsed() >= Duration::from_millis(950), "{:?}", started.elapsed());
        wait_get(&proxy, 200, "two");
        assert_eq!(proxy.stat("cluster_manager.warming_clusters"), Some(0));
    }
}

fn an_endpoint_that_leaves_is_not_awaited(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let (hole, two) = (Blackhole::new(), Upstream::fixed("two"));
        let mark = world.plane.mark();
        late(&world, &[two.address(), hole.address()], "60s");
        proxy.wait_stat("cluster.late.health_check.success", 1);
        never(Duration::from_millis(300), "the cluster is warm", || {
            world.plane.requests_since(mark).iter().any(|r| r.is(Type::Cluster) && r.is_ack())
        });
        let endpoints: Resource = yaml::endpoints("late", &[two.address()]);
        world.plane.set(endpoints);
        world.plane.wait_ack(mark, Type::Cluster);
        wait_get(&proxy, 200, "two");
        assert_eq!(proxy.stat("cluster.late.membership_total"), Some(1));
    }
}

fn a_cluster_serves_unchecked_until_it_was_checked(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let slow = Upstream::start(|request| match request.target.as_str() {
            "/hc" => Reply::ok("").after(Duration::from_millis(700)),
            _ => Reply::ok("slow"),
        });
        world.plane.set(yaml::static_cluster("up", &[slow.address()], ""));
        let proxy = Proxy::start(subject, &yaml::bootstrap(&world.plane, flavor));
        wait_get(&proxy, 200, "slow");
        let mark = world.plane.mark();
        let fields = checks("5s", "http_health_check: {path: /hc}");
        world.plane.set(yaml::static_cluster("up", &[slow.address()], &fields));
        proxy.wait_stat("cluster_manager.warming_clusters", 1);
        assert_eq!(get(&proxy), (200, "slow".into()), "the old version serves");
        world.plane.wait_ack(mark, Type::Cluster);
        assert_eq!(proxy.stat("cluster.up.health_check.success"), Some(1));
        assert_eq!(get(&proxy), (200, "slow".into()));
    }
}
