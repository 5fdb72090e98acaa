//! Real control planes, and gRPC's xDS client as a check on the scripted one.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Bootstrap;
use millrace_support::process::{Directory, Proxy};
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tls;
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Type, from_yaml};
use millrace_xds_tests::planes::{PLANES, Program, go, python, sovereign};
use millrace_xds_tests::{clusters, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(go_control_plane),
    case!(go_control_plane_many_updates),
    case!(go_control_plane_secrets),
    case!(python_grpcio),
    case!(sovereign_over_rest),
    case!(grpc_resolves_from_the_scripted_plane),
];

/// A bootstrap whose cluster `xds` is at this address.
fn bootstrap(flavor: Flavor, at: SocketAddr) -> Bootstrap {
    let base = Bootstrap::new().top(yaml::NODE).top(&flavor.dynamic_resources(""));
    base.cluster("xds", &[at], &format!("connect_timeout: 1s\n{}", yaml::HTTP2))
}

/// GET /version, which real control planes answer with their round.
fn round(proxy: &Proxy) -> Option<String> {
    let mut client = Client::try_connect(proxy.bound("main")?).ok()?;
    client.request("GET", "/version", &[("host", "test.local")], b"");
    Some(client.response("GET").ok()?.text())
}

fn wait_round(proxy: &Proxy, n: usize) {
    wait::for_true(&format!("round {n}"), || round(proxy) == Some(n.to_string()));
}

fn start_go(flavor: Flavor, upstream: SocketAddr) -> Option<Program> {
    start_go_with(flavor, upstream, &[])
}

fn start_go_with(flavor: Flavor, upstream: SocketAddr, arguments: &[&str]) -> Option<Program> {
    let source = match flavor {
        Flavor::AdsSotw | Flavor::AdsDelta => "ads",
        Flavor::Sotw => "sotw",
        Flavor::Delta => "delta",
    };
    let mut command = Command::new(go()?);
    command.args(["-upstream", &upstream.to_string(), "-source", source]).args(arguments);
    Some(Program::start(command))
}

/// Rounds one after the other, then nothing at all, then everything again.
fn drive(subject: &Subject, plane: &mut Program, flavor: Flavor) {
    let proxy = Proxy::start(subject, &bootstrap(flavor, plane.address()));
    wait_get(&proxy, 200, "up");
    wait_round(&proxy, 1);
    for n in 2..6 {
        plane.tell(&format!("set {n}"));
        wait_round(&proxy, n);
    }
    let refused: Vec<String> = plane.lines().into_iter().filter(|l| l.starts_with("nack")).collect();
    assert!(refused.is_empty(), "{flavor:?}: {refused:?}");
    plane.tell("empty 6");
    wait::for_true("the cluster to go", || !clusters(&proxy).contains("up"));
    plane.tell("set 7");
    wait_round(&proxy, 7);
    wait_get(&proxy, 200, "up");
}

fn go_control_plane(subject: &Subject) {
    for flavor in Flavor::ALL {
        let upstream = Upstream::fixed("up");
        let Some(mut plane) = start_go(flavor, upstream.address()) else { return };
        drive(subject, &mut plane, flavor);
    }
}

fn go_control_plane_many_updates(subject: &Subject) {
    for flavor in Flavor::ALL {
        let upstream = Upstream::fixed("up");
        let Some(mut plane) = start_go(flavor, upstream.address()) else { return };
        let proxy = Proxy::start(subject, &bootstrap(flavor, plane.address()));
        wait_get(&proxy, 200, "up");
        let mut kept = proxy.client();
        plane.tell("churn 2 400");
        let mut served = 0;
        wait::for_true("the last round", || {
            assert_eq!(kept.get("/").text(), "up");
            served += 1;
            round(&proxy) == Some("400".into())
        });
        assert!(served > 10);
        let refused: Vec<String> = plane.lines().into_iter().filter(|l| l.starts_with("nack")).collect();
        assert!(refused.is_empty(), "{flavor:?}: {refused:?}");
    }
}

/// Each round brings another pair, named after it; a connection of the first round stays.
fn go_control_plane_secrets(subject: &Subject) {
    for flavor in Flavor::ALL {
        let upstream = Upstream::fixed("up");
        let Some(mut plane) = start_go_with(flavor, upstream.address(), &["-tls"]) else { return };
        let proxy = Proxy::start(subject, &bootstrap(flavor, plane.address()));
        let wait_pair = |round: usize| {
            let name = format!("round-{round}.test");
            wait::for_true(&name, || {
                let link = proxy.bound("main").and_then(|at| tls::Client::new().try_connect(at).ok());
                let peer = link.and_then(|link| link.facts.peer.first().cloned()).unwrap_or_default();
                peer.windows(name.len()).any(|part| part == name.as_bytes())
            });
        };
        wait_pair(1);
        let link = tls::Client::new().connect(proxy.listener("main"));
        let mut kept = link.raw();
        for round in 2..6 {
            plane.tell(&format!("set {round}"));
            wait_pair(round);
            assert_eq!(kept.get("/").text(), "up");
        }
        plane.tell("churn 6 200");
        plane.wait(0, "churned 200");
        wait_pair(200);
        assert_eq!(kept.get("/").text(), "up");
        let refused: Vec<String> = plane.lines().into_iter().filter(|l| l.starts_with("nack")).collect();
        assert!(refused.is_empty(), "{flavor:?}: {refused:?}");
    }
}

fn python_grpcio(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let Some(python) = python() else { return };
        let upstream = Upstream::fixed("up");
        let mut command = Command::new(python);
        command.arg(format!("{PLANES}/plane.py")).arg(upstream.address().to_string());
        drive(subject, &mut Program::start(command), flavor);
    }
}

/// Sovereign and the test's folder; ends with the value.
struct Sovereign {
    child: Child,
    directory: Directory,
    port: u16,
}

impl Sovereign {
    fn start(upstream: SocketAddr) -> Option<Self> {
        let program = sovereign()?;
        let directory = Directory::new();
        let config =
            std::fs::read_to_string(format!("{PLANES}/sovereign/config.yaml")).expect("its configuration");
        let config =
            directory.write("config.yaml", &config.replace("@HERE@", &format!("{PLANES}/sovereign")));
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().map(|a| a.port()).unwrap_or_default();
        drop(free);
        let log = || std::fs::File::create(directory.path().join("log")).expect("a log");
        let world = Self::world(1, upstream);
        directory.write("world.yaml", &world);
        let child = Command::new(program)
            .env("SOVEREIGN_CONFIG", format!("file://{}", config.display()))
            .env("SOVEREIGN_HOST", "127.0.0.1")
            .env("SOVEREIGN_PORT", port.to_string())
            .env("SOVEREIGN_WORKERS", "1")
            .stdout(log())
            .stderr(Stdio::null())
            .current_dir(directory.path())
            .spawn()
            .expect("start sovereign");
        let plane = Self { child, directory, port };
        let up = wait::until(3 * wait::PATIENCE, || Client::try_connect(plane.address()).ok());
        assert!(up.is_some(), "sovereign does not listen");
        Some(plane)
    }

    fn world(round: usize, upstream: SocketAddr) -> String {
        format!("round: {round}\nport: {}\n", upstream.port())
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Drop for Sovereign {
    fn drop(&mut self) {
        // SIGTERM, so that gunicorn ends its worker too.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if wait::until(wait::PATIENCE, || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn sovereign_over_rest(subject: &Subject) {
    let upstream = Upstream::fixed("up");
    let Some(plane) = Sovereign::start(upstream.address()) else { return };
    let source = "{resource_api_version: V3, api_config_source: {api_type: REST, transport_api_version: V3, \
                  cluster_names: [xds], refresh_delay: 0.3s}}";
    let dynamic = format!("dynamic_resources: {{cds_config: {source}, lds_config: {source}}}");
    let base = Bootstrap::new().top(yaml::NODE).top(&dynamic);
    let proxy = Proxy::start(subject, &base.cluster("xds", &[plane.address()], "connect_timeout: 1s"));
    wait_get(&proxy, 200, "up");
    wait_round(&proxy, 1);
    plane.directory.write("world.yaml", &Sovereign::world(2, upstream.address()));
    wait_round(&proxy, 2);
    wait::for_true("the cluster of round 2", || {
        let names = clusters(&proxy);
        names.contains("more-2") && !names.contains("more-1")
    });
    wait_get(&proxy, 200, "up");
}

/// An `ApiListener`, which is what gRPC clients read.
fn api_listener(name: &str, route: &str) -> String {
    format!(
        "name: {name}\napi_listener:\n  api_listener:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n    \
         rds: {{route_config_name: {route}, config_source: {{ads: {{}}, resource_api_version: V3}}}}\n    \
         http_filters: [{{name: router, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]\n"
    )
}

/// The subject plays no part here: what is tested is the control plane that tests everything else.
fn grpc_resolves_from_the_scripted_plane(_: &Subject) {
    let Some(python) = python() else { return };
    let plane = ControlPlane::start(Options::default());
    let directory = Directory::new();
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "{}", "channel_creds": [{{"type": "insecure"}}],
        "server_features": ["xds_v3"]}}], "node": {{"id": "grpc-1", "cluster": "tests"}}}}"#,
        plane.tcp()
    );
    let config = directory.write("xds.json", &text);
    let mut command = Command::new(python);
    command.arg(format!("{PLANES}/grpc_client.py")).args(["service.test", "2"]);
    command.env("GRPC_XDS_BOOTSTRAP", config);
    let mut client = Program::start(command);
    let port: u16 = client.wait(0, "backend ").parse().expect("a port");
    plane.update(|change| {
        change.set(from_yaml(Type::Listener, &api_listener("service.test", "r")));
        change.set(yaml::route("r", "up"));
        change.set(yaml::eds_cluster("up", Flavor::AdsSotw, ""));
        let endpoint = format!(
            "cluster_name: up\nendpoints: [{{locality: {{zone: a}}, load_balancing_weight: 1, lb_endpoints: \
             [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]"
        );
        change.set(from_yaml(Type::Endpoint, &endpoint));
    });
    client.tell("call");
    assert_eq!(client.wait(0, "answer "), "echo hello");
    for (ty, name) in
        [(Type::Listener, "service.test"), (Type::Route, "r"), (Type::Cluster, "up"), (Type::Endpoint, "up")]
    {
        let ack = plane.wait_ack(0, ty);
        assert_eq!(ack.names.into_iter().collect::<Vec<_>>(), [name], "{ty:?}");
        assert!(plane.nacks(ty).is_empty(), "{}", plane.transcript(0));
    }
    // An update reaches it, and a bad one is refused by name.
    let mark = plane.mark();
    plane.set(yaml::routes("r", "{match: {prefix: \"/\"}, route: {cluster: up, timeout: 9s}}"));
    plane.wait_ack(mark, Type::Route);
    let mark = plane.mark();
    plane.set(yaml::routes("r", "{match: {safe_regex: {regex: \"(\"}}, route: {cluster: up}}"));
    let nack = plane.wait_nack(mark, Type::Route);
    assert!(!nack.reason().is_empty());
    client.tell("call");
    wait::for_true("the second answer", || {
        client.lines().iter().filter(|l| *l == "answer echo hello").count() == 2
    });
}
