//! TLS of others on either side: OpenSSL, curl, Go's crypto/tls, gRPC, h2spec and Envoy.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use millrace_e2e::{Case, case, tools};
use millrace_support::any::{Answer, Body, Origin, Version as HttpVersion, http2_cluster, protocol_options};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Proxy};
use millrace_support::program::Program;
use millrace_support::raw;
use millrace_support::subject::{Kind, Subject};
use millrace_support::tls::{Algorithm, Context, Identity, Leaf};
use millrace_support::wait;

use crate::common::{
    client_identity, hello, mutual_tls, plain_tls, proxy_identity, root, server_identity, terminate,
};

pub(crate) const CASES: &[Case] = &[
    case!(openssl_client),
    case!(openssl_client_suites_and_groups),
    case!(openssl_client_resumes),
    case!(openssl_client_that_renegotiates),
    case!(openssl_server),
    case!(curl),
    case!(go_client),
    case!(go_server),
    case!(envoy_in_front),
    case!(envoy_behind),
    case!(grpcio_over_mutual_tls),
    case!(grpc_go_over_mutual_tls),
    case!(h2spec_over_tls, not_envoy: "Envoy 1.40 passes 134 of 147"),
];

/// Files of certificates, for programs that want files.
struct Files {
    directory: Directory,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: Directory::new() };
        files.directory.write("ca.pem", root().pem());
        files.identity("client", client_identity());
        files.identity("server", server_identity());
        files
    }

    fn identity(&self, name: &str, identity: &Identity) {
        self.directory.write(&format!("{name}.pem"), &identity.pem());
        self.directory.write(&format!("{name}.key"), identity.key_pem());
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// Runs a program with this input; what it said on both streams, and whether it ended well.
#[track_caller]
fn run_with(mut command: Command, input: &str) -> (String, bool) {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run the program");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that has ended already reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the program's end");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

#[track_caller]
fn run(command: Command) -> String {
    let shown = format!("{command:?}");
    let (said, well) = run_with(command, "");
    assert!(well, "{shown}: {said}");
    said
}

const GET: &str = "GET / HTTP/1.1\r\nhost: proxy.test\r\nconnection: close\r\n\r\n";

fn s_client(openssl: &PathBuf, files: &Files, address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("20").arg(openssl).args(["s_client", "-connect", &address.to_string(), "-ign_eof"]);
    command.args(["-CAfile", &files.path("ca.pem"), "-verify_return_error", "-servername", "proxy.test"]);
    command.args(["-cert", &files.path("client.pem"), "-key", &files.path("client.key")]);
    command.args(arguments);
    command
}

fn openssl_client(subject: &Subject) {
    let Some(openssl) = tools::installed("openssl") else { return };
    let (upstream, files) = (hello(), Files::new());
    let proxy = terminate(subject, &mutual_tls().alpn(&["h2", "http/1.1"]), upstream.address());
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let arguments = [version, "-alpn", "http/1.1", "-verify_hostname", "proxy.test"];
        let (said, _) = run_with(s_client(&openssl, &files, proxy.listener("main"), &arguments), GET);
        assert!(said.contains("HTTP/1.1 200 OK") && said.contains("hello"), "{said}");
        for expected in [shown, "ALPN protocol: http/1.1", "Verification: OK"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
    for version in ["-tls1", "-tls1_1"] {
        let arguments = [version, "-cipher", "ALL:@SECLEVEL=0"];
        let (said, _) = run_with(s_client(&openssl, &files, proxy.listener("main"), &arguments), GET);
        assert!(said.contains("protocol version") && !said.contains("200 OK"), "{said}");
    }
}

fn openssl_client_suites_and_groups(subject: &Subject) {
    let Some(openssl) = tools::installed("openssl") else { return };
    let (upstream, files) = (hello(), Files::new());
    let rsa = root().issue(&Leaf::dns("proxy.test").algorithm(Algorithm::Rsa2048));
    let list = "tls_params: {cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256, \
                ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, ECDHE-ECDSA-CHACHA20-POLY1305, \
                ECDHE-RSA-CHACHA20-POLY1305], ecdh_curves: [X25519, P-256, P-384]}";
    let context = mutual_tls().certificate(&rsa).common(list);
    let proxy = terminate(subject, &context, upstream.address());
    let mut wrong = Vec::new();
    for (version, option, suites) in [
        (
            "-tls1_2",
            "-cipher",
            &[
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-RSA-CHACHA20-POLY1305",
            ][..],
        ),
        (
            "-tls1_3",
            "-ciphersuites",
            &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
        ),
    ] {
        for suite in suites {
            for groups in ["X25519", "P-256:X25519", "P-384:P-256"] {
                let arguments = [version, option, suite, "-groups", groups];
                let (said, _) = run_with(s_client(&openssl, &files, proxy.listener("main"), &arguments), GET);
                if !(said.contains("200 OK") && said.contains(suite)) {
                    wrong.push(format!("{suite} {groups}"));
                }
            }
        }
    }
    // With X25519 alone no curve is left for a certificate of ECDSA with P-256 in TLS 1.2.
    wrong.retain(|w| !(w.starts_with("ECDHE-ECDSA") && w.ends_with(" X25519")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn openssl_client_resumes(subject: &Subject) {
    let Some(openssl) = tools::installed("openssl") else { return };
    let (upstream, files) = (hello(), Files::new());
    let proxy = terminate(subject, &mutual_tls(), upstream.address());
    for version in ["-tls1_2", "-tls1_3"] {
        let session = files.path("session");
        let store = [version, "-sess_out", &session];
        let (said, _) = run_with(s_client(&openssl, &files, proxy.listener("main"), &store), GET);
        assert!(said.contains("200 OK") && said.contains("New, TLS"), "{said}");
        let again = [version, "-sess_in", &session];
        let (said, _) = run_with(s_client(&openssl, &files, proxy.listener("main"), &again), GET);
        assert!(said.contains("200 OK") && said.contains("Reused, TLS"), "{version}: {said}");
    }
}

fn openssl_client_that_renegotiates(subject: &Subject) {
    let Some(openssl) = tools::installed("openssl") else { return };
    let (upstream, files) = (hello(), Files::new());
    let proxy = terminate(subject, &mutual_tls(), upstream.address());
    let mut command = Command::new("timeout");
    command.arg("20").arg(openssl).args(["s_client", "-connect", &proxy.listener("main").to_string()]);
    command.args(["-tls1_2", "-cert", &files.path("client.pem"), "-key", &files.path("client.key")]);
    let (said, _) = run_with(command, "R\n");
    assert!(said.contains("RENEGOTIATING") && !said.contains("200 OK"), "{said}");
    assert!(said.contains("no renegotiation") || said.contains("unexpected message"), "{said}");
}

/// A port that nobody uses now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind an ephemeral port");
    listener.local_addr().expect("an address")
}

/// A program that is killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our own certificate, and belief in [`root`].
fn mutual_upstream() -> Context {
    Context::new()
        .certificate(client_identity())
        .trusts(&root())
        .common("tls_params: {tls_maximum_protocol_version: TLSv1_3}")
        .field("sni: server.test")
}

fn openssl_server(subject: &Subject) {
    let Some(openssl) = tools::installed("openssl") else { return };
    let files = Files::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let address = free_address();
        let mut command = Command::new(&openssl);
        command.args(["s_server", "-www", "-accept", &address.to_string(), version, "-Verify", "4"]);
        command.args(["-CAfile", &files.path("ca.pem"), "-verify_return_error"]);
        command.args(["-cert", &files.path("server.pem"), "-key", &files.path("server.key")]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let _server = Running(command.spawn().expect("start OpenSSL"));
        wait::for_true("OpenSSL to listen", || raw::Client::try_connect(address).is_ok());
        let cluster = mutual_upstream().upstream();
        let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[address], &cluster);
        let proxy = Proxy::start(subject, &bootstrap);
        for _ in 0..3 {
            let response = proxy.client().get("/");
            assert_eq!(response.status, 200, "{version}");
            assert!(
                response.text().contains("CN = server.test") || response.text().contains("Cipher"),
                "{version}"
            );
        }
    }
}

fn curl(subject: &Subject) {
    let Some(curl) = tools::installed("curl") else { return };
    let (upstream, files) = (hello(), Files::new());
    let proxy = terminate(subject, &mutual_tls().alpn(&["h2", "http/1.1"]), upstream.address());
    let address = proxy.listener("main");
    let url = format!("https://proxy.test:{}/", address.port());
    let resolve = format!("proxy.test:{}:127.0.0.1", address.port());
    let call = |arguments: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--resolve", &resolve]);
        command.args(["--cacert", &files.path("ca.pem"), "-w", "|%{http_code} %{http_version}"]);
        command.args(arguments).arg(&url);
        run_with(command, "")
    };
    let (certificate, key) = (files.path("client.pem"), files.path("client.key"));
    let mutual = ["--cert", certificate.as_str(), "--key", key.as_str()];
    for tls in [&["--tlsv1.3"][..], &["--tlsv1.2", "--tls-max", "1.2"]] {
        for (http, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let (said, well) = call(&[tls, &mutual, &[http]].concat());
            assert!(well && said == format!("hello|200 {version}"), "{tls:?} {http}: {said}");
        }
        let (said, well) = call(&[tls, &["--http2"][..]].concat());
        assert!(!well && !said.contains("hello"), "without a certificate: {said}");
    }
}

fn echo(version: HttpVersion) -> Origin {
    Origin::start(version, |seen| Answer {
        status: 200,
        body: Body::Length(seen.body.clone()),
        ..Answer::default()
    })
}

fn go_client(subject: &Subject) {
    let Some(peer) = tools::prepared("tls-peer") else { return };
    let files = Files::new();
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let origin = echo(version);
        let cluster = if version == HttpVersion::Http2 { http2_cluster("") } else { String::new() };
        let http = Http::to("up").chain(&mutual_tls().alpn(&["h2", "http/1.1"]).downstream());
        let bootstrap = Bootstrap::new().http(http).cluster("up", &[origin.address()], &cluster);
        let proxy = Proxy::start(subject, &bootstrap);
        let mut command = Command::new(&peer);
        command.args(["call", &proxy.listener("main").to_string(), "proxy.test", &files.path("ca.pem")]);
        command.args([files.path("client.pem"), files.path("client.key")]);
        assert_eq!(run(command).trim(), "passed 7", "{version:?}");
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

fn go_server(subject: &Subject) {
    let Some(peer) = tools::prepared("tls-peer") else { return };
    let files = Files::new();
    let auto = protocol_options("auto_config: {http_protocol_options: {}, http2_protocol_options: {}}");
    for (cluster, protocol) in
        [(http2_cluster(""), "HTTP/2.0"), (String::new(), "HTTP/1.1"), (auto, "HTTP/2.0")]
    {
        let mut command = Command::new(&peer);
        command.args(["serve", &files.path("ca.pem"), &files.path("server.pem"), &files.path("server.key")]);
        let server = Program::start(command);
        let fields = format!("{cluster}\n{}", mutual_upstream().upstream());
        let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[server.address()], &fields);
        let proxy = Proxy::start(subject, &bootstrap);
        let mut client = proxy.client();
        for size in [0, 1, 70_000, 2 << 20] {
            let body = vec![b'x'; size];
            let response = client.exchange("POST", "/", &[], &body);
            assert!(response.status == 200 && response.body == body, "{protocol} {size}");
            assert_eq!(response.get("x-proto"), Some(protocol));
            assert_eq!(response.get("x-peer"), Some("spiffe://test/ns/default/sa/client"));
        }
    }
}

/// The real Envoy, where `ENVOY_BIN` names it.
fn envoy(bootstrap: &Bootstrap) -> Option<Proxy> {
    let Some(binary) = std::env::var_os("ENVOY_BIN") else {
        println!("skipped: ENVOY_BIN names no Envoy");
        return None;
    };
    Some(Proxy::start(&Subject { kind: Kind::Envoy, binary: binary.into() }, bootstrap))
}

/// TLS of one proxy towards another, with both certificates, and exchanges through both.
#[track_caller]
fn chained(subject: &Subject, envoy_is_first: bool) {
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        for tls in ["TLSv1_2", "TLSv1_3"] {
            let origin = echo(HttpVersion::Http1);
            let params = format!(
                "tls_params: {{tls_minimum_protocol_version: {tls}, tls_maximum_protocol_version: {tls}}}"
            );
            let context = mutual_tls().alpn(&["h2", "http/1.1"]).common(&params);
            let http = Http::to("up").chain(&context.downstream());
            let second = Bootstrap::new().http(http).cluster("up", &[origin.address()], "");
            let second = if envoy_is_first { Some(Proxy::start(subject, &second)) } else { envoy(&second) };
            let Some(second) = second else { return };
            let cluster = if version == HttpVersion::Http2 { http2_cluster("") } else { String::new() };
            let upstream = Context::new()
                .certificate(client_identity())
                .trusts(&root())
                .validation("match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: \"spiffe://test/ns/default/sa/proxy\"}}]")
                .common(&params);
            let fields = format!("{cluster}\n{}", upstream.upstream());
            let first =
                Bootstrap::new().http(Http::to("up")).cluster("up", &[second.listener("main")], &fields);
            let first = if envoy_is_first { envoy(&first) } else { Some(Proxy::start(subject, &first)) };
            let Some(first) = first else { return };
            let mut client = first.client();
            for size in [0, 1, 16_384, 200_000, 2 << 20] {
                let body = vec![b'x'; size];
                let response = client.exchange("POST", "/", &[], &body);
                assert!(response.status == 200 && response.body == body, "{version:?} {tls} {size}");
            }
            assert!(origin.violations().is_empty(), "{:?}", origin.violations());
            assert!(!proxy_identity().pem().is_empty());
        }
    }
}

fn envoy_in_front(subject: &Subject) {
    chained(subject, true);
}

fn envoy_behind(subject: &Subject) {
    chained(subject, false);
}

/// gRPC's own TLS, which demands that `h2` is agreed upon.
fn grpcio_over_mutual_tls(subject: &Subject) {
    let Some(python) = tools::in_target("xds-venv/bin/python", "tests/xds/planes/prepare.sh") else { return };
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools/grpc_peer.py");
    let files = Files::new();
    let mut serve = Command::new(&python);
    serve.arg(&script).arg("serve");
    let server = Program::start(serve);
    let context = mutual_tls().alpn(&["h2"]);
    let http = Http::routes("- match: {prefix: \"/\"}\n  route: {cluster: up, timeout: 0s}\n");
    let http = http.chain(&context.downstream());
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[server.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut call = Command::new(&python);
    call.arg(&script).args(["call", &proxy.listener("main").to_string(), "proxy.test"]);
    call.args([files.path("ca.pem"), files.path("client.pem"), files.path("client.key")]);
    assert!(run(call).starts_with("passed "));
}

/// The interop cases of grpc-go, with certificates of both sides in front of the proxy and behind it.
fn grpc_go_over_mutual_tls(subject: &Subject) {
    let Some(peer) = tools::prepared("grpc-peer") else { return };
    let files = Files::new();
    for tls in ["TLSv1_2", "TLSv1_3"] {
        let mut serve = Command::new(&peer);
        serve.args(["serve", &files.path("ca.pem"), &files.path("server.pem"), &files.path("server.key")]);
        let server = Program::start(serve);
        let params = format!(
            "tls_params: {{tls_minimum_protocol_version: {tls}, tls_maximum_protocol_version: {tls}}}"
        );
        let context = mutual_tls().alpn(&["h2"]).common(&params);
        let http = Http::routes("- match: {prefix: \"/\"}\n  route: {cluster: up, timeout: 0s}\n");
        let http = http.chain(&context.downstream());
        let upstream = mutual_upstream().alpn(&["h2"]).common(&params).upstream();
        let fields = format!("{}\n{upstream}", http2_cluster(""));
        let bootstrap = Bootstrap::new().http(http).cluster("up", &[server.address()], &fields);
        let proxy = Proxy::start(subject, &bootstrap);
        let mut call = Command::new(&peer);
        call.args(["call", &proxy.listener("main").to_string(), "proxy.test", &files.path("ca.pem")]);
        call.args([files.path("client.pem"), files.path("client.key")]);
        assert_eq!(run(call).trim(), "passed 12", "{tls}");
    }
}

fn h2spec_over_tls(subject: &Subject) {
    let Some(h2spec) = tools::prepared("h2spec") else { return };
    let upstream = millrace_support::upstream::Upstream::fixed("a body that is longer than a few octets");
    let http = Http::to("up").hcm("codec_type: HTTP2").chain(&plain_tls().alpn(&["h2"]).downstream());
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let port = proxy.listener("main").port().to_string();
    let mut failed = Vec::new();
    for group in ["generic", "http2", "hpack"] {
        let mut command = Command::new(&h2spec);
        command.args([group, "-S", "-o", "3", "-t", "-k", "-h", "127.0.0.1", "-p", &port]);
        let (said, well) = run_with(command, "");
        if !well || said.contains("×") {
            failed.push(said[said.find("Failures").unwrap_or(0)..].to_owned());
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    upstream.assert_strict();
}
