//! What upstreams and logs learn of a TLS connection: XFCC in all modes, the access log's operators, statistics.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http, listener, tcp_chain};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::tls::{Client, Ending, Leaf, Version};
use millrace_support::upstream::Upstream;

use crate::common::{client_identity, hello, mutual_client, mutual_tls, plain_tls, root, terminate_http};

pub(crate) const CASES: &[Case] = &[
    case!(xfcc_modes),
    case!(xfcc_details),
    case!(xfcc_without_client_certificate),
    case!(xfcc_in_the_clear),
    case!(xfcc_appends),
    case!(operators_of_the_peer),
    case!(operators_of_the_connection),
    case!(operators_without_tls),
    case!(operators_of_a_tcp_proxy),
    case!(a_failed_handshake_is_logged),
];

const FORGED: &str = "By=spiffe://evil;Hash=00";
const XFCC: &str = "x-forwarded-client-cert";

/// What the upstream gets from `mode` when the client sends a forged field.
#[track_caller]
fn forwarded(proxy: &Proxy, upstream: &Upstream, client: &Client, fields: &[(&str, &str)]) -> String {
    let before = upstream.requests().len();
    assert_eq!(client.connect(proxy.listener("main")).raw().get_with("/", fields).status, 200);
    let request = upstream.requests().swap_remove(before);
    request.fields.all(XFCC).join(" | ")
}

fn own() -> String {
    format!("By=spiffe://test/ns/default/sa/proxy;Hash={}", client_identity().sha256_hex())
}

fn xfcc_modes(subject: &Subject) {
    let upstream = hello();
    let uri = "URI=spiffe://test/ns/default/sa/client";
    let own = format!("{};{uri}", own());
    for (mode, expected) in [
        ("SANITIZE", String::new()),
        ("FORWARD_ONLY", FORGED.to_owned()),
        ("APPEND_FORWARD", format!("{FORGED},{own}")),
        ("SANITIZE_SET", own.clone()),
        ("ALWAYS_FORWARD_ONLY", FORGED.to_owned()),
    ] {
        let http = Http::to("up").hcm(&format!(
            "forward_client_cert_details: {mode}\nset_current_client_cert_details: {{uri: true}}"
        ));
        let proxy = terminate_http(subject, http, &mutual_tls(), upstream.address());
        assert_eq!(
            forwarded(&proxy, &upstream, &mutual_client(), &[(XFCC, FORGED)]),
            expected,
            "{mode} with a forged field"
        );
        let alone = if mode.contains("SET") || mode.contains("APPEND") { own.clone() } else { String::new() };
        assert_eq!(forwarded(&proxy, &upstream, &mutual_client(), &[]), alone, "{mode} alone");
    }
}

fn xfcc_details(subject: &Subject) {
    let upstream = hello();
    let intermediate = root().intermediate("i");
    let leaf = Leaf::dns("client.test").dns_name("second.test").uri("spiffe://test/a").uri("spiffe://test/b");
    let identity = intermediate.issue(&leaf);
    let http = Http::to("up").hcm(
        "forward_client_cert_details: SANITIZE_SET\n\
         set_current_client_cert_details: {subject: true, cert: true, chain: true, dns: true, uri: true}",
    );
    let proxy = terminate_http(subject, http, &mutual_tls(), upstream.address());
    let value = forwarded(&proxy, &upstream, &Client::new().identity(&identity), &[]);
    let encode = |pem: &str| {
        pem.replace('\n', "%0A")
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D")
            .replace(' ', "%20")
    };
    let expected = format!(
        "By=spiffe://test/ns/default/sa/proxy;Hash={};Cert=\"{}\";Chain=\"{}\";Subject=\"CN=client.test\";\
         URI=spiffe://test/a;URI=spiffe://test/b;DNS=client.test;DNS=second.test",
        identity.sha256_hex(),
        encode(identity.leaf_pem()),
        encode(&identity.pem())
    );
    assert_eq!(value, expected);
    // A SPIFFE leaf has an empty subject, which is said.
    let value = forwarded(&proxy, &upstream, &mutual_client(), &[]);
    assert!(value.contains(";Subject=\"\";URI=spiffe://test/ns/default/sa/client"), "{value}");
}

fn xfcc_without_client_certificate(subject: &Subject) {
    let upstream = hello();
    for (mode, expected) in [
        ("SANITIZE", ""),
        ("FORWARD_ONLY", ""),
        ("APPEND_FORWARD", ""),
        ("SANITIZE_SET", ""),
        ("ALWAYS_FORWARD_ONLY", FORGED),
    ] {
        let http = Http::to("up").hcm(&format!("forward_client_cert_details: {mode}"));
        let proxy = terminate_http(subject, http, &plain_tls(), upstream.address());
        assert_eq!(forwarded(&proxy, &upstream, &Client::new(), &[(XFCC, FORGED)]), expected, "{mode}");
    }
}

fn xfcc_in_the_clear(subject: &Subject) {
    let upstream = hello();
    for (mode, expected) in [("APPEND_FORWARD", None), ("ALWAYS_FORWARD_ONLY", Some(FORGED))] {
        let http = Http::to("up").hcm(&format!("forward_client_cert_details: {mode}"));
        let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
        let proxy = Proxy::start(subject, &bootstrap);
        let before = upstream.requests().len();
        assert_eq!(proxy.client().get_with("/", &[(XFCC, FORGED)]).status, 200);
        assert_eq!(upstream.requests()[before].fields.get(XFCC), expected, "{mode}");
    }
}

/// Several fields of the client are one list, and ours comes last.
fn xfcc_appends(subject: &Subject) {
    let upstream = hello();
    let http = Http::to("up").hcm("forward_client_cert_details: APPEND_FORWARD");
    let proxy = terminate_http(subject, http, &mutual_tls(), upstream.address());
    let value = forwarded(&proxy, &upstream, &mutual_client(), &[(XFCC, "Hash=1"), (XFCC, "Hash=2")]);
    assert_eq!(value, format!("Hash=1,Hash=2,{}", own()));
}

/// A log with these operators, and the values of its first line.
#[track_caller]
fn logged(
    subject: &Subject,
    http: Http,
    operators: &[(&str, &str)],
    context: &millrace_support::tls::Context,
    client: &Client,
) -> Vec<String> {
    let upstream = hello();
    let http = operators.iter().fold(http, |http, (key, operator)| http.logs(key, operator));
    let proxy = terminate_http(subject, http, context, upstream.address());
    assert_eq!(client.connect(proxy.listener("main")).raw().get("/").status, 200);
    let line = proxy.log().line(0);
    operators.iter().map(|(key, _)| line.get(key).to_owned()).collect()
}

fn operators_of_the_peer(subject: &Subject) {
    let leaf = Leaf::dns("client.test").dns_name("second.test").uri("spiffe://test/a").uri("spiffe://test/b");
    let identity = root().issue(&leaf.ip("10.9.8.7").email("a@client.test"));
    let pem: String = identity.leaf_pem().replace('\n', "%0A").replace('+', "%2B").replace('/', "%2F");
    let pem = pem.replace('=', "%3D").replace(' ', "%20");
    let expected = [
        ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://test/a,spiffe://test/b".to_owned()),
        ("%DOWNSTREAM_PEER_DNS_SAN%", "client.test,second.test".into()),
        ("%DOWNSTREAM_PEER_IP_SAN%", "10.9.8.7".into()),
        ("%DOWNSTREAM_PEER_EMAIL_SAN%", "a@client.test".into()),
        ("%DOWNSTREAM_PEER_SUBJECT%", "CN=client.test".into()),
        ("%DOWNSTREAM_PEER_ISSUER%", "CN=shared,O=Tests".into()),
        ("%DOWNSTREAM_PEER_FINGERPRINT_256%", identity.sha256_hex()),
        ("%DOWNSTREAM_PEER_FINGERPRINT_1%", identity.sha1_hex()),
        ("%DOWNSTREAM_PEER_SERIAL%", identity.serial_hex()),
        ("%DOWNSTREAM_PEER_CERT%", pem),
        ("%DOWNSTREAM_PEER_CERT_V_START%", "2020-01-01T00:00:00.000Z".into()),
        ("%DOWNSTREAM_PEER_CERT_V_END%", "2090-01-01T00:00:00.000Z".into()),
        ("%DOWNSTREAM_PEER_CERT_V_END(%Y/%m)%", "2090/01".into()),
        ("%DOWNSTREAM_LOCAL_URI_SAN%", "spiffe://test/ns/default/sa/proxy".into()),
        ("%DOWNSTREAM_LOCAL_DNS_SAN%", "proxy.test".into()),
        ("%DOWNSTREAM_LOCAL_SUBJECT%", "CN=proxy.test".into()),
    ];
    let keys: Vec<String> = (0..expected.len()).map(|n| format!("k{n}")).collect();
    let operators: Vec<(&str, &str)> =
        keys.iter().zip(&expected).map(|(key, (operator, _))| (key.as_str(), *operator)).collect();
    let client = Client::new().identity(&identity);
    let values = logged(subject, Http::to("up"), &operators, &mutual_tls(), &client);
    let wrong: Vec<String> = expected
        .iter()
        .zip(&values)
        .filter(|((_, expected), value)| expected != *value)
        .map(|((operator, expected), value)| format!("{operator}: {value:?}, not {expected:?}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn operators_of_the_connection(subject: &Subject) {
    let operators = [
        ("version", "%DOWNSTREAM_TLS_VERSION%"),
        ("cipher", "%DOWNSTREAM_TLS_CIPHER%"),
        ("name", "%REQUESTED_SERVER_NAME%"),
        ("failure", "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"),
        ("subject", "%DOWNSTREAM_PEER_SUBJECT%"),
    ];
    for (version, suite, cipher) in [
        (Version::V13, "TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        (Version::V13, "TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        (Version::V12, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (Version::V12, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ] {
        let client = mutual_client().versions(&[version]).suites(&[suite]).name("proxy.test");
        let values = logged(subject, Http::to("up"), &operators, &mutual_tls(), &client);
        // Envoy knows the name from an inspector alone, and there is none here; we know it from the handshake as well.
        let name = if subject.is_envoy() { "-" } else { "proxy.test" };
        assert_eq!(values, [version.name(), cipher, name, "-", "-"]);
    }
}

fn operators_without_tls(subject: &Subject) {
    let upstream = hello();
    let operators = [
        "%DOWNSTREAM_TLS_VERSION%",
        "%DOWNSTREAM_TLS_CIPHER%",
        "%DOWNSTREAM_TLS_SESSION_ID%",
        "%DOWNSTREAM_PEER_SUBJECT%",
        "%DOWNSTREAM_PEER_URI_SAN%",
        "%DOWNSTREAM_PEER_CERT_V_START%",
        "%REQUESTED_SERVER_NAME%",
        "%UPSTREAM_TLS_VERSION%",
        "%UPSTREAM_PEER_SUBJECT%",
    ];
    let http = Http::to("up").logs("all", &operators.join("|"));
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(proxy.log().line(0).get("all"), vec!["-"; operators.len()].join("|"));
}

fn operators_of_a_tcp_proxy(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let log = "\\tall=%DOWNSTREAM_PEER_URI_SAN%|%DOWNSTREAM_TLS_VERSION%|%REQUESTED_SERVER_NAME%";
    let chain = tcp_chain("main", "cluster: up", &mutual_tls().downstream(), log);
    let inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    let filters = format!("listener_filters: [{{name: i, typed_config: {{\"@type\": {inspector}}}}}]");
    let bootstrap = Bootstrap::new().listener(&listener("main", &filters, &chain));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[upstream.address()], ""));
    let link = mutual_client().name("proxy.test").connect(proxy.listener("main"));
    let mut client = link.raw();
    client.send(b"x");
    assert_eq!(client.wire().exact(1, "echo"), Ok(b"x".to_vec()));
    client.finish_sending();
    assert_eq!(link.wait_ending(), Ending::Clean);
    assert_eq!(proxy.log().line(0).get("all"), "spiffe://test/ns/default/sa/client|TLSv1.3|proxy.test");
}

/// The listener's own log tells of connections that never became one.
fn a_failed_handshake_is_logged(subject: &Subject) {
    let upstream = hello();
    let file = "\"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    let log = format!(
        "access_log:\n- name: file\n  typed_config:\n    {file}\n    path: \"@DIR@/connections\"\n    \
         log_format: {{text_format_source: {{inline_string: \"%RESPONSE_FLAGS% %DOWNSTREAM_TRANSPORT_FAILURE_REASON%\\n\"}}}}\n"
    );
    let http = Http::to("up").listener(&log).chain(&mutual_tls().downstream());
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let read = || std::fs::read_to_string(proxy.directory().join("connections")).unwrap_or_default();
    for (count, client, reason) in [
        (1, Client::new(), "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        (
            2,
            Client::new().identity(&root().issue(&Leaf::dns("a.test").expired())),
            "CERTIFICATE_VERIFY_FAILED",
        ),
    ] {
        assert!(matches!(client.refusal(proxy.listener("main")), Ending::Alert(_)));
        millrace_support::wait::for_true("a line of the log", || read().lines().count() >= count);
        let line = read().lines().nth(count - 1).unwrap_or_default().to_owned();
        assert!(line.contains(reason), "{line}");
    }
}
