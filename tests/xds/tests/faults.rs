//! Control planes that break the rules of the protocol.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::process::{Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Address, tls};
use millrace_support::xds::{Answer, Options, Security, Type, from_yaml};
use millrace_xds_tests::{World, clusters, get, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(resources_of_another_type),
    case!(an_envelope_of_another_type),
    case!(duplicates),
    case!(garbage_in_every_resource),
    case!(bytes_that_are_no_response),
    case!(random_bytes),
    case!(a_response_without_a_nonce),
    case!(an_old_version_again),
    case!(a_control_plane_that_insists),
    case!(unknown_fields_are_accepted),
    case!(a_huge_response),
    case!(a_time_to_live_ends),
    case!(a_heartbeat_keeps_it),
    case!(a_heartbeat_of_endpoints_keeps_them),
    case!(a_heartbeat_of_endpoints_keeps_them_in_sotw, not_envoy: "Envoy 1.40 crashes (SIGSEGV)"),
    case!(over_a_unix_socket),
    case!(over_tls),
    case!(over_mutual_tls),
    case!(initial_metadata_is_sent),
    case!(kinds_in_the_wrong_order),
    case!(one_response_at_a_time),
    case!(runtime_over_xds),
];

const FLAVORS: [Flavor; 2] = [Flavor::AdsSotw, Flavor::AdsDelta];

/// After whatever happened, the proxy serves and takes the next change.
#[track_caller]
fn still_well(world: &World, proxy: &Proxy) {
    assert_eq!(get(proxy), (200, "one".into()));
    world.plane.set(yaml::static_cluster("later", &[], ""));
    millrace_support::wait::for_true("a later cluster", || clusters(proxy).contains("later"));
    world.plane.set(yaml::endpoints("up", &[]));
    wait_get(proxy, 503, "no healthy upstream");
}

/// Sends a broken answer and expects a NACK with one of these texts.
#[track_caller]
fn refused(subject: &Subject, answer: &Answer, texts: &[&str]) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.next_answer(Type::Cluster, answer.clone());
        world.plane.set(yaml::static_cluster("new", &[], ""));
        let nack = world.plane.wait_nack(mark, Type::Cluster);
        let known = texts.iter().any(|t| nack.reason().contains(t));
        assert!(known, "{flavor:?}: {}", nack.reason());
        world.plane.remove(Type::Cluster, "new");
        still_well(&world, &proxy);
    }
}

fn resources_of_another_type(subject: &Subject) {
    refused(subject, &Answer::ResourcesOfType(Type::Listener.url()), &["type"]);
}

fn duplicates(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    let proxy = world.proxy(subject);
    let mark = world.plane.mark();
    world.plane.next_answer(Type::Cluster, Answer::Duplicated);
    world.plane.set(yaml::static_cluster("new", &[], ""));
    let nack = world.plane.wait_nack(mark, Type::Cluster);
    assert!(nack.reason().contains("new") && nack.reason().contains("duplicate"), "{}", nack.reason());
    still_well(&world, &proxy);
}

fn garbage_in_every_resource(subject: &Subject) {
    refused(subject, &Answer::Garbage { seed: 7, len: 64 }, &[""]);
}

fn an_envelope_of_another_type(subject: &Subject) {
    ignored(subject, &Answer::EnvelopeOfType("type.googleapis.com/nothing.Known".into()));
}

/// Sends a broken answer; whatever the proxy says to it, it serves and goes on.
#[track_caller]
fn ignored(subject: &Subject, answer: &Answer) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        world.plane.next_answer(Type::Cluster, answer.clone());
        world.plane.set(yaml::static_cluster("new", &[], ""));
        assert_eq!(get(&proxy), (200, "one".into()));
        still_well(&world, &proxy);
    }
}

fn bytes_that_are_no_response(subject: &Subject) {
    ignored(subject, &Answer::Raw(vec![0xff; 100]));
}

fn random_bytes(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let mut rng = millrace_support::rng::Rng::new(4);
    for n in 0..30 {
        let len = usize::try_from(rng.between(0, 300)).unwrap_or(0);
        let ty = [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route][n % 4];
        world.plane.answer_now(ty, Answer::Raw(rng.bytes(len)));
    }
    assert_eq!(get(&proxy), (200, "one".into()));
    still_well(&world, &proxy);
}

fn a_response_without_a_nonce(subject: &Subject) {
    ignored(subject, &Answer::WithoutNonce);
}

fn an_old_version_again(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let mark = world.plane.mark();
    world.plane.next_answer(Type::Cluster, Answer::AtVersion("0".into()));
    world.plane.set(yaml::static_cluster("new", &[], ""));
    assert_eq!(world.plane.wait_ack(mark, Type::Cluster).version, "0", "versions are not compared");
    still_well(&world, &proxy);
}

fn a_control_plane_that_insists(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    world.plane.insist(Type::Cluster, true);
    world.plane.set(yaml::static_cluster("bad", &[], "lb_policy: CLUSTER_PROVIDED\n"));
    // We answer ten in a row at once and then one a second; Envoy answers for ever.
    let many = if subject.is_envoy() { 200 } else { 12 };
    millrace_support::wait::for_true("many refusals", || world.plane.nacks(Type::Cluster).len() > many);
    assert_eq!(get(&proxy), (200, "one".into()));
    world.plane.insist(Type::Cluster, false);
    world.plane.remove(Type::Cluster, "bad");
    still_well(&world, &proxy);
}

fn unknown_fields_are_accepted(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let mark = world.plane.mark();
    world.plane.next_answer(Type::Cluster, Answer::Padded(100));
    world.plane.set(yaml::static_cluster("new", &[], ""));
    world.plane.wait_ack(mark, Type::Cluster);
    still_well(&world, &proxy);
}

fn a_huge_response(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let mark = world.plane.mark();
    world.plane.next_answer(Type::Cluster, Answer::Padded(50 << 20));
    world.plane.set(yaml::static_cluster("new", &[], ""));
    // 100 MB in two resources: taken or refused by a limit, but not at the price of traffic.
    never(Duration::from_secs(2), "traffic stopped", || get(&proxy) != (200, "one".into()));
    let _ = mark;
    still_well(&world, &proxy);
}

fn a_time_to_live_ends(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let brief = yaml::static_cluster("brief", &[], "").with_ttl(Duration::from_millis(600));
        world.plane.set(brief);
        let proxy = world.proxy(subject);
        assert!(clusters(&proxy).contains("brief"));
        millrace_support::wait::for_true("its time to end", || !clusters(&proxy).contains("brief"));
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}

/// In delta: in state of the world Envoy takes a heartbeat of a cluster for a response without clusters.
fn a_heartbeat_keeps_it(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    world.plane.set(yaml::static_cluster("kept", &[], "").with_ttl(Duration::from_secs(1)));
    let proxy = world.proxy(subject);
    let mut beats = 0;
    never(Duration::from_millis(2500), "it went in spite of its heartbeat", || {
        beats += 1;
        if beats % 20 == 0 {
            world.plane.heartbeat(Type::Cluster, "kept");
        }
        !clusters(&proxy).contains("kept")
    });
    millrace_support::wait::for_true("its time to end", || !clusters(&proxy).contains("kept"));
}

fn a_heartbeat_of_endpoints_keeps_them(subject: &Subject) {
    beat_endpoints(subject, Flavor::AdsDelta);
}

fn a_heartbeat_of_endpoints_keeps_them_in_sotw(subject: &Subject) {
    beat_endpoints(subject, Flavor::AdsSotw);
}

fn beat_endpoints(subject: &Subject, flavor: Flavor) {
    let world = World::start(flavor);
    let brief = yaml::endpoints("up", &[world.upstream.address()]).with_ttl(Duration::from_secs(1));
    world.plane.set(brief);
    let proxy = world.proxy(subject);
    let mut beats = 0;
    never(Duration::from_millis(2500), "they went in spite of their heartbeat", || {
        beats += 1;
        if beats % 20 == 0 {
            world.plane.heartbeat(Type::Endpoint, "up");
        }
        get(&proxy) != (200, "one".into())
    });
}

fn over_a_unix_socket(subject: &Subject) {
    let directory = Directory::new();
    let address = Address::Unix(directory.path().join("xds.sock"));
    for flavor in Flavor::ALL {
        let world = World::with(flavor, Options { address: address.clone(), ..Options::default() });
        let proxy = world.proxy(subject);
        assert_eq!(get(&proxy), (200, "one".into()));
        world.plane.restart();
        world.plane.set(yaml::endpoints("up", &[]));
        wait_get(&proxy, 503, "no healthy upstream");
    }
}

fn secured(subject: &Subject, security: Security) -> Option<Vec<u8>> {
    let mut certificate = None;
    for flavor in Flavor::ALL {
        let world = World::with(flavor, Options { security, ..Options::default() });
        let proxy = world.proxy(subject);
        assert_eq!(get(&proxy), (200, "one".into()));
        certificate = world.plane.streams().pop().and_then(|s| s.client_certificate);
    }
    certificate
}

fn over_tls(subject: &Subject) {
    assert_eq!(secured(subject, Security::Tls), None);
}

fn over_mutual_tls(subject: &Subject) {
    let certificate = secured(subject, Security::Mutual);
    let named = certificate.is_some_and(|der| {
        der.windows(22).any(|w| w == b"spiffe://test/sidecar\x00" || w.starts_with(b"spiffe://test/sidecar"))
    });
    assert!(named, "the client's certificate; its authority is\n{}", tls::CA);
}

fn initial_metadata_is_sent(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    let mut yaml_text = yaml::bootstrap(&world.plane, Flavor::AdsDelta).yaml();
    yaml_text = yaml_text.replace(
        "{envoy_grpc: {cluster_name: xds}}",
        "{envoy_grpc: {cluster_name: xds}, initial_metadata: [{key: x-consul-token, value: secret}]}",
    );
    let directory = Directory::new();
    let config = directory.write("bootstrap.yaml", &yaml_text);
    let mut command = subject.command();
    command.arg("-c").arg(config).args(["--concurrency", "1"]);
    let proxy = Proxy::launch(command, directory);
    assert_eq!(get(&proxy), (200, "one".into()));
    let stream = world.plane.streams().remove(0);
    let token = stream.metadata.iter().find(|(name, _)| name == "x-consul-token");
    assert_eq!(token.map(|(_, value)| value.as_str()), Some("secret"));
    let kind = stream.metadata.iter().find(|(name, _)| name == "content-type");
    assert_eq!(kind.map(|(_, value)| value.as_str()), Some("application/grpc"));
}

fn kinds_in_the_wrong_order(subject: &Subject) {
    let order = vec![Type::Route, Type::Listener, Type::Endpoint, Type::Cluster];
    for flavor in Flavor::ALL {
        let world = World::with(flavor, Options { order: order.clone(), ..Options::default() });
        let proxy = world.proxy(subject);
        let two = Upstream::fixed("two");
        world.plane.update(|change| {
            change
                .set(yaml::eds_cluster("other", flavor, ""))
                .set(yaml::endpoints("other", &[two.address()]));
            change.set(yaml::route("r", "other"));
        });
        wait_get(&proxy, 200, "two");
    }
}

fn one_response_at_a_time(subject: &Subject) {
    for flavor in Flavor::ALL {
        let options = Options { wait_for_ack: true, missing_is_removed: true, ..Options::default() };
        let world = World::with(flavor, options);
        let proxy = world.proxy(subject);
        for n in 0..20 {
            world.plane.set(yaml::static_cluster(&format!("c{n}"), &[], ""));
        }
        millrace_support::wait::for_true("the last cluster", || clusters(&proxy).contains("c19"));
    }
}

fn runtime_over_xds(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let layer =
            |value: &str| from_yaml(Type::Runtime, &format!("name: live\nlayer: {{some.key: \"{value}\"}}"));
        world.plane.set(layer("one"));
        let source = flavor.config_source();
        let layered = format!(
            "layered_runtime: {{layers: [{{name: live, rtds_layer: {{name: live, rtds_config: {source}}}}}]}}"
        );
        let bootstrap = yaml::bootstrap(&world.plane, flavor).top(&layered);
        let proxy = Proxy::start(subject, &bootstrap);
        let shows = |value: &str| {
            let text = proxy.admin_get("/runtime").text();
            text.contains("some.key") && text.contains(value)
        };
        millrace_support::wait::for_true("the first layer", || shows("one"));
        world.plane.set(layer("two"));
        millrace_support::wait::for_true("the second layer", || shows("two"));
    }
}
