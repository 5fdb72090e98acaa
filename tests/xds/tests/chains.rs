//! A changed listener: connections of filter chains that stay do not notice, in the middle of whatever they do.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Resource, Type, from_yaml};

pub(crate) const CASES: &[Case] = &[
    case!(half_a_request_on_both_chains),
    case!(tcp_chains),
    case!(a_chain_more_and_a_chain_less),
    case!(a_transport_socket_that_is_not_served, not_envoy: "Envoy has TLS"),
];

const FLAVORS: [Flavor; 2] = [Flavor::AdsSotw, Flavor::AdsDelta];
const ROUTER: &str = "{name: router, typed_config: {\"@type\": \
                      type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";

/// A chain for clients with this address, with this filter.
fn chain(source: &str, filter: &str) -> String {
    format!(
        "{{name: from-{source}, filter_chain_match: {{source_prefix_ranges: [{{address_prefix: {source}, prefix_len: 32}}]}}, \
         filters: [{filter}]}}"
    )
}

/// A connection manager that answers with this text.
fn says(text: &str) -> String {
    format!(
        "{{name: http, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: chain, http_filters: [{ROUTER}], route_config: {{virtual_hosts: [{{name: v, domains: [\"*\"], routes: \
         [{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: {text}}}}}}}]}}]}}}}}}"
    )
}

fn tcp_to(cluster: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp, cluster: {cluster}}}}}"
    )
}

fn listener(chains: &[String]) -> Resource {
    let text = format!(
        "{{name: main, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{}]}}",
        chains.join(", ")
    );
    from_yaml(Type::Listener, &text)
}

/// A listener that a control plane changes, and its proxy, which drains for a second.
struct Lab {
    plane: ControlPlane,
    proxy: Proxy,
    address: SocketAddr,
}

impl Lab {
    fn start(subject: &Subject, flavor: Flavor, first: Resource, clusters: Vec<Resource>) -> Self {
        let plane = ControlPlane::start(Options::default());
        plane.update(|change| {
            change.set(first);
            for cluster in clusters {
                change.set(cluster);
            }
        });
        let arguments = ["--concurrency", "1", "--drain-time-s", "1", "--drain-strategy", "immediate"];
        let proxy = Proxy::start_with(subject, &yaml::bootstrap(&plane, flavor), &arguments);
        let address = proxy.wait_listener("main");
        plane.wait_ack(0, Type::Listener);
        Self { plane, proxy, address }
    }

    #[track_caller]
    fn change(&self, to: Resource) {
        let mark = self.plane.mark();
        self.plane.set(to);
        self.plane.wait_ack(mark, Type::Listener);
    }

    fn from(&self, source: &str) -> Client {
        Client::connect_from(source, self.address)
    }

    /// What a new connection is told; nothing when it is closed.
    fn told(&self, source: &str) -> Option<String> {
        let mut client = self.from(source);
        client.request("GET", "/", &[("host", "test.local")], b"");
        Some(client.response("GET").ok()?.text())
    }

    fn wait_told(&self, source: &str, text: &str) {
        wait::for_true(&format!("{source} to be told {text}"), || self.told(source).as_deref() == Some(text));
    }
}

fn half_a_request_on_both_chains(subject: &Subject) {
    for flavor in FLAVORS {
        let both =
            |second: &str| listener(&[chain("127.0.0.1", &says("a1")), chain("127.0.0.2", &says(second))]);
        let lab = Lab::start(subject, flavor, both("b1"), Vec::new());
        let (mut stays, mut goes) = (lab.from("127.0.0.1"), lab.from("127.0.0.2"));
        for client in [&mut stays, &mut goes] {
            assert!(!client.get("/").closes());
            client.send(b"GET / HTTP/1.1\r\nhost: test.lo");
        }
        lab.change(both("b2"));
        lab.wait_told("127.0.0.2", "b2");
        for client in [&mut stays, &mut goes] {
            client.send(b"cal\r\n\r\n");
        }
        let kept = stays.response("GET").expect("a response on the chain that stays");
        assert_eq!((kept.text(), kept.closes()), ("a1".into(), false), "{flavor:?}");
        let last = goes.response("GET").expect("a response on the chain that goes");
        assert_eq!((last.text(), last.closes()), ("b1".into(), true), "{flavor:?}");
        assert_eq!(goes.end(), End::Closed(Vec::new()));
        assert_eq!(stays.end_within(Duration::from_millis(1300)), End::Open, "longer than the drain");
        assert!(!stays.get("/").closes());
        assert_eq!(lab.proxy.bound("main"), Some(lab.address), "the socket stays");
        assert_eq!(lab.proxy.stat("listener_manager.listener_in_place_updated"), Some(1));
    }
}

/// Sends a few octets through a tunnel and reads them back.
#[track_caller]
fn echoes(client: &mut Client, text: &[u8]) {
    client.send(text);
    assert_eq!(client.wire().exact(text.len(), "an echo").expect("an echo"), text);
}

fn tcp_chains(subject: &Subject) {
    for flavor in FLAVORS {
        let upstreams = [1, 2, 3].map(|_| TcpUpstream::start(Role::Echo));
        let names = ["a", "b", "c"];
        let clusters =
            names.iter().zip(&upstreams).map(|(n, u)| yaml::static_cluster(n, &[u.address()], "")).collect();
        let both =
            |second: &str| listener(&[chain("127.0.0.1", &tcp_to("a")), chain("127.0.0.2", &tcp_to(second))]);
        let lab = Lab::start(subject, flavor, both("b"), clusters);
        let (mut stays, mut goes) = (lab.from("127.0.0.1"), lab.from("127.0.0.2"));
        echoes(&mut stays, b"one");
        echoes(&mut goes, b"two");
        lab.change(both("c"));
        wait::for_true("the new chain", || {
            echoes(&mut lab.from("127.0.0.2"), b"new");
            upstreams[2].connections() > 0
        });
        echoes(&mut stays, b"three");
        // Envoy ends it with FIN. We reset a tunnel that was busy a moment ago, so that nobody takes the cut for an end.
        let end = goes.end();
        let busy = !subject.is_envoy() && end == End::Reset;
        assert!(busy || end == End::Closed(Vec::new()), "{flavor:?}: a drained tunnel ends: {end:?}");
        assert_eq!(stays.end_within(Duration::from_millis(1300)), End::Open);
        echoes(&mut stays, b"four");
        assert_eq!(upstreams[0].connections(), 1, "{flavor:?}");
    }
}

fn a_chain_more_and_a_chain_less(subject: &Subject) {
    for flavor in FLAVORS {
        let all = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
            .map(|source| chain(source, &says(&format!("at-{source}"))));
        let lab = Lab::start(subject, flavor, listener(&all[..2]), Vec::new());
        let (mut first, mut second) = (lab.from("127.0.0.1"), lab.from("127.0.0.2"));
        assert!(!first.get("/").closes() && !second.get("/").closes());
        assert_eq!(lab.told("127.0.0.3"), None, "no chain matches");
        lab.change(listener(&all));
        lab.wait_told("127.0.0.3", "at-127.0.0.3");
        assert!(!first.get("/").closes() && !second.get("/").closes(), "{flavor:?}: a chain more");
        let reversed: Vec<String> = all.iter().rev().cloned().collect();
        lab.change(listener(&reversed));
        assert!(!first.get("/").closes() && !second.get("/").closes(), "{flavor:?}: another order");
        lab.change(listener(&all[..1]));
        wait::for_true("the chain to go", || lab.told("127.0.0.2").is_none());
        assert!(second.get("/").closes(), "{flavor:?}: its connections drain");
        assert!(!first.get("/").closes(), "{flavor:?}: a chain less");
    }
}

/// Such a listener is refused alone.
fn a_transport_socket_that_is_not_served(subject: &Subject) {
    let socket = "transport_socket: {name: alts, typed_config: {\"@type\": \
                  type.googleapis.com/envoy.extensions.transport_sockets.alts.v3.Alts, handshaker_service: x}}";
    for flavor in Flavor::ALL {
        let plain = listener(&[chain("127.0.0.1", &says("plain"))]);
        let lab = Lab::start(subject, flavor, plain, Vec::new());
        let named = |name: &str, socket: &str| {
            let text = format!(
                "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: \
                 [{{filters: [{}]{socket}}}]}}",
                says(name)
            );
            from_yaml(Type::Listener, &text)
        };
        let mark = lab.plane.mark();
        lab.plane.update(|change| {
            change
                .set(named("before", ""))
                .set(named("secured", &format!(", {socket}")))
                .set(named("then", ""));
        });
        let nack = lab.plane.wait_nack(mark, Type::Listener);
        let reason = nack.reason();
        assert!(reason.contains("secured: filter_chains[0].transport_socket"), "{reason}");
        assert!(reason.contains("Alts is not served by this build"), "{reason}");
        assert!(
            !reason.contains("before") && !reason.contains("then:") && !reason.contains("main"),
            "{reason}"
        );
        for name in ["before", "then"] {
            assert_eq!(Client::connect(lab.proxy.wait_listener(name)).get("/").text(), name);
        }
        assert_eq!(lab.told("127.0.0.1").as_deref(), Some("plain"));
        assert_eq!(lab.proxy.bound("secured"), None);
        assert!(!lab.plane.requests().iter().any(|r| r.is(Type::Secret)), "nobody asks for secrets");
    }
}
