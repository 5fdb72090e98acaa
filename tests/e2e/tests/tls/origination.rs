//! TLS towards endpoints: what the proxy asks for and shows, whom it believes, and which socket an endpoint gets.

use millrace_e2e::{Case, case};
use millrace_support::any::{Version as HttpVersion, protocol_options};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2;
use millrace_support::process::Proxy;
use millrace_support::raw::Client as Raw;
use millrace_support::rng::Rng;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::tls::server::Options;
use millrace_support::tls::{Algorithm, Authority, Context, Identity, Leaf, Server, Version};
use millrace_support::upstream::{Reply, Upstream};

use crate::common::{client_identity, hello, originate, root, server_identity};

pub(crate) const CASES: &[Case] = &[
    case!(versions_and_bodies),
    case!(server_name_from_the_configuration),
    case!(server_name_from_the_host),
    case!(names_of_the_host_are_verified),
    case!(alpn_chooses_the_version),
    case!(alpn_as_configured),
    case!(http2_over_tls),
    case!(our_certificate_is_shown),
    case!(servers_that_are_believed),
    case!(servers_that_are_not_believed),
    case!(keys_that_may_not_sign),
    case!(a_server_that_refuses_us),
    case!(clear_text_where_tls_is_expected),
    case!(tls_where_clear_text_is_expected),
    case!(sessions_are_resumed),
    case!(one_connection_for_many_requests),
    case!(sockets_by_metadata),
    case!(tcp_proxy),
    case!(operators_of_the_upstream),
];

fn server(upstream: &Upstream) -> Server {
    Server::start(Options::new(server_identity(), upstream.address()))
}

/// Believes [`root`] if the name is right.
fn careful() -> Context {
    Context::new()
        .trusts(&root())
        .validation("match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: \"spiffe://test/\"}}]")
}

fn versions_and_bodies(subject: &Subject) {
    let upstream = Upstream::echo();
    for version in Version::BOTH {
        let options = Options::new(server_identity(), upstream.address()).versions(&[version]);
        let server = Server::start(options);
        let context = careful().common("tls_params: {tls_maximum_protocol_version: TLSv1_3}");
        let proxy = originate(subject, &context, "", server.address());
        let mut client = proxy.client();
        for size in [0, 1, 16_384, 100_000, 3 << 20] {
            let body = Rng::new(size as u64).bytes(size);
            assert!(client.exchange("POST", "/", &[], &body).body == body, "{version:?} {size}");
        }
        let facts = server.wait_seen(0).facts.expect("a handshake");
        assert_eq!(facts.version.replace('_', "."), version.name());
        assert_eq!(server.seen().len(), 1);
        proxy.wait_stat("cluster.up.ssl.handshake", 1);
        proxy.wait_stat(&format!("cluster.up.ssl.versions.{}", version.name()), 1);
    }
    upstream.assert_strict();
}

fn server_name_from_the_configuration(subject: &Subject) {
    let upstream = hello();
    for (fields, expected) in [("sni: asked.test", Some("asked.test")), ("", None)] {
        let server = server(&upstream);
        let context = if fields.is_empty() { careful() } else { careful().field(fields) };
        let proxy = originate(subject, &context, "", server.address());
        assert_eq!(proxy.client().get("/").status, 200);
        let seen = server.wait_seen(0);
        assert_eq!((seen.name.as_deref(), &*seen.offered), (expected, &["http/1.1".to_owned()][..]));
    }
}

const HTTP1: &str = "explicit_http_config: {http_protocol_options: {}}";

fn server_name_from_the_host(subject: &Subject) {
    let upstream = hello();
    let server = server(&upstream);
    let options = protocol_options(&format!("upstream_http_protocol_options: {{auto_sni: true}}, {HTTP1}"));
    let proxy = originate(subject, &careful().field("sni: configured.test"), &options, server.address());
    for (n, (host, name)) in
        [("a.test", Some("a.test")), ("b.test:8080", Some("b.test")), ("10.0.0.1", Some("configured.test"))]
            .iter()
            .enumerate()
    {
        let mut client = proxy.client();
        client.request("GET", "/", &[("host", host)], b"");
        assert_eq!(client.response("GET").map(|r| r.status), Ok(200), "{host}");
        assert_eq!(server.wait_seen(n).name.as_deref(), *name, "{host}");
    }
}

fn names_of_the_host_are_verified(subject: &Subject) {
    let upstream = hello();
    let server = server(&upstream);
    let options = protocol_options(&format!(
        "upstream_http_protocol_options: {{auto_sni: true, auto_san_validation: true}}, {HTTP1}"
    ));
    let proxy = originate(subject, &Context::new().trusts(&root()), &options, server.address());
    let ask = |host: &str| {
        let mut client = proxy.client();
        client.request("GET", "/", &[("host", host)], b"");
        client.response("GET").map(|r| r.status)
    };
    assert_eq!(ask("server.test"), Ok(200));
    assert_eq!(ask("other.test"), Ok(503));
    proxy.wait_stat("cluster.up.ssl.fail_verify_san", 1);
    assert_eq!(ask("server.test"), Ok(200));
}

fn alpn_chooses_the_version(subject: &Subject) {
    let (one, two) = (hello(), h2::Upstream::fixed("hello"));
    let options = protocol_options("auto_config: {http_protocol_options: {}, http2_protocol_options: {}}");
    for (agreed, version) in [(&["h2"][..], "HTTP/2"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")] {
        let server = Server::start(
            Options::new(server_identity(), one.address()).alpn(agreed).target("h2", two.address()),
        );
        let fields = format!("{options}\n{}", careful().upstream());
        let http = Http::to("up").logs("up", "%UPSTREAM_PROTOCOL%");
        let bootstrap = Bootstrap::new().http(http).cluster("up", &[server.address()], &fields);
        let proxy = Proxy::start(subject, &bootstrap);
        for _ in 0..3 {
            assert_eq!(proxy.client().get("/").text(), "hello", "{agreed:?}");
        }
        let seen = server.wait_seen(0);
        assert_eq!(seen.offered, ["h2", "http/1.1"]);
        assert_eq!(proxy.log().line(0).get("up"), version);
    }
    one.assert_strict();
    two.assert_strict();
}

fn alpn_as_configured(subject: &Subject) {
    let upstream = hello();
    let server = server(&upstream);
    let context = careful().alpn(&["istio-peer-exchange", "istio"]);
    let proxy = originate(subject, &context, "", server.address());
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(server.wait_seen(0).offered, ["istio-peer-exchange", "istio"]);
}

fn http2_over_tls(subject: &Subject) {
    let upstream = h2::Upstream::fixed("hello");
    let server = Server::start(Options::new(server_identity(), upstream.address()).alpn(&["h2"]));
    let cluster = millrace_support::any::http2_cluster("");
    let proxy = originate(subject, &careful(), &cluster, server.address());
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").text(), "hello");
    }
    assert_eq!(server.wait_seen(0).offered, ["h2"]);
    assert_eq!(upstream.connections(), 1);
    upstream.assert_strict();
}

fn our_certificate_is_shown(subject: &Subject) {
    let upstream = hello();
    for (context, shown) in
        [(careful().certificate(client_identity()), Some(client_identity())), (careful(), None)]
    {
        let server = server(&upstream);
        let proxy = originate(subject, &context, "", server.address());
        assert_eq!(proxy.client().get("/").status, 200);
        let peer = server.wait_seen(0).facts.expect("a handshake").peer;
        assert_eq!(peer.first().map(Vec::as_slice), shown.map(|i| &*i.chain[0]));
    }
}

/// One GET through a proxy that believes `context` to a server with this certificate: status and failure reason.
#[track_caller]
fn ask(subject: &Subject, context: &Context, identity: &Identity) -> (u16, String, Proxy) {
    let upstream = hello();
    let server = Server::start(Options::new(identity, upstream.address()));
    let proxy = originate(subject, context, "", server.address());
    let status = proxy.client().get("/").status;
    let line = proxy.log().line(0);
    assert_eq!(line.get("flags"), if status == 200 { "-" } else { "UF" });
    let reason = line.get("fail").to_owned();
    (status, reason, proxy)
}

fn servers_that_are_believed(subject: &Subject) {
    let stranger = Authority::root("stranger").issue(&Leaf::dns("x.test").expired());
    let deep = root().deep(3).issue(&Leaf::spiffe("spiffe://test/deep"));
    let hash = format!("verify_certificate_hash: [\"{}\"]", stranger.sha256_hex());
    for (what, context, identity) in [
        ("right", careful(), server_identity()),
        ("nobody asks", Context::new(), &stranger),
        ("a chain", careful(), &deep),
        ("pinned without a CA", Context::new().validation(&hash), &stranger),
    ] {
        assert_eq!(ask(subject, &context, identity).0, 200, "{what}");
    }
}

fn servers_that_are_not_believed(subject: &Subject) {
    let leaf = || Leaf::spiffe("spiffe://test/x");
    let stranger = Authority::root("stranger").issue(&leaf());
    let elsewhere = root().issue(&Leaf::spiffe("spiffe://elsewhere/x"));
    let expired = root().issue(&leaf().expired());
    let future = root().issue(&leaf().not_yet_valid());
    let client_only = root().issue(&leaf().only_for("client"));
    let unpinned = format!("verify_certificate_hash: [\"{}\"]", "00".repeat(32));
    for (what, context, identity, stat) in [
        ("a stranger", careful(), &stranger, "fail_verify_error"),
        ("expired", careful(), &expired, "fail_verify_error"),
        ("not yet valid", careful(), &future, "fail_verify_error"),
        ("for clients", careful(), &client_only, "fail_verify_error"),
        ("another name", careful(), &elsewhere, "fail_verify_san"),
        ("another hash", careful().validation(&unpinned), server_identity(), "fail_verify_cert_hash"),
    ] {
        let (status, reason, proxy) = ask(subject, &context, identity);
        assert_eq!(status, 503, "{what}");
        assert!(reason.contains("CERTIFICATE_VERIFY_FAILED"), "{what}: {reason}");
        assert!(proxy.stat(&format!("cluster.up.ssl.{stat}")).is_some_and(|n| n > 0), "{what}");
        assert_eq!(proxy.stat("cluster.up.ssl.connection_error"), Some(0), "{what}");
    }
}

/// `keyUsage`, where there is one, has to allow signatures, whatever `enforce_rsa_key_usage` says.
fn keys_that_may_not_sign(subject: &Subject) {
    let relaxed = || careful().field("enforce_rsa_key_usage: false");
    let leaf = |algorithm, bits: &[&str]| {
        root().issue(&Leaf::spiffe("spiffe://test/x").algorithm(algorithm).key_usage(bits))
    };
    let (rsa, ecdsa) = (Algorithm::Rsa2048, Algorithm::P256);
    for (what, context, identity, expected) in [
        ("RSA", careful(), leaf(rsa, &["encipherment"]), 503),
        ("RSA, relaxed", relaxed(), leaf(rsa, &["encipherment"]), 503),
        ("RSA that signs", careful(), leaf(rsa, &["signature"]), 200),
        ("RSA without the extension", careful(), leaf(rsa, &[]), 200),
        ("ECDSA", relaxed(), leaf(ecdsa, &["agreement"]), 503),
        ("ECDSA that signs", careful(), leaf(ecdsa, &["signature"]), 200),
        ("ECDSA without the extension", careful(), leaf(ecdsa, &[]), 200),
    ] {
        let (status, reason, proxy) = ask(subject, &context, &identity);
        assert_eq!(status, expected, "{what}: {reason}");
        if status == 503 {
            assert!(
                reason.contains("268435758") && reason.contains("KEY_USAGE_BIT_INCORRECT"),
                "{what}: {reason}"
            );
            assert!(proxy.stat("cluster.up.ssl.connection_error").is_some_and(|n| n > 0), "{what}");
        }
    }
}

/// With TLS 1.3 the refusal comes when the request has been sent already.
fn a_server_that_refuses_us(subject: &Subject) {
    let upstream = hello();
    for version in Version::BOTH {
        let options = Options::new(server_identity(), upstream.address()).versions(&[version]).refuses();
        let server = Server::start(options);
        let context = careful().common("tls_params: {tls_maximum_protocol_version: TLSv1_3}");
        let proxy = originate(subject, &context, "", server.address());
        assert_eq!(proxy.client().get("/").status, 503, "{version:?}");
        let flags = proxy.log().line(0).get("flags").to_owned();
        let expected: &[&str] = if version == Version::V12 { &["UF"] } else { &["UC", "UF"] };
        assert!(expected.contains(&flags.as_str()), "{version:?} {flags}");
        assert!(server.wait_seen(0).failure.is_some());
    }
    assert!(upstream.requests().is_empty());
}

fn clear_text_where_tls_is_expected(subject: &Subject) {
    let upstream = hello();
    let proxy = originate(subject, &careful(), "", upstream.address());
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(proxy.log().line(0).get("flags"), "UF");
    let talker = TcpUpstream::start(Role::FinishFirst);
    let proxy = originate(subject, &careful(), "", talker.address());
    assert_eq!(proxy.client().get("/").status, 503);
    let line = proxy.log().line(0);
    assert!(line.get("fail").contains("WRONG_VERSION_NUMBER"), "{line:?}");
    proxy.wait_stat("cluster.up.ssl.connection_error", 1);
}

fn tls_where_clear_text_is_expected(subject: &Subject) {
    let upstream = hello();
    let server = server(&upstream);
    let proxy = Proxy::start(subject, &Bootstrap::forward(server.address()));
    assert!(matches!(proxy.client().get("/").status, 502 | 503));
    assert!(upstream.requests().is_empty());
}

fn sessions_are_resumed(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::with(200, &[("connection", "close")], b"x"));
    for (version, fields, expected) in [
        (Version::V12, "", true),
        (Version::V13, "", true),
        (Version::V12, "max_session_keys: 0", false),
        (Version::V13, "max_session_keys: 0", false),
    ] {
        let options = Options::new(server_identity(), upstream.address()).versions(&[version]);
        let server = Server::start(options);
        let params = "tls_params: {tls_maximum_protocol_version: TLSv1_3}";
        let mut context = careful().common(params).field("sni: server.test");
        if !fields.is_empty() {
            context = context.field(fields);
        }
        let proxy = originate(subject, &context, "", server.address());
        for n in 0..4 {
            assert_eq!(proxy.client().get("/").status, 200);
            let facts = server.wait_seen(n).facts.expect("a handshake");
            assert_eq!(facts.resumed, expected && n > 0, "{version:?} {fields} {n}");
        }
        proxy.wait_stat("cluster.up.ssl.session_reused", if expected { 3 } else { 0 });
    }
}

fn one_connection_for_many_requests(subject: &Subject) {
    let upstream = hello();
    let server = server(&upstream);
    let proxy = originate(subject, &careful(), "", server.address());
    for _ in 0..20 {
        assert_eq!(proxy.client().get("/").status, 200);
    }
    assert_eq!((server.seen().len(), upstream.connections()), (1, 1));
    upstream.assert_strict();
}

fn sockets_by_metadata(subject: &Subject) {
    let upstream = Upstream::start(|request| Reply::ok(&request.target));
    let (clear, secret) = (Upstream::fixed("clear"), hello());
    let server = server(&secret);
    let endpoint = |at: std::net::SocketAddr, tls: bool| {
        let metadata = if tls {
            "metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio, other: x}}}, "
        } else {
            ""
        };
        format!(
            "{{{metadata}endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}",
            at.port()
        )
    };
    let fields = format!(
        "type: STATIC\nload_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{}, {}]}}]}}\n\
         transport_socket_matches:\n- {{name: tls, match: {{tlsMode: istio}}, transport_socket: {}}}\n\
         - {{name: clear, match: {{}}, transport_socket: {{name: envoy.transport_sockets.raw_buffer, typed_config: \
         {{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}}}}\n",
        endpoint(server.address(), true),
        endpoint(clear.address(), false),
        careful().certificate(client_identity()).socket("UpstreamTlsContext")
    );
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[], &fields);
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    let mut answers: Vec<String> = (0..4).map(|_| client.get("/").text()).collect();
    answers.sort();
    assert_eq!(answers, ["clear", "clear", "hello", "hello"]);
    let peer = server.wait_seen(0).facts.expect("a handshake").peer;
    assert_eq!(peer[0].as_slice(), &*client_identity().chain[0]);
    assert!(upstream.requests().is_empty());
    clear.assert_strict();
}

fn tcp_proxy(subject: &Subject) {
    let echo = TcpUpstream::start(Role::Echo);
    for version in Version::BOTH {
        let server = Server::start(Options::new(server_identity(), echo.address()).versions(&[version]));
        let context = careful().common("tls_params: {tls_maximum_protocol_version: TLSv1_3}");
        let bootstrap = Bootstrap::new().tcp("main", "cluster: up").cluster(
            "up",
            &[server.address()],
            &context.upstream(),
        );
        let proxy = Proxy::start(subject, &bootstrap);
        let mut client: Raw = proxy.client();
        for size in [1, 16_384, 100_000] {
            let bytes = Rng::new(size as u64).bytes(size);
            client.send(&bytes);
            assert_eq!(client.wire().exact(size, "echo"), Ok(bytes));
        }
        client.finish_sending();
        assert_eq!(client.end(), millrace_support::raw::End::Closed(Vec::new()));
        assert_eq!(server.wait_seen(0).wait_ending(), millrace_support::tls::Ending::Clean);
    }
}

fn operators_of_the_upstream(subject: &Subject) {
    let upstream = hello();
    let server = Server::start(
        Options::new(server_identity(), upstream.address()).suites(&["TLS13_AES_256_GCM_SHA384"]),
    );
    let expected = [
        ("%UPSTREAM_TLS_VERSION%", "TLSv1.3".to_owned()),
        ("%UPSTREAM_TLS_CIPHER%", "TLS_AES_256_GCM_SHA384".into()),
        ("%UPSTREAM_PEER_SUBJECT%", "CN=server.test".into()),
        ("%UPSTREAM_PEER_ISSUER%", "CN=shared,O=Tests".into()),
        ("%UPSTREAM_PEER_URI_SAN%", "spiffe://test/ns/default/sa/server".into()),
        ("%UPSTREAM_PEER_DNS_SAN%", "server.test".into()),
        ("%UPSTREAM_LOCAL_URI_SAN%", "spiffe://test/ns/default/sa/client".into()),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "-".into()),
    ];
    let format: Vec<&str> = expected.iter().map(|(operator, _)| *operator).collect();
    let http = Http::to("up").logs("all", &format.join("|"));
    let params = "tls_params: {tls_maximum_protocol_version: TLSv1_3}";
    let context = careful().certificate(client_identity()).common(params);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[server.address()], &context.upstream());
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy.client().get("/").status, 200);
    let line = proxy.log().line(0);
    let values: Vec<&str> = line.get("all").split('|').collect();
    let expected: Vec<&str> = expected.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, expected);
    assert_eq!(HttpVersion::Http1.name(), line.get("protocol"));
}
