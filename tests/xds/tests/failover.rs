//! Two control planes for one aggregated stream: the second one serves when the first is dead from the start.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Bootstrap;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Code, ControlPlane, Event, Options, Transport, Type};
use millrace_xds_tests::{never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(the_first_one_is_enough),
    case!(the_second_one_serves_when_the_first_is_dead),
    case!(two_failures_before_the_second_one_is_asked, not_envoy: "its first attempt is made before the cluster is there"),
    case!(the_first_one_is_asked_again_until_one_answers),
    case!(the_first_one_is_asked_again_when_the_second_ends),
];

const FLAVORS: [Flavor; 2] = [Flavor::AdsSotw, Flavor::AdsDelta];

/// Two control planes that send all requests to upstreams of their own.
struct Pair {
    first: ControlPlane,
    second: ControlPlane,
    flavor: Flavor,
    _upstreams: [Upstream; 2],
}

impl Pair {
    fn start(flavor: Flavor) -> Self {
        let upstreams = [Upstream::fixed("first"), Upstream::fixed("second")];
        let plane = |upstream: &Upstream| {
            let plane = ControlPlane::start(Options::default());
            plane.update(|change| {
                change.set(yaml::eds_cluster("up", flavor, ""));
                change.set(yaml::endpoints("up", &[upstream.address()]));
                change.set(yaml::rds_listener("main", "r", flavor));
                change.set(yaml::route("r", "up"));
            });
            plane
        };
        let (first, second) = (plane(&upstreams[0]), plane(&upstreams[1]));
        Self { first, second, flavor, _upstreams: upstreams }
    }

    /// Envoy has it behind a runtime guard.
    fn proxy(&self, subject: &Subject) -> Proxy {
        let one = "[{envoy_grpc: {cluster_name: xds}}]";
        let two = "[{envoy_grpc: {cluster_name: xds}}, {envoy_grpc: {cluster_name: other}}]";
        let dynamic = self.flavor.dynamic_resources("").replace(one, two);
        let guard = "layered_runtime: {layers: [{name: guards, static_layer: \
                     {envoy.restart_features.xds_failover_support: true}}]}";
        let base = Bootstrap::new().top(yaml::NODE).top(&dynamic).top(guard);
        let base = yaml::plane_cluster(base, "xds", &self.first);
        Proxy::start_unready(subject, &yaml::plane_cluster(base, "other", &self.second), &[])
    }
}

/// Envoy makes its very first attempt before the first one's cluster is there, and so may start with the second one: that
/// one is absent until the first has answered.
fn the_first_one_is_enough(subject: &Subject) {
    for flavor in FLAVORS {
        let pair = Pair::start(flavor);
        pair.second.stop();
        let proxy = pair.proxy(subject);
        wait_get(&proxy, 200, "first");
        proxy.wait_stat("control_plane.connected_state", 1);
        pair.second.restart();
        // Not even when it dies: it has answered.
        pair.first.stop();
        proxy.wait_stat("control_plane.connected_state", 0);
        never(Duration::from_secs(3), "the second one was asked", || !pair.second.streams().is_empty());
        pair.first.restart();
        // It backs off by now, up to 30 s.
        let connected = || (proxy.stat("control_plane.connected_state") == Some(1)).then_some(());
        assert!(
            wait::until(Duration::from_secs(40), connected).is_some(),
            "the first one is not asked again"
        );
        wait_get(&proxy, 200, "first");
    }
}

fn the_second_one_serves_when_the_first_is_dead(subject: &Subject) {
    for flavor in FLAVORS {
        let pair = Pair::start(flavor);
        pair.first.stop();
        let proxy = pair.proxy(subject);
        wait_get(&proxy, 200, "second");
        proxy.wait_stat("control_plane.connected_state", 2);
        pair.second.set(yaml::endpoints("up", &[]));
        wait_get(&proxy, 503, "no healthy upstream");
    }
}

fn two_failures_before_the_second_one_is_asked(subject: &Subject) {
    for flavor in FLAVORS {
        let pair = Pair::start(flavor);
        pair.first.transport(Transport::Flap);
        let proxy = pair.proxy(subject);
        wait_get(&proxy, 200, "second");
        let attempts = pair.first.record().into_iter().filter(|e| matches!(e.event, Event::Connected(_)));
        assert_eq!(attempts.count(), 2, "{flavor:?}");
    }
}

fn the_first_one_is_asked_again_until_one_answers(subject: &Subject) {
    for flavor in FLAVORS {
        let pair = Pair::start(flavor);
        pair.first.transport(Transport::Refuse(Code::Unavailable, "busy".into()));
        pair.second.transport(Transport::Refuse(Code::Unavailable, "busy".into()));
        let proxy = pair.proxy(subject);
        let tried =
            |plane: &ControlPlane| plane.record().into_iter().any(|e| matches!(e.event, Event::Connected(_)));
        wait::for_true("the second one to be asked", || tried(&pair.second));
        pair.first.transport(Transport::Normal);
        wait_get(&proxy, 200, "first");
        proxy.wait_stat("control_plane.connected_state", 1);
    }
}

fn the_first_one_is_asked_again_when_the_second_ends(subject: &Subject) {
    for flavor in FLAVORS {
        let pair = Pair::start(flavor);
        pair.first.stop();
        let proxy = pair.proxy(subject);
        wait_get(&proxy, 200, "second");
        // Still dead: the second one serves on.
        let mark = pair.second.mark();
        pair.second.end_streams(Code::Unavailable, "bye");
        pair.second.wait_for(mark, "a new stream", |r| r.is(Type::Listener) && r.first);
        pair.first.restart();
        pair.second.end_streams(Code::Unavailable, "bye");
        let first = pair.first.wait_for(0, "a stream", |r| r.is(Type::Listener) && r.first);
        // Versions of another control plane mean nothing to this one, but only delta leaves them out.
        assert!(first.initial_versions.is_empty(), "{:?}", first.initial_versions);
        assert_eq!(first.version, if flavor.is_delta() { "" } else { "1" });
        proxy.wait_stat("control_plane.connected_state", 1);
        wait_get(&proxy, 200, "first");
    }
}
