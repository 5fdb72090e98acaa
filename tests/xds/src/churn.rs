//! Traffic that keeps books while the control plane changes everything around it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use millrace_support::bootstrap::Http;
use millrace_support::ledger::{self, Books, Running};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Change, ControlPlane, Options, Resource, Type, from_yaml};

/// How much of what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Changes that the control plane makes, evenly over the time.
    pub updates: usize,
    /// How long traffic flows at least.
    pub time: Duration,
    /// Requests a second, over all connections.
    pub rate: usize,
    /// Connections, all of which stay open from the first to the last request.
    pub connections: usize,
    /// Largest body.
    pub max_body: usize,
    /// How the subject talks to the control plane.
    pub flavor: Flavor,
}

/// What came of it.
pub struct Report {
    /// Every request.
    pub books: Books,
    /// Where they went.
    pub upstreams: [Upstream; 2],
    /// Refusals of the subject.
    pub refused: Vec<String>,
    /// `http.main.downstream_cx_total` before the clients ended.
    pub connections_total: Option<u64>,
    /// `http.main.downstream_cx_active` before the clients ended.
    pub connections_active: Option<u64>,
    /// Connections of the plan.
    pub connections: usize,
    /// From the last change to its being in force.
    pub last_update: Duration,
}

impl Report {
    /// Fails when a request was lost, answered wrongly or twice, or a connection was closed.
    #[track_caller]
    pub fn assert_undisturbed(&self) {
        self.books.assert_all_answered();
        self.books.assert_exactly_once_at(&[&self.upstreams[0], &self.upstreams[1]]);
        self.upstreams.iter().for_each(Upstream::assert_strict);
        let connections = u64::try_from(self.connections).ok();
        assert_eq!(self.connections_total, connections, "a connection was closed and made again");
        assert_eq!(self.connections_active, connections, "a connection was closed");
        assert!(self.refused.is_empty(), "{:?}", self.refused);
    }
}

/// The listener of the traffic: its first chain never changes, its second one, which nobody uses, always does.
fn main_listener(n: usize, flavor: Flavor) -> Resource {
    const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    const ROUTER: &str = "{name: router, typed_config: \
                          {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
    let chain = |source: &str, manager: &str| {
        format!(
            "{{name: from-{source}, filter_chain_match: {{source_prefix_ranges: [{{address_prefix: {source}, \
             prefix_len: 32}}]}}, filters: [{{name: http, typed_config: {{\"@type\": type.googleapis.com/{MANAGER}, \
             {manager}, http_filters: [{ROUTER}]}}}}]}}"
        )
    };
    let rds = format!(
        "stat_prefix: main, rds: {{route_config_name: r, config_source: {}}}",
        flavor.config_source()
    );
    let other = format!(
        "stat_prefix: other, route_config: {{virtual_hosts: [{{name: v, domains: [\"*\"], routes: \
         [{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: n{n}}}}}}}]}}]}}"
    );
    let text = format!(
        "{{name: main, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{}, {}]}}",
        chain("127.0.0.1", &rds),
        chain("127.0.0.9", &other)
    );
    from_yaml(Type::Listener, &text)
}

/// The route table of round `n`: everything goes to one of two clusters, below a route that tells the round.
fn routes(n: usize) -> Resource {
    let cluster = ["a", "b"][(n / 7) % 2];
    yaml::routes(
        "r",
        &format!(
            "{{match: {{path: /round}}, direct_response: {{status: 200, body: {{inline_string: n{n}}}}}}}, \
             {{match: {{prefix: \"/\"}}, route: {{cluster: {cluster}, timeout: {}s}}}}",
            20 + n % 10
        ),
    )
}

fn cluster(name: &str, n: usize, flavor: Flavor) -> Resource {
    yaml::eds_cluster(name, flavor, &format!("connect_timeout: {}s\n", 3 + n % 5))
}

fn extra(n: usize) -> Resource {
    let route = format!(
        "- match: {{prefix: \"/\"}}\n  direct_response: {{status: 200, body: {{inline_string: n{n}}}}}\n"
    );
    yaml::listener(&Http::routes(&route).named(&format!("extra-{}", n % 6)))
}

/// Endpoints under a version of their own: a delta client does not ask for the endpoints of a changed cluster again,
/// so that control planes send them even when they are the same.
fn endpoints(name: &str, list: &[SocketAddr], n: usize) -> Resource {
    yaml::endpoints(name, list).at_version(&n.to_string())
}

/// One change, of each kind in turn. Clusters come with their endpoints, as real control planes send them.
fn change(n: usize, flavor: Flavor, upstreams: &[Upstream; 2], change: &mut Change<'_>) {
    let [one, two] = [upstreams[0].address(), upstreams[1].address()];
    let lists = [vec![one], vec![one, two], vec![two], vec![two, one]];
    match n % 6 {
        0 | 3 => change.set(routes(n)),
        1 => change.set(endpoints(["a", "b"][(n / 6) % 2], &lists[(n / 12) % 4], n)),
        2 if n.is_multiple_of(4) => change.remove(Type::Listener, &format!("extra-{}", (n + 2) % 6)),
        2 => change.set(extra(n)),
        4 => {
            let name = ["a", "b"][(n / 6) % 2];
            change.set(cluster(name, n, flavor)).set(endpoints(name, &lists[(n / 6) % 4], n))
        }
        _ => change.set(main_listener(n, flavor)),
    };
}

/// Runs the plan; without changes when it has none.
///
/// # Panics
/// When the subject does not start, or does not take the last change in time.
#[track_caller]
pub fn run(subject: &Subject, plan: &Plan, arguments: &[&str]) -> Report {
    let upstreams = [ledger::upstream(), ledger::upstream()];
    let plane = ControlPlane::start(Options::default());
    let flavor = plan.flavor;
    plane.update(|change| {
        for name in ["a", "b"] {
            change.set(cluster(name, 0, flavor)).set(yaml::endpoints(name, &[upstreams[0].address()]));
        }
        change.set(routes(0)).set(main_listener(0, flavor));
    });
    let proxy = Proxy::start_with(subject, &yaml::bootstrap(&plane, flavor), arguments);
    let target = proxy.wait_listener("main");
    let pause = Duration::from_secs(1) * u32::try_from(plan.connections).unwrap_or(1)
        / u32::try_from(plan.rate.max(1)).unwrap_or(1);
    let load = ledger::Plan {
        connections: plan.connections,
        requests: usize::MAX,
        max_body: plan.max_body,
        time: plan.time + 6 * wait::PATIENCE,
        pause,
        ..ledger::Plan::default()
    };
    let running = Running::start(target, &load);
    let last_update = churn(&plane, &upstreams, plan, &proxy);
    let connections_total = proxy.stat("http.main.downstream_cx_total");
    let connections_active = proxy.stat("http.main.downstream_cx_active");
    running.stop();
    let books = running.finish();
    let refused =
        Type::ALL.into_iter().flat_map(|ty| plane.nacks(ty)).map(|r| r.reason().to_owned()).collect();
    let connections = plan.connections;
    Report { books, upstreams, refused, connections_total, connections_active, connections, last_update }
}

/// Makes the changes, lets the rest of the time pass, and waits for the last one to be in force.
#[track_caller]
fn churn(plane: &ControlPlane, upstreams: &[Upstream; 2], plan: &Plan, proxy: &Proxy) -> Duration {
    let started = Instant::now();
    let steps = u32::try_from(plan.updates.max(1)).unwrap_or(u32::MAX);
    for n in 1..=plan.updates {
        plane.update(|all| change(n, plan.flavor, upstreams, all));
        let due = plan.time * u32::try_from(n).unwrap_or(u32::MAX) / steps;
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    }
    std::thread::sleep(plan.time.saturating_sub(started.elapsed()));
    if plan.updates == 0 {
        return Duration::ZERO;
    }
    let last = plan.updates + 1;
    let changed = Instant::now();
    let mark = plane.mark();
    plane.update(|change| {
        change.set(main_listener(last, plan.flavor)).set(routes(last)).set(yaml::eds_cluster(
            "a",
            plan.flavor,
            // Unlike all before, so that there is something to acknowledge.
            "connect_timeout: 9s\n",
        ));
        change.set(endpoints("a", &[upstreams[0].address()], last));
    });
    for ty in [Type::Cluster, Type::Listener, Type::Route] {
        plane.wait_ack(mark, ty);
    }
    let took = changed.elapsed();
    wait::for_true("no cluster or listener to be warming", || {
        proxy.stat("cluster_manager.warming_clusters") == Some(0)
            && proxy.stat("listener_manager.total_listeners_warming") == Some(0)
    });
    took
}
