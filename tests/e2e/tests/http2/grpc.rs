//! gRPC through the proxy: tonic and grpcio on either side, and the interop suite of grpc-go.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};

use millrace_e2e::{Case, case, grpc, tools};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::program::Program;
use millrace_support::raw;
use millrace_support::subject::Subject;
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(tonic_to_tonic),
    case!(tonic_to_grpcio),
    case!(grpcio_to_tonic),
    case!(grpcio_to_grpcio),
    case!(official_interop),
    case!(official_soak),
];

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/grpc_peer.py");

/// A proxy in front of a gRPC server, without the timeout of a route, as gRPC wants it.
#[track_caller]
fn start(subject: &Subject, server: SocketAddr) -> Proxy {
    let routes = "- match: {prefix: \"/\"}\n  route: {cluster: up, timeout: 0s}\n";
    let bootstrap = Bootstrap::new().http(Http::routes(routes)).cluster("up", &[server], &http2_cluster(""));
    Proxy::start(subject, &bootstrap)
}

/// `grpc_peer.py` with these arguments, where grpcio is installed.
fn peer(arguments: &[&str]) -> Option<Command> {
    let python = tools::in_target("xds-venv/bin/python", "tests/xds/planes/prepare.sh")?;
    let mut command = Command::new(python);
    command.arg(PEER).args(arguments);
    Some(command)
}

#[track_caller]
fn call_by_grpcio(proxy: &Proxy) {
    let Some(mut client) = peer(&["call", &proxy.listener("main").to_string()]) else { return };
    let output = client.output().expect("run the client");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.starts_with("passed "), "{said}\n{complained}");
}

fn tonic_to_tonic(subject: &Subject) {
    let server = grpc::Server::start();
    grpc::run(start(subject, server.address()).listener("main"));
}

fn tonic_to_grpcio(subject: &Subject) {
    let Some(server) = peer(&["serve"]).map(Program::start) else { return };
    let proxy = start(subject, server.address());
    grpc::run(proxy.listener("main"));
}

fn grpcio_to_tonic(subject: &Subject) {
    let server = grpc::Server::start();
    call_by_grpcio(&start(subject, server.address()));
}

fn grpcio_to_grpcio(subject: &Subject) {
    let Some(server) = peer(&["serve"]).map(Program::start) else { return };
    call_by_grpcio(&start(subject, server.address()));
}

/// grpc-go's interop server; ends when dropped.
struct Official {
    child: Child,
    address: SocketAddr,
}

impl Official {
    fn start() -> Option<Self> {
        let server = tools::prepared("interop-server")?;
        let free = TcpListener::bind("127.0.0.1:0").expect("bind an ephemeral port");
        let address = free.local_addr().expect("address of a bound socket");
        drop(free);
        let port = address.port().to_string();
        let child = Command::new(server).args(["-port", &port]).spawn().expect("start the interop server");
        wait::for_true("the interop server", || raw::Client::try_connect(address).is_ok());
        Some(Self { child, address })
    }
}

impl Drop for Official {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cases of grpc/doc/interop-test-descriptions.md that need neither TLS nor an account.
const OFFICIAL: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];

/// Runs cases of the official client and says which failed.
fn official(subject: &Subject, cases: &[&str], more: &[&str]) -> Option<Vec<String>> {
    let client = tools::prepared("interop-client")?;
    let server = Official::start()?;
    let proxy = start(subject, server.address);
    let port = proxy.listener("main").port().to_string();
    let run = |case: &&&str| {
        let mut command = Command::new(&client);
        command.args(["-server_host", "127.0.0.1", "-server_port", &port, "-test_case", case]).args(more);
        let output = command.output().expect("run the interop client");
        (!output.status.success()).then(|| format!("{case}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    Some(cases.iter().filter_map(|case| run(&case)).collect())
}

fn official_interop(subject: &Subject) {
    let wrong = official(subject, &OFFICIAL, &[]).unwrap_or_default();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Many large calls over one channel, and over a channel each.
fn official_soak(subject: &Subject) {
    let options = ["-soak_iterations", "30", "-soak_overall_timeout_seconds", "60"];
    let wrong = official(subject, &["rpc_soak", "channel_soak"], &options).unwrap_or_default();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
