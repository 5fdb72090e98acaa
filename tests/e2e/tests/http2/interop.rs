//! HTTP/2 of others on either side: curl, nghttp, h2load, Go's net/http, HAProxy and Envoy.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use millrace_e2e::{Case, case, tools};
use millrace_support::any::{Answer, Body, Caller, Origin, Question, Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::Client;
use millrace_support::process::{Directory, Proxy};
use millrace_support::program::Program;
use millrace_support::raw;
use millrace_support::rng::Rng;
use millrace_support::subject::{Kind, Subject};
use millrace_support::wait;

use super::{cluster, start};

pub(crate) const CASES: &[Case] = &[
    case!(curl),
    case!(curl_that_offers_h2c),
    case!(nghttp),
    case!(h2load),
    case!(go_on_both_sides),
    case!(haproxy_upstream),
    case!(haproxy_downstream),
    case!(envoy_upstream),
    case!(envoy_downstream),
];

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

fn echo(version: Version) -> Origin {
    Origin::start(version, |seen| Answer {
        status: 200,
        fields: vec![("x-path", seen.path.clone())],
        body: Body::Length(seen.body.clone()),
        ..Answer::default()
    })
}

/// Runs a program to its end and returns what it said.
///
/// # Panics
/// When it fails.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("run the program");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

fn curl(subject: &Subject) {
    let Some(curl) = tools::installed("curl") else { return };
    for version in VERSIONS {
        let origin = echo(version);
        let proxy = start(subject, &origin, "");
        let url = format!("http://{}/p", proxy.listener("main"));
        let directory = Directory::new();
        let text: String = Rng::new(6).bytes(300_000).iter().map(|b| char::from(b'a' + b % 26)).collect();
        let file = directory.write("body", &text);
        let call = |arguments: &[&str]| {
            let mut command = Command::new(&curl);
            run(command
                .args([
                    "-sS",
                    "--max-time",
                    "20",
                    "--http2-prior-knowledge",
                    "-w",
                    "|%{http_code} %{http_version}",
                ])
                .args(arguments))
        };
        assert_eq!(call(&[&url]), "|200 2", "{version:?}");
        assert_eq!(call(&["--data-binary", &format!("@{}", file.display()), &url]), format!("{text}|200 2"));
        assert!(call(&["-I", &url]).contains("x-path: /p"));
        let streamed = call(&["-T", &file.to_string_lossy(), "-H", "content-length:", &url]);
        assert_eq!(streamed, format!("{text}|200 2"));
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// The offer is declined, which RFC 9113 leaves to the server, and the request is served as HTTP/1.1.
fn curl_that_offers_h2c(subject: &Subject) {
    let Some(curl) = tools::installed("curl") else { return };
    let origin = echo(Version::Http1);
    let proxy = start(subject, &origin, "");
    let url = format!("http://{}/p", proxy.listener("main"));
    let said = run(Command::new(curl).args([
        "-sS",
        "--http2",
        "-d",
        "body",
        "-w",
        "|%{http_code} %{http_version}",
        &url,
    ]));
    assert_eq!(said, "body|200 1.1");
    assert!(origin.violations().is_empty(), "{:?}", origin.violations());
}

/// It opens with PRIORITY frames on idle streams and a tree of dependencies.
fn nghttp(subject: &Subject) {
    let Some(nghttp) = tools::installed("nghttp") else { return };
    for version in VERSIONS {
        let origin = echo(version);
        let proxy = start(subject, &origin, "");
        let url = format!("http://{}/p", proxy.listener("main"));
        let said = run(Command::new(&nghttp).args(["-n", "-s", "-m", "40", "-b", "4", &url]));
        assert_eq!(said.matches(" 200 ").count(), 40, "{said}");
        assert_eq!(origin.requests().len(), 40);
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

fn h2load(subject: &Subject) {
    let Some(h2load) = tools::installed("h2load") else { return };
    for version in VERSIONS {
        let origin = echo(version);
        let proxy = start(subject, &origin, "");
        let url = format!("http://{}/p", proxy.listener("main"));
        let file = proxy.directory().join("body");
        assert!(std::fs::write(&file, [b'x'; 20_000]).is_ok());
        let load =
            |more: &[&str]| run(Command::new(&h2load).args(["-c", "4", "-m", "30"]).args(more).arg(&url));
        let said = load(&["-n", "2000"]);
        assert!(said.contains("2000 succeeded, 0 failed, 0 errored"), "{version:?}: {said}");
        let said = load(&["-n", "400", "-d", &file.to_string_lossy()]);
        assert!(said.contains("400 succeeded, 0 failed, 0 errored"), "{version:?}: {said}");
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

fn go_on_both_sides(subject: &Subject) {
    let Some(peer) = tools::prepared("http2-peer") else { return };
    let mut serve = Command::new(&peer);
    serve.arg("serve");
    let server = Program::start(serve);
    let bootstrap =
        Bootstrap::new().http(Http::to("up")).cluster("up", &[server.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let url = format!("http://{}", proxy.listener("main"));
    let said = run(Command::new(&peer).args(["call", &url]));
    assert_eq!(said.trim(), "passed 5");
}

/// Exchanges of both versions with whatever listens there.
#[track_caller]
fn drive(address: SocketAddr) {
    let bytes = Rng::new(2).bytes(300_000);
    for version in VERSIONS {
        let mut caller = Caller::connect(version, address);
        for body in
            [Body::None, Body::Length(bytes.clone()), Body::Streamed(vec![bytes.clone(), bytes.clone()])]
        {
            let sent = body.bytes();
            let question = Question { method: "POST", path: "/p".into(), body, ..Question::default() };
            let got = caller.ask(&question).expect("an answer");
            assert!(
                got.status == 200 && got.body == sent,
                "{version:?}: {} with {} octets",
                got.status,
                got.body.len()
            );
        }
    }
    let mut client = Client::connect(address);
    let ids: Vec<u32> = (0..50).map(|n| client.request("POST", "/p", &[], &bytes[..n * 300])).collect();
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(client.response(id).map(|r| r.body.len()), Ok(n * 300));
    }
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind an ephemeral port");
    listener.local_addr().map_or(0, |a| a.port())
}

/// HAProxy that takes both versions and speaks HTTP/2 (`proto h2`) or HTTP/1.1 to an address; ends when dropped.
struct Haproxy {
    child: std::process::Child,
    address: SocketAddr,
    _directory: Directory,
}

impl Haproxy {
    fn start(upstream: SocketAddr, server_options: &str) -> Option<Self> {
        let haproxy = tools::installed("haproxy")?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let directory = Directory::new();
        let config = directory.write(
            "haproxy.cfg",
            &format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
                 frontend f\n bind {address}\n default_backend b\nbackend b\n server s {upstream} {server_options}\n"
            ),
        );
        let child = Command::new(haproxy).arg("-db").arg("-f").arg(config).spawn().expect("start HAProxy");
        wait::for_true("HAProxy to listen", || raw::Client::try_connect(address).is_ok());
        Some(Self { child, address, _directory: directory })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn haproxy_upstream(subject: &Subject) {
    let origin = echo(Version::Http1);
    let Some(haproxy) = Haproxy::start(origin.address(), "") else { return };
    let bootstrap =
        Bootstrap::new().http(Http::to("up")).cluster("up", &[haproxy.address], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    drive(proxy.listener("main"));
}

fn haproxy_downstream(subject: &Subject) {
    for version in VERSIONS {
        let origin = echo(version);
        let proxy = start(subject, &origin, "");
        let Some(haproxy) = Haproxy::start(proxy.listener("main"), "proto h2") else { return };
        drive(haproxy.address);
        proxy.wait_stat("http.main.downstream_cx_http1_total", 0);
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// The real Envoy, where `ENVOY_BIN` names it.
fn envoy(address: SocketAddr, cluster: &str) -> Option<Proxy> {
    let Some(binary) = std::env::var_os("ENVOY_BIN") else {
        println!("skipped: ENVOY_BIN names no Envoy");
        return None;
    };
    let subject = Subject { kind: Kind::Envoy, binary: binary.into() };
    Some(Proxy::start(&subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[address], cluster)))
}

fn envoy_upstream(subject: &Subject) {
    let origin = echo(Version::Http1);
    let Some(envoy) = envoy(origin.address(), "") else { return };
    let address = envoy.listener("main");
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[address], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    drive(proxy.listener("main"));
    envoy.wait_stat("http.main.downstream_cx_http1_total", 0);
}

fn envoy_downstream(subject: &Subject) {
    for version in VERSIONS {
        let origin = echo(version);
        let bootstrap =
            Bootstrap::new().http(Http::to("up")).cluster("up", &[origin.address()], &cluster(version));
        let proxy = Proxy::start(subject, &bootstrap);
        let Some(envoy) = envoy(proxy.listener("main"), &http2_cluster("")) else { return };
        drive(envoy.listener("main"));
        proxy.wait_stat("http.main.downstream_cx_http1_total", 0);
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}
