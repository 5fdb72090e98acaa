//! SDS over every transport that meshes use: aggregated, on streams of its own, and from an agent behind a Unix socket.

use std::net::SocketAddr;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Proxy};
use millrace_support::raw;
use millrace_support::subject::Subject;
use millrace_support::tls::context::{certificate, inline};
use millrace_support::tls::server::Options as ServerOptions;
use millrace_support::tls::{
    AlertDescription, Authority, Client, Context, Ending, Identity, Leaf, Link, Server,
};
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Address, ControlPlane, Options, Resource, Type, from_yaml};
use millrace_xds_tests::World;

pub(crate) const CASES: &[Case] = &[
    case!(pairs_and_authorities_rotate),
    case!(bad_secrets_are_refused),
    case!(
        an_expired_pair_is_refused,
        not_envoy: "Envoy shows an expired certificate; the last good one is worth more"
    ),
    case!(a_late_secret_warms_its_listener),
    case!(a_secret_that_never_comes_closes_connections),
    case!(a_secret_outlives_its_server),
    case!(a_secret_that_is_taken_away_stays_in_force),
    case!(a_cluster_waits_for_its_secret),
    case!(an_agent_is_asked_as_istio_asks_it),
];

/// How secrets travel. Everything else comes by `Flavor` from the scripted control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// With everything else, over one stream or by the same service.
    Plane(Flavor),
    /// From a second server behind a Unix socket, as Istio's agent serves them.
    Agent,
}

const ALL: [Transport; 5] = [
    Transport::Plane(Flavor::AdsSotw),
    Transport::Plane(Flavor::AdsDelta),
    Transport::Plane(Flavor::Sotw),
    Transport::Plane(Flavor::Delta),
    Transport::Agent,
];

/// A mesh whose listener `main` demands client certificates, with the secrets `default` and `ROOTCA`.
struct Mesh {
    world: World,
    agent: Option<(ControlPlane, Directory)>,
    root: Authority,
    transport: Transport,
}

fn secret(text: &str) -> Resource {
    from_yaml(Type::Secret, text)
}

impl Mesh {
    /// Without secrets yet. `timeout` is the `initial_fetch_timeout` of secrets, empty for the default.
    fn start(transport: Transport, timeout: &str) -> Self {
        let flavor = match transport {
            Transport::Plane(flavor) => flavor,
            Transport::Agent => Flavor::AdsSotw,
        };
        let agent = (transport == Transport::Agent).then(|| {
            let directory = Directory::new();
            let address = Address::Unix(directory.path().join("socket"));
            (ControlPlane::start(Options { address, ..Options::default() }), directory)
        });
        let mesh = Self { world: World::start(flavor), agent, root: Authority::root("mesh"), transport };
        let context = mesh.context(timeout).required();
        let http = Http::rds("r", &flavor.config_source());
        let http = http.listener("stat_prefix: main\n").chain(&context.downstream());
        mesh.world.plane.set(yaml::listener(&http));
        mesh
    }

    /// The server of secrets.
    fn server(&self) -> &ControlPlane {
        self.agent.as_ref().map_or(&self.world.plane, |(agent, _)| agent)
    }

    /// `ConfigSource` of secrets; that of the agent is word for word Istio's.
    fn source(&self, timeout: &str) -> String {
        match self.transport {
            Transport::Plane(flavor) => flavor.config_source_with(timeout),
            Transport::Agent => {
                let comma = if timeout.is_empty() { "" } else { ", " };
                format!(
                    "{{resource_api_version: V3, api_config_source: {{api_type: GRPC, transport_api_version: V3, \
                     set_node_on_first_message_only: true, grpc_services: [{{envoy_grpc: {{cluster_name: \
                     sds-grpc}}}}]}}{comma}{timeout}}}"
                )
            }
        }
    }

    fn context(&self, timeout: &str) -> Context {
        let source = self.source(timeout);
        Context::new()
            .common(&format!("tls_certificate_sds_secret_configs: [{{name: default, sds_config: {source}}}]"))
            .common(&format!(
                "combined_validation_context: {{default_validation_context: {{match_typed_subject_alt_names: \
                 [{{san_type: URI, matcher: {{prefix: \"spiffe://cluster.local/\"}}}}]}}, \
                 validation_context_sds_secret_config: {{name: ROOTCA, sds_config: {source}}}}}"
            ))
    }

    fn bootstrap(&self) -> Bootstrap {
        let base = yaml::bootstrap(&self.world.plane, self.world.flavor);
        match &self.agent {
            Some((agent, _)) => yaml::plane_cluster(base, "sds-grpc", agent),
            None => base,
        }
    }

    #[track_caller]
    fn proxy(&self, subject: &Subject) -> Proxy {
        Proxy::start_unready(subject, &self.bootstrap(), &[])
    }

    /// A proxy with both secrets, the listener bound.
    #[track_caller]
    fn served(transport: Transport, subject: &Subject) -> (Self, Proxy, Identity) {
        let mesh = Self::start(transport, "");
        let first = mesh.workload();
        mesh.show(&first);
        mesh.trust(mesh.root.pem());
        let proxy = mesh.proxy(subject);
        proxy.wait_listener("main");
        wait_shown(&proxy, &mesh.client(&mesh.root), &first);
        (mesh, proxy, first)
    }

    fn workload(&self) -> Identity {
        self.root.issue(&Leaf::spiffe("spiffe://cluster.local/ns/default/sa/app"))
    }

    fn client(&self, authority: &Authority) -> Client {
        Client::new().identity(&authority.issue(&Leaf::spiffe("spiffe://cluster.local/ns/default/sa/peer")))
    }

    fn show(&self, identity: &Identity) {
        self.server().set(secret(&format!("{{name: default, tls_certificate: {}}}", certificate(identity))));
    }

    fn trust(&self, pem: &str) {
        let context = format!("{{trusted_ca: {}}}", inline(pem));
        self.server().set(secret(&format!("{{name: ROOTCA, validation_context: {context}}}")));
    }
}

/// A connection that was made before secrets changed.
struct Neighbour {
    client: raw::Client,
    _link: Link,
}

impl Neighbour {
    #[track_caller]
    fn new(client: &Client, address: SocketAddr) -> Self {
        let link = client.connect(address);
        let mut neighbour = Self { client: link.raw(), _link: link };
        neighbour.is_served();
        neighbour
    }

    #[track_caller]
    fn is_served(&mut self) {
        assert_eq!(self.client.get("/").text(), "one");
    }
}

fn is_shown(address: SocketAddr, client: &Client, identity: &Identity) -> bool {
    let Ok(link) = client.try_connect(address) else { return false };
    // With TLS 1.3 a refusal may still come.
    let mut raw = link.raw();
    raw.request("GET", "/", &[("host", "a")], b"");
    link.facts.peer[0].as_slice() == &*identity.chain[0] && raw.response("GET").is_ok_and(|r| r.status == 200)
}

/// Fails unless this client is shown this certificate and served, soon.
#[track_caller]
fn wait_shown(proxy: &Proxy, client: &Client, identity: &Identity) {
    wait::for_true("the new certificate", || {
        proxy.bound("main").is_some_and(|address| is_shown(address, client, identity))
    });
}

/// New handshakes see the new pair and the new authorities, live connections see nothing.
fn pairs_and_authorities_rotate(subject: &Subject) {
    for transport in ALL {
        let (mesh, proxy, first) = Mesh::served(transport, subject);
        let (address, server) = (proxy.listener("main"), mesh.server());
        let old = mesh.client(&mesh.root);
        let mut neighbour = Neighbour::new(&old, address);
        let mut last = first;
        for _ in 0..3 {
            let fresh = mesh.workload();
            let mark = server.mark();
            mesh.show(&fresh);
            server.wait_ack(mark, Type::Secret);
            wait_shown(&proxy, &old, &fresh);
            neighbour.is_served();
            last = fresh;
        }
        // Both authorities, then the new one alone.
        let second = Authority::root("second");
        let new = mesh.client(&second);
        assert_eq!(new.refusal(address), Ending::Alert(AlertDescription::UnknownCA), "{transport:?}");
        mesh.trust(&(mesh.root.pem().to_owned() + second.pem()));
        wait_shown(&proxy, &new, &last);
        wait_shown(&proxy, &old, &last);
        mesh.trust(second.pem());
        wait::for_true("the old authority to go", || old.try_refusal(address).is_some());
        assert_eq!(old.refusal(address), Ending::Alert(AlertDescription::UnknownCA), "{transport:?}");
        wait_shown(&proxy, &new, &last);
        neighbour.is_served();
        assert!(server.nacks(Type::Secret).is_empty(), "{transport:?}\n{}", server.transcript(0));
    }
}

/// A refusal names a reason and no key; what was good before stays in force.
#[track_caller]
fn refused(mesh: &Mesh, bad: Resource, why: &str) {
    let server = mesh.server();
    let mark = server.mark();
    server.set(bad);
    let nack = server.wait_nack(mark, Type::Secret);
    let reason = nack.reason();
    assert!(reason.contains(why) && !reason.contains("PRIVATE KEY"), "{:?}: {reason}", mesh.transport);
}

fn bad_secrets_are_refused(subject: &Subject) {
    for transport in ALL {
        let (mesh, proxy, first) = Mesh::served(transport, subject);
        let client = mesh.client(&mesh.root);
        let mut neighbour = Neighbour::new(&client, proxy.listener("main"));
        let pair =
            |identity: &Identity| format!("{{name: default, tls_certificate: {}}}", certificate(identity));
        let strange = mesh.workload().with_key_of(&mesh.workload());
        refused(&mesh, secret(&pair(&strange)), "KEY_VALUES_MISMATCH");
        wait_shown(&proxy, &client, &first);
        let broken = pair(&mesh.workload()).replace("BEGIN CERTIFICATE", "BEGIN NOTHING");
        refused(&mesh, secret(&broken), "Failed to load certificate chain from <inline>");
        wait_shown(&proxy, &client, &first);
        let context = format!("{{trusted_ca: {}}}", inline("no authority"));
        let broken = format!("{{name: ROOTCA, validation_context: {context}}}");
        refused(&mesh, secret(&broken), "Failed to load trusted CA certificates from <inline>");
        wait_shown(&proxy, &client, &first);
        neighbour.is_served();
        // The good ones that follow are taken.
        mesh.trust(mesh.root.pem());
        let fresh = mesh.workload();
        mesh.show(&fresh);
        wait_shown(&proxy, &client, &fresh);
        neighbour.is_served();
    }
}

fn an_expired_pair_is_refused(subject: &Subject) {
    for transport in ALL {
        let (mesh, proxy, first) = Mesh::served(transport, subject);
        let expired = mesh.root.issue(&Leaf::spiffe("spiffe://cluster.local/ns/default/sa/app").expired());
        let text = format!("{{name: default, tls_certificate: {}}}", certificate(&expired));
        refused(&mesh, secret(&text), "has expired");
        wait_shown(&proxy, &mesh.client(&mesh.root), &first);
    }
}

/// True when somebody listens. Envoy shows the address of its first listeners before it does.
fn is_open(proxy: &Proxy) -> bool {
    proxy.bound("main").is_some_and(|address| raw::Client::try_connect(address).is_ok())
}

/// As measured: nobody listens before both secrets are there, and then they serve at once.
fn a_late_secret_warms_its_listener(subject: &Subject) {
    for transport in ALL {
        let mesh = Mesh::start(transport, "initial_fetch_timeout: 0s");
        let proxy = mesh.proxy(subject);
        let server = mesh.server();
        let asked = |name: &str| {
            server.wait_for(0, name, |r| {
                r.is(Type::Secret) && (r.names.contains(name) || r.subscribe.contains(name))
            });
        };
        asked("default");
        asked("ROOTCA");
        assert_eq!((is_open(&proxy), proxy.is_ready()), (false, false), "{transport:?}");
        mesh.trust(mesh.root.pem());
        server.wait_ack(0, Type::Secret);
        assert_eq!((is_open(&proxy), proxy.is_ready()), (false, false), "{transport:?}");
        let first = mesh.workload();
        mesh.show(&first);
        proxy.wait_ready();
        wait::for_true("the listener to open", || is_open(&proxy));
        assert!(is_shown(proxy.listener("main"), &mesh.client(&mesh.root), &first), "{transport:?}");
    }
}

/// As measured: the listener serves after the timeout, and closes whoever connects until the secret is there.
fn a_secret_that_never_comes_closes_connections(subject: &Subject) {
    for transport in ALL {
        let mesh = Mesh::start(transport, "initial_fetch_timeout: 0.3s");
        mesh.trust(mesh.root.pem());
        let proxy = mesh.proxy(subject);
        let address = proxy.wait_listener("main");
        proxy.wait_ready();
        let client = mesh.client(&mesh.root);
        for n in 1..3 {
            assert!(client.try_connect(address).is_err(), "{transport:?}");
            let stat = "listener.main.server_ssl_socket_factory.downstream_context_secrets_not_ready";
            proxy.wait_stat(stat, n);
        }
        // In clear text it is closed as well, without an answer.
        let mut plain = raw::Client::connect(address);
        plain.request("GET", "/", &[("host", "a")], b"");
        assert!(plain.response("GET").is_err(), "{transport:?}");
        let first = mesh.workload();
        mesh.show(&first);
        wait_shown(&proxy, &client, &first);
    }
}

fn a_secret_outlives_its_server(subject: &Subject) {
    for transport in ALL {
        let (mesh, proxy, first) = Mesh::served(transport, subject);
        let client = mesh.client(&mesh.root);
        let mut neighbour = Neighbour::new(&client, proxy.listener("main"));
        mesh.server().stop();
        for _ in 0..3 {
            assert!(is_shown(proxy.listener("main"), &client, &first), "{transport:?}");
        }
        neighbour.is_served();
        // A pair that changed meanwhile is there when the server is back.
        let fresh = mesh.workload();
        mesh.show(&fresh);
        mesh.server().restart();
        wait_shown(&proxy, &client, &fresh);
        neighbour.is_served();
    }
}

/// Whoever needs a secret keeps it; what follows is taken.
fn a_secret_that_is_taken_away_stays_in_force(subject: &Subject) {
    for transport in ALL {
        let (mesh, proxy, first) = Mesh::served(transport, subject);
        let client = mesh.client(&mesh.root);
        let (server, mark) = (mesh.server(), mesh.server().mark());
        server.remove(Type::Secret, "default");
        // Only delta has a word for it, and it is accepted.
        if matches!(transport, Transport::Plane(flavor) if flavor.is_delta()) {
            server.wait_ack(mark, Type::Secret);
        }
        assert!(is_shown(proxy.listener("main"), &client, &first), "{transport:?}");
        let fresh = mesh.workload();
        mesh.show(&fresh);
        wait_shown(&proxy, &client, &fresh);
    }
}

/// A cluster warms as a listener does. Its new pair is shown to endpoints.
fn a_cluster_waits_for_its_secret(subject: &Subject) {
    for transport in ALL {
        let mesh = Mesh::start(transport, "initial_fetch_timeout: 0s");
        let endpoint = mesh.root.issue(&Leaf::spiffe("spiffe://cluster.local/ns/default/sa/endpoint"));
        let server = Server::start(ServerOptions::new(&endpoint, mesh.world.upstream.address()));
        let plane = &mesh.world.plane;
        let socket = mesh.context("initial_fetch_timeout: 0s").upstream();
        plane.update(|change| {
            change.set(yaml::rds_listener("main", "r", mesh.world.flavor));
            change.set(yaml::route("r", "up"));
            change.set(yaml::static_cluster("up", &[server.address()], &socket));
        });
        let proxy = mesh.proxy(subject);
        mesh.server().wait_for(0, "a secret", |r| r.is(Type::Secret));
        assert!(!proxy.is_ready() && server.seen().is_empty(), "{transport:?}");
        let first = mesh.workload();
        mesh.show(&first);
        mesh.trust(mesh.root.pem());
        proxy.wait_ready();
        proxy.wait_listener("main");
        let shown = |identity: &Identity| {
            let facts = server.seen().last().and_then(|s| s.facts.clone());
            facts.is_some_and(|f| f.peer.first().is_some_and(|p| **p == *identity.chain[0]))
        };
        assert_eq!(proxy.client().get("/").text(), "one", "{transport:?}");
        assert!(shown(&first), "{transport:?}");
        // A connection that is open is used on, with the pair it was made with.
        let mark = mesh.server().mark();
        mesh.show(&mesh.workload());
        mesh.server().wait_ack(mark, Type::Secret);
        assert_eq!(proxy.client().get("/").text(), "one", "{transport:?}");
        assert_eq!(server.seen().len(), 1, "{transport:?}");
    }
}

/// State of the world only, a stream for each secret, and the node in its first message.
fn an_agent_is_asked_as_istio_asks_it(subject: &Subject) {
    let (mesh, proxy, _) = Mesh::served(Transport::Agent, subject);
    let agent = mesh.server();
    let fresh = mesh.workload();
    let mark = agent.mark();
    mesh.show(&fresh);
    agent.wait_ack(mark, Type::Secret);
    wait_shown(&proxy, &mesh.client(&mesh.root), &fresh);
    let requests = agent.requests();
    for request in &requests {
        assert!(!request.delta && request.is(Type::Secret) && request.names.len() == 1, "{request:?}");
        assert_eq!(request.node.is_some(), request.first, "{request:?}");
    }
    let of = |name: &str| {
        let named = requests.iter().filter(|r| r.names.contains(name));
        named.map(|r| r.stream).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!((of("default").len(), of("ROOTCA").len()), (1, 1), "{}", agent.transcript(0));
    assert!(of("default").is_disjoint(&of("ROOTCA")));
    assert!(mesh.world.plane.requests().iter().all(|r| !r.is(Type::Secret)));
}
