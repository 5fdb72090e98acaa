//! Secrets that change while connections live, from a control plane on a stream of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tls::context::inline;
use millrace_support::tls::server::Options as ServerOptions;
use millrace_support::tls::{AlertDescription, Authority, Client, Context, Ending, Identity, Leaf, Server};
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Resource, Type, from_yaml};

use crate::common::{
    Neighbour, STAT_PREFIX, client_identity, hello, mutual_client, next, pair, proxy_identity, root,
    server_identity, wait_shown,
};

pub(crate) const CASES: &[Case] = &[
    case!(a_new_pair_from_the_control_plane),
    case!(a_bad_pair_from_the_control_plane),
    case!(
        an_expired_pair_from_the_control_plane,
        not_envoy: "Envoy shows an expired certificate; the last good one is worth more"
    ),
    case!(another_authority_from_the_control_plane),
    case!(two_authorities_overlap),
    case!(a_missing_secret_closes_handshakes),
    case!(a_missing_secret_of_a_cluster),
    case!(our_own_certificate_towards_endpoints),
    case!(the_control_plane_goes),
    case!(many_rotations),
];

/// A control plane with a pair `own` and an authority `roots`, on a stream of its own as Istio's agent speaks it.
struct Plane {
    plane: ControlPlane,
    upstream: Upstream,
}

fn secret(text: &str) -> Resource {
    from_yaml(Type::Secret, text)
}

fn roots(pem: &str) -> Resource {
    secret(&format!("{{name: roots, validation_context: {{trusted_ca: {}}}}}", inline(pem)))
}

const SANS: &str = "match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: \"spiffe://test/\"}}]";

impl Plane {
    fn start() -> Self {
        let plane = Self::empty();
        plane.show(proxy_identity());
        plane.plane.set(roots(root().pem()));
        plane
    }

    fn empty() -> Self {
        Self { plane: ControlPlane::start(Options::default()), upstream: hello() }
    }

    fn show(&self, identity: &Identity) {
        self.plane.set(secret(&pair("own", identity)));
    }

    /// A context that demands client certificates, all of it over SDS.
    fn context(fields: &str) -> Context {
        let source = Flavor::Sotw.config_source_with(fields);
        Context::new()
            .common(&format!("tls_certificate_sds_secret_configs: [{{name: own, sds_config: {source}}}]"))
            .common(&format!(
                "combined_validation_context: {{default_validation_context: {{{SANS}}}, \
                 validation_context_sds_secret_config: {{name: roots, sds_config: {source}}}}}"
            ))
    }

    #[track_caller]
    fn proxy(&self, subject: &Subject, fields: &str) -> Proxy {
        let context = Self::context(fields).required();
        let http = Http::to("up").listener(STAT_PREFIX).chain(&context.downstream());
        let bootstrap = Bootstrap::new().top(yaml::NODE).http(http);
        let bootstrap = bootstrap.cluster("up", &[self.upstream.address()], "");
        Proxy::start(subject, &yaml::plane_cluster(bootstrap, "xds", &self.plane))
    }
}

fn a_new_pair_from_the_control_plane(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "");
    let client = mutual_client().name("proxy.test");
    wait_shown(&proxy, &client, proxy_identity());
    let mut neighbour = Neighbour::over_tls(&client, proxy.listener("main"));
    for _ in 0..3 {
        let fresh = next();
        let mark = plane.plane.mark();
        plane.show(&fresh);
        plane.plane.wait_ack(mark, Type::Secret);
        wait_shown(&proxy, &client, &fresh);
        neighbour.is_served();
    }
}

#[track_caller]
fn refused_by_nack(plane: &Plane, proxy: &Proxy, what: &str, bad: Resource) {
    let mark = plane.plane.mark();
    plane.plane.set(bad);
    let nack = plane.plane.wait_nack(mark, Type::Secret);
    assert!(nack.error.as_ref().is_some_and(|e| !format!("{e:?}").contains("PRIVATE KEY")), "{what}");
    wait_shown(proxy, &mutual_client(), proxy_identity());
}

fn a_bad_pair_from_the_control_plane(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "");
    wait_shown(&proxy, &mutual_client(), proxy_identity());
    let mut neighbour = Neighbour::over_tls(&mutual_client(), proxy.listener("main"));
    let strange = next().with_key_of(client_identity());
    refused_by_nack(&plane, &proxy, "another key", secret(&pair("own", &strange)));
    let broken = pair("own", &next()).replace("BEGIN CERTIFICATE", "BEGIN NOTHING");
    refused_by_nack(&plane, &proxy, "no certificate", secret(&broken));
    refused_by_nack(&plane, &proxy, "no authority", roots("no certificate"));
    neighbour.is_served();
    let fresh = next();
    plane.plane.set(roots(root().pem()));
    plane.show(&fresh);
    wait_shown(&proxy, &mutual_client(), &fresh);
}

fn an_expired_pair_from_the_control_plane(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "");
    wait_shown(&proxy, &mutual_client(), proxy_identity());
    let expired = root().issue(&Leaf::dns("proxy.test").expired());
    refused_by_nack(&plane, &proxy, "expired", secret(&pair("own", &expired)));
}

/// Whoever the new authority does not vouch for is refused from then on, sessions that could resume included.
fn another_authority_from_the_control_plane(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "");
    let old = mutual_client().name("proxy.test");
    wait_shown(&proxy, &old, proxy_identity());
    let link = old.connect(proxy.listener("main"));
    assert!(link.facts.resumed);
    assert_eq!(link.raw().get("/").status, 200);
    let mut neighbour = Neighbour::over_tls(&old, proxy.listener("main"));
    let second = Authority::root("second");
    let new = Client::new().identity(&second.issue(&Leaf::spiffe("spiffe://test/new")));
    assert_eq!(new.refusal(proxy.listener("main")), Ending::Alert(AlertDescription::UnknownCA));
    plane.plane.set(roots(second.pem()));
    wait_shown(&proxy, &new, proxy_identity());
    assert_eq!(old.refusal(proxy.listener("main")), Ending::Alert(AlertDescription::UnknownCA));
    neighbour.is_served();
}

fn two_authorities_overlap(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "");
    let second = Authority::root("second");
    let new = Client::new().identity(&second.issue(&Leaf::spiffe("spiffe://test/new")));
    wait_shown(&proxy, &mutual_client(), proxy_identity());
    plane.plane.set(roots(&(root().pem().to_owned() + second.pem())));
    wait_shown(&proxy, &new, proxy_identity());
    wait_shown(&proxy, &mutual_client(), proxy_identity());
    plane.plane.set(roots(second.pem()));
    wait::for_true("the old authority to go", || {
        mutual_client().try_refusal(proxy.listener("main")).is_some()
    });
    wait_shown(&proxy, &new, proxy_identity());
}

fn a_missing_secret_closes_handshakes(subject: &Subject) {
    let plane = Plane::empty();
    let proxy = plane.proxy(subject, "initial_fetch_timeout: 0.3s");
    let refused = mutual_client().try_connect(proxy.wait_listener("main"));
    assert!(refused.is_err());
    let stat = "listener.main.server_ssl_socket_factory.downstream_context_secrets_not_ready";
    wait::for_true("the reason to be counted", || proxy.stat(stat).is_some_and(|n| n > 0));
    plane.show(proxy_identity());
    plane.plane.set(roots(root().pem()));
    wait_shown(&proxy, &mutual_client(), proxy_identity());
}

/// A proxy in clear text whose cluster has its pair from SDS.
#[track_caller]
fn towards(subject: &Subject, plane: &Plane, server: &Server, fields: &str) -> Proxy {
    let cluster = format!("{}\n", Plane::context(fields).upstream());
    let bootstrap = Bootstrap::new().top(yaml::NODE).http(Http::to("up"));
    let bootstrap = bootstrap.cluster("up", &[server.address()], &cluster);
    Proxy::start(subject, &yaml::plane_cluster(bootstrap, "xds", &plane.plane))
}

fn a_missing_secret_of_a_cluster(subject: &Subject) {
    let plane = Plane::empty();
    let server = Server::start(ServerOptions::new(server_identity(), plane.upstream.address()));
    let proxy = towards(subject, &plane, &server, "initial_fetch_timeout: 0.3s");
    assert_eq!(proxy.client().get("/").status, 503);
    assert!(server.seen().iter().all(|s| s.facts.is_none()));
    plane.show(client_identity());
    plane.plane.set(roots(root().pem()));
    wait::for_true("the secret", || proxy.client().get("/").status == 200);
}

fn our_own_certificate_towards_endpoints(subject: &Subject) {
    let plane = Plane::start();
    plane.show(client_identity());
    let closing = Upstream::start(|r| match r.target.as_str() {
        "/close" => Reply::with(200, &[("connection", "close")], b"x"),
        _ => Reply::ok("x"),
    });
    let server = Server::start(ServerOptions::new(server_identity(), closing.address()));
    let proxy = towards(subject, &plane, &server, "");
    let mut client = proxy.client();
    assert_eq!(client.get("/close").status, 200);
    let fresh = root().issue(&Leaf::spiffe("spiffe://test/fresh"));
    let mark = plane.plane.mark();
    plane.show(&fresh);
    plane.plane.wait_ack(mark, Type::Secret);
    let shown =
        |peer: &[Vec<u8>], identity: &Identity| peer.first().is_some_and(|p| **p == *identity.chain[0]);
    wait::for_true("the new certificate at the endpoint", || {
        assert_eq!(client.get("/close").status, 200);
        server.seen().last().and_then(|s| s.facts.clone()).is_some_and(|f| shown(&f.peer, &fresh))
    });
    let first = server.wait_seen(0).facts.expect("a handshake");
    assert!(shown(&first.peer, client_identity()));
}

fn the_control_plane_goes(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "");
    wait_shown(&proxy, &mutual_client(), proxy_identity());
    plane.plane.restart();
    for _ in 0..3 {
        wait_shown(&proxy, &mutual_client(), proxy_identity());
    }
    let fresh = next();
    plane.show(&fresh);
    wait_shown(&proxy, &mutual_client(), &fresh);
}

/// How many pairs [`many_rotations`] shows, and for how long each is the newest. The full run is
/// `MILLRACE_TLS_ROTATIONS=500 cargo test --release -p millrace-e2e --test e2e_tls -- many_rotations --nocapture`.
fn pace() -> (usize, Duration) {
    let count = std::env::var("MILLRACE_TLS_ROTATIONS").ok().and_then(|n| n.parse().ok());
    (count.unwrap_or(60), Duration::from_millis(100))
}

/// Fifty handshakes a second and long-lived connections, while pairs change: nothing fails and nothing closes.
fn many_rotations(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "");
    wait_shown(&proxy, &mutual_client(), proxy_identity());
    let address = proxy.listener("main");
    let mut neighbours: Vec<Neighbour> =
        (0..20).map(|_| Neighbour::over_tls(&mutual_client(), address)).collect();
    let (stop, shaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let shakers: Vec<_> = (0..5)
        .map(|_| {
            let (stop, shaken) = (Arc::clone(&stop), Arc::clone(&shaken));
            std::thread::spawn(move || {
                let client = mutual_client().name("proxy.test");
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let started = Instant::now();
                    match client.try_connect(address) {
                        Ok(link) if link.raw().get("/").status == 200 => {}
                        Ok(_) => failures.push("no 200".to_owned()),
                        Err(ending) => failures.push(format!("{ending:?}")),
                    }
                    shaken.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(100).saturating_sub(started.elapsed()));
                }
                failures
            })
        })
        .collect();
    let (count, each) = pace();
    let mut last = next();
    for n in 0..count {
        let started = Instant::now();
        last = next();
        plane.show(&last);
        if n % 10 == 9 {
            // Everybody's authority stays, another one comes and the one before that goes.
            plane.plane.set(roots(&(Authority::root("passing").pem().to_owned() + root().pem())));
        }
        let number = n % neighbours.len();
        neighbours[number].is_served();
        std::thread::sleep(each.saturating_sub(started.elapsed()));
    }
    wait_shown(&proxy, &mutual_client(), &last);
    stop.store(true, Ordering::SeqCst);
    let failures: Vec<String> = shakers.into_iter().flat_map(|t| t.join().unwrap_or_default()).collect();
    assert!(failures.is_empty(), "{failures:?}");
    neighbours.iter_mut().for_each(Neighbour::is_served);
    println!("{count} rotations, {} handshakes", shaken.load(Ordering::SeqCst));
}
