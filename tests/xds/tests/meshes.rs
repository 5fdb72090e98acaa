//! How the control planes of Kuma, Consul and Istio treat their streams.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::ledger::{self, Running};
use millrace_support::process::{Directory, Proxy};
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Code, Options, Security, Type, tls};
use millrace_xds_tests::{World, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(kuma_tls_and_a_token_from_a_file),
    case!(node_in_every_request),
    case!(consul_holds_listeners_until_clusters_are_accepted),
    case!(consul_sends_children_again),
    case!(istio_sends_everything_again),
    case!(istio_after_a_new_stream),
    case!(streams_that_are_cut_under_traffic),
    case!(streams_that_are_cut_under_traffic_by_istio),
];

const KINDS: [Type; 4] = [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route];

fn block(text: &str, indent: usize) -> String {
    text.lines().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

/// `google_grpc` with `ssl_credentials.root_certs` and `file_based_metadata`, as Kuma's bootstrap has it.
fn kuma_tls_and_a_token_from_a_file(subject: &Subject) {
    let directory = Directory::new();
    let token = directory.write("token", "first-token");
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::with(flavor, Options { security: Security::Tls, ..Options::default() });
        std::fs::write(&token, "first-token").expect("write the token");
        let api = if flavor.is_delta() { "DELTA_GRPC" } else { "GRPC" };
        let ads = format!(
            "dynamic_resources:\n  cds_config: {0}\n  lds_config: {0}\n  ads_config:\n    api_type: {api}\n    \
             transport_api_version: V3\n    set_node_on_first_message_only: true\n    grpc_services:\n    - google_grpc:\n        \
             target_uri: localhost:{1}\n        stat_prefix: ads\n        \
             credentials_factory_name: envoy.grpc_credentials.file_based_metadata\n        \
             channel_credentials:\n          ssl_credentials:\n            root_certs:\n              inline_string: |\n{2}        \
             call_credentials:\n        - from_plugin:\n            name: envoy.grpc_credentials.file_based_metadata\n            \
             typed_config:\n              \
             \"@type\": type.googleapis.com/envoy.config.grpc_credential.v3.FileBasedMetadataConfig\n              \
             secret_data: {{filename: \"{3}\"}}\n              header_prefix: \"Bearer \"\n        \
             channel_args: {{args: {{grpc.keepalive_time_ms: {{int_value: 300000}}}}}}\n",
            flavor.config_source(),
            world.plane.tcp().port(),
            block(tls::CA, 16),
            token.display()
        );
        let proxy = Proxy::start(subject, &Bootstrap::new().top(yaml::NODE).top(&ads));
        wait_get(&proxy, 200, "one");
        let shown = |n: usize| {
            let metadata = world.plane.streams().into_iter().nth(n)?.metadata;
            metadata.into_iter().find(|(name, _)| name == "authorization").map(|(_, value)| value)
        };
        assert_eq!(shown(0), Some("Bearer first-token".into()));
        std::fs::write(&token, "second-token").expect("write the token");
        world.plane.end_streams(Code::Unavailable, "bye");
        let second = wait::until(wait::PATIENCE, || shown(1));
        assert_eq!(second, Some("Bearer second-token".into()), "the file is read for every stream");
    }
}

fn node_in_every_request(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let text = yaml::bootstrap(&world.plane, flavor).yaml();
        world.plane.update(|change| {
            for (ty, name) in [(Type::Cluster, "up"), (Type::Listener, "main")] {
                let resource = match ty {
                    Type::Cluster => yaml::eds_cluster_from(name, &every_time(&flavor.config_source()), ""),
                    _ => yaml::listener(&Http::rds("r", &every_time(&flavor.config_source()))),
                };
                change.set(resource);
            }
        });
        let directory = Directory::new();
        let config = directory.write("bootstrap.yaml", &every_time(&text));
        let mut command = subject.command();
        command.arg("-c").arg(config).args(["--concurrency", "1"]);
        let proxy = Proxy::launch(command, directory);
        proxy.wait_listener("main");
        world.settle();
        let requests = world.plane.requests();
        assert!(requests.len() >= 8, "{}", requests.len());
        let named = |r: &&millrace_support::xds::Request| {
            r.node.as_ref().is_some_and(|n| n.id == "sidecar-1" && n.cluster == "tests")
        };
        assert_eq!(requests.iter().filter(named).count(), requests.len(), "{flavor:?}");
    }
}

fn every_time(text: &str) -> String {
    text.replace("set_node_on_first_message_only: true", "set_node_on_first_message_only: false")
}

/// Consul keeps listeners and route tables back until clusters and endpoints are accepted: whoever waits for them with
/// the ACK of the clusters waits for ever.
fn consul_holds_listeners_until_clusters_are_accepted(subject: &Subject) {
    let options = Options { wait_for_ack: true, ..Options::default() };
    let world = World::with(Flavor::AdsDelta, options);
    world.plane.hold(Type::Listener);
    world.plane.hold(Type::Route);
    let proxy = world.unready(subject, "initial_fetch_timeout: 0s");
    world.plane.wait_ack(0, Type::Cluster);
    world.plane.wait_ack(0, Type::Endpoint);
    world.plane.release(Type::Listener);
    world.plane.release(Type::Route);
    wait_get(&proxy, 200, "one");
    world.settle();
    for n in 0..3 {
        let name = format!("c{n}");
        world.plane.hold(Type::Listener);
        world.plane.hold(Type::Route);
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.set(yaml::eds_cluster(&name, Flavor::AdsDelta, ""));
            change.set(yaml::endpoints(&name, &[world.upstream.address()]));
            change.set(yaml::rds_listener(&name, &name, Flavor::AdsDelta));
            change.set(yaml::route(&name, &name));
        });
        world.plane.wait_ack(mark, Type::Cluster);
        world.plane.wait_ack(mark, Type::Endpoint);
        world.plane.release(Type::Listener);
        world.plane.release(Type::Route);
        assert_eq!(Client::connect(proxy.wait_listener(&name)).get("/").text(), "one");
    }
}

/// A changed cluster or listener comes with its children, whose versions are the same as before.
fn consul_sends_children_again(subject: &Subject) {
    let world = World::with(Flavor::AdsDelta, Options { wait_for_ack: true, ..Options::default() });
    let proxy = world.proxy(subject);
    let mut open = proxy.client();
    assert_eq!(open.get("/").text(), "one");
    for n in 1..4 {
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.set(yaml::eds_cluster("up", Flavor::AdsDelta, &format!("connect_timeout: {n}s")));
            change.set(yaml::endpoints("up", &[world.upstream.address()]).at_version(&format!("again-{n}")));
        });
        world.plane.wait_ack(mark, Type::Cluster);
        world.plane.wait_ack(mark, Type::Endpoint);
        let next = open.get("/");
        assert_eq!((next.text(), next.closes()), ("one".into(), false), "round {n}");
    }
}

fn istio() -> Options {
    Options { unversioned: true, missing_is_removed: true, ..Options::default() }
}

fn istio_sends_everything_again(subject: &Subject) {
    let world = World::with(Flavor::AdsDelta, istio());
    let proxy = world.proxy(subject);
    let mut open = proxy.client();
    assert_eq!(open.get("/").text(), "one");
    for _ in 0..5 {
        for ty in KINDS {
            world.plane.resend(ty);
            world.in_force(ty);
            let next = open.get("/");
            assert_eq!((next.text(), next.closes()), ("one".into(), false), "{ty:?}");
        }
    }
    assert_eq!(world.upstream.connections(), 1, "the upstream connection stays, too");
    assert_eq!(proxy.stat("listener_manager.listener_modified"), Some(0));
    assert_eq!(proxy.stat("listener_manager.listener_in_place_updated").unwrap_or(0), 0);
    // A change under the same empty version is a change.
    world.plane.set(yaml::endpoints("up", &[]));
    wait_get(&proxy, 503, "no healthy upstream");
    world.plane.set(yaml::endpoints("up", &[world.upstream.address()]));
    wait_get(&proxy, 200, "one");
    let says = "{match: {prefix: \"/\"}, direct_response: {status: 200, body: {inline_string: new}}}";
    world.plane.set(yaml::routes("r", says));
    wait_get(&proxy, 200, "new");
    assert_eq!(open.get("/").text(), "new", "on the old connection");
}

/// What went while there was no stream goes, although no versions are there to tell.
fn istio_after_a_new_stream(subject: &Subject) {
    let world = World::with(Flavor::AdsDelta, istio());
    world.plane.set(yaml::static_cluster("brief", &[], ""));
    let proxy = world.proxy(subject);
    let mut open = proxy.client();
    assert_eq!(open.get("/").text(), "one");
    world.plane.stop();
    world.plane.remove(Type::Cluster, "brief");
    let mark = world.plane.mark();
    world.plane.restart();
    let first = world.plane.wait_for(mark, "CDS", |r| r.is(Type::Cluster) && r.first);
    assert_eq!(first.initial_versions.keys().collect::<Vec<_>>(), ["brief", "up"]);
    for ty in KINDS {
        world.plane.wait_ack(mark, ty);
    }
    wait::for_true("the cluster to go", || !millrace_xds_tests::clusters(&proxy).contains("brief"));
    let next = open.get("/");
    assert_eq!((next.text(), next.closes()), ("one".into(), false));
}

fn streams_that_are_cut_under_traffic(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        cut(subject, flavor, Options::default());
    }
}

fn streams_that_are_cut_under_traffic_by_istio(subject: &Subject) {
    cut(subject, Flavor::AdsDelta, istio());
}

/// Streams and connections to the control plane end every 600 ms; traffic does not notice.
fn cut(subject: &Subject, flavor: Flavor, options: Options) {
    let mut world = World::with(flavor, options);
    world.upstream = ledger::upstream();
    world.plane.set(yaml::endpoints("up", &[world.upstream.address()]));
    let proxy = world.proxy(subject);
    let plan = ledger::Plan {
        connections: 4,
        requests: usize::MAX,
        max_body: 5000,
        time: 3 * wait::PATIENCE,
        pause: Duration::from_millis(5),
        ..ledger::Plan::default()
    };
    let running = Running::start(proxy.listener("main"), &plan);
    for n in 0..8 {
        let mark = world.plane.mark();
        if n % 2 == 0 {
            world.plane.end_streams(Code::Unavailable, "deadline exceeded");
        } else {
            world.plane.drop_connections();
        }
        world.plane.wait_for(mark, "a new stream", |r| r.is(Type::Listener) && r.first);
        never(Duration::from_millis(300), "not ready", || !proxy.is_ready());
    }
    let total = proxy.stat("http.main.downstream_cx_total");
    let draining = proxy.stat("listener_manager.total_listeners_draining");
    running.stop();
    let books = running.finish();
    books.assert_all_answered();
    books.assert_exactly_once(&world.upstream);
    assert_eq!((total, draining), (Some(4), Some(0)), "connections, and listeners that drain");
    world.upstream.assert_strict();
}
