//! Filter chains by what the client sends first: server name, ALPN, TLS or not, the version of HTTP; and what happens to
//! clients that say nothing.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::any::{Question, Version as HttpVersion};
use millrace_support::bootstrap::{Bootstrap, Http, listener, tcp_chain};
use millrace_support::h2;
use millrace_support::process::Proxy;
use millrace_support::raw::{Client as Raw, End};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::tls::hello::Hello;
use millrace_support::tls::server::Options;
use millrace_support::tls::{Client, Context, Server};
use millrace_support::upstream::Upstream;

use crate::common::{
    STAT_PREFIX, hello, mutual_client, mutual_tls, plain_tls, proxy_identity, server_identity,
};

pub(crate) const CASES: &[Case] = &[
    case!(by_server_name),
    case!(by_offered_alpn),
    case!(by_transport_protocol),
    case!(by_http_version),
    case!(nothing_matches),
    case!(passthrough_by_server_name),
    case!(permissive),
    case!(silence_ends_with_the_timeout),
    case!(silence_goes_on_with_the_timeout),
    case!(half_a_hello_and_the_timeout),
    case!(a_hello_in_pieces),
    case!(inspection_statistics),
];

const KIND: &str = "type.googleapis.com/envoy.extensions.filters.listener";

/// `listener_filters` with both inspectors; `more` are more fields of the listener.
fn inspectors(more: &str) -> String {
    format!(
        "{STAT_PREFIX}listener_filters:\n\
         - {{name: envoy.filters.listener.tls_inspector, typed_config: {{\"@type\": {KIND}.tls_inspector.v3.TlsInspector}}}}\n\
         - {{name: envoy.filters.listener.http_inspector, typed_config: {{\"@type\": {KIND}.http_inspector.v3.HttpInspector}}}}\n\
         {more}\n"
    )
}

/// A chain that answers with its own name; `context` is its TLS.
fn says(name: &str, matches: &str, context: Option<&Context>) -> String {
    let route = format!(
        "- match: {{prefix: \"/\"}}\n  direct_response: {{status: 200, body: {{inline_string: \"{name}\"}}}}\n"
    );
    let mut chain = format!("name: {name}\nfilter_chain_match: {{{matches}}}\n");
    if let Some(context) = context {
        chain.push_str(&context.downstream());
    }
    Http::routes(&route).named(name).chain(&chain).filter_chain()
}

#[track_caller]
fn start(subject: &Subject, chains: &[String], more: &str) -> Proxy {
    let text = listener("main", &inspectors(more), &chains.concat());
    Proxy::start(subject, &Bootstrap::new().listener(&text))
}

/// The chain that this client is given.
#[track_caller]
fn chain_of(proxy: &Proxy, client: &Client) -> String {
    client.connect(proxy.listener("main")).raw().get("/").text()
}

fn by_server_name(subject: &Subject) {
    let context = plain_tls();
    let tls = Some(&context);
    let chains = [
        says("exact", "server_names: [\"a.test\", \"b.test\"]", tls),
        says("wild", "server_names: [\"*.w.test\"]", tls),
        says("deeper", "server_names: [\"*.d.w.test\"]", tls),
        says("rest", "transport_protocol: tls", tls),
    ];
    let proxy = start(subject, &chains, "");
    for (name, chain) in [
        ("a.test", "exact"),
        ("b.test", "exact"),
        ("A.Test", "exact"),
        ("x.w.test", "wild"),
        ("x.y.w.test", "wild"),
        ("x.d.w.test", "deeper"),
        ("d.w.test", "wild"),
        ("w.test", "rest"),
        ("c.test", "rest"),
    ] {
        assert_eq!(chain_of(&proxy, &Client::new().name(name)), chain, "{name}");
    }
    assert_eq!(chain_of(&proxy, &Client::new()), "rest");
}

/// What counts is what the client offers, not what would be agreed upon.
fn by_offered_alpn(subject: &Subject) {
    let context = plain_tls().alpn(&["http/1.1"]);
    let tls = Some(&context);
    let chains = [
        says("mesh", "application_protocols: [istio-http/1.1, istio], transport_protocol: tls", tls),
        says("h2", "application_protocols: [h2], transport_protocol: tls", tls),
        says("rest", "transport_protocol: tls", tls),
    ];
    let proxy = start(subject, &chains, "");
    for (offer, chain) in [
        (&["istio-http/1.1", "istio", "http/1.1"][..], "mesh"),
        (&["http/1.1", "istio"], "mesh"),
        (&["h2", "http/1.1"], "h2"),
        (&["http/1.1", "h2"], "h2"),
        (&["http/1.1"], "rest"),
        (&["H2"], "rest"),
        (&[], "rest"),
    ] {
        assert_eq!(chain_of(&proxy, &Client::new().alpn(offer)), chain, "{offer:?}");
    }
}

fn by_transport_protocol(subject: &Subject) {
    let context = plain_tls();
    let chains = [
        says("tls", "transport_protocol: tls", Some(&context)),
        says("raw", "transport_protocol: raw_buffer", None),
    ];
    let proxy = start(subject, &chains, "");
    assert_eq!(chain_of(&proxy, &Client::new()), "tls");
    assert_eq!(proxy.client().get("/").text(), "raw");
    assert_eq!(h2::Client::connect(proxy.listener("main")).get("/").text(), "raw");
}

fn by_http_version(subject: &Subject) {
    let echo = TcpUpstream::start(Role::Echo);
    let chain = |name: &str, matches: &str| {
        tcp_chain(name, "cluster: up", &format!("filter_chain_match: {{{matches}}}\n"), "")
    };
    let chains = [
        says("one", "application_protocols: [http/1.1, http/1.0], transport_protocol: raw_buffer", None),
        says("two", "application_protocols: [h2c], transport_protocol: raw_buffer", None),
        chain("tcp", "transport_protocol: raw_buffer"),
    ];
    let text = listener("main", &inspectors(""), &chains.concat());
    let bootstrap = Bootstrap::new().listener(&text).cluster("up", &[echo.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy.client().get("/").text(), "one");
    assert_eq!(h2::Client::connect(proxy.listener("main")).get("/").text(), "two");
    for bytes in [&b"SSH-2.0-x\r\n"[..], b"\x00\x01\x02\r\n", b"GET\tx\r\n", b"NO HTTP AT ALL\r\n"] {
        let mut client = proxy.client();
        client.send(bytes);
        assert_eq!(client.wire().exact(bytes.len(), "echo"), Ok(bytes.to_vec()));
    }
}

fn nothing_matches(subject: &Subject) {
    let context = plain_tls();
    let chains = [says("a", "server_names: [\"a.test\"]", Some(&context))];
    let proxy = start(subject, &chains, "");
    assert!(Client::new().name("b.test").try_connect(proxy.listener("main")).is_err());
    assert!(Client::new().try_connect(proxy.listener("main")).is_err());
    let mut clear = proxy.client();
    clear.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(clear.end() != End::Open);
    proxy.wait_stat("listener.main.no_filter_chain_match", 3);
    assert_eq!(chain_of(&proxy, &Client::new().name("a.test")), "a");
}

fn passthrough_by_server_name(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let server = |upstream: &Upstream| Server::start(Options::new(server_identity(), upstream.address()));
    let (at_a, at_b) = (server(&a), server(&b));
    let chain = |name: &str| {
        let matches = format!("filter_chain_match: {{server_names: [\"{name}.test\"]}}\n");
        tcp_chain(name, &format!("cluster: {name}"), &matches, "\\tname=%REQUESTED_SERVER_NAME%")
    };
    let text = listener("main", &inspectors(""), &(chain("a") + &chain("b")));
    let bootstrap = Bootstrap::new().listener(&text).cluster("a", &[at_a.address()], "").cluster(
        "b",
        &[at_b.address()],
        "",
    );
    let proxy = Proxy::start(subject, &bootstrap);
    for (name, server) in [("a", &at_a), ("b", &at_b)] {
        let full = format!("{name}.test");
        let client = mutual_client().name(&full).alpn(&["x/1", "h2"]);
        let link = client.connect(proxy.listener("main"));
        assert_eq!(link.raw().get("/").text(), name);
        // End to end: the server's own certificate, and the client's offers.
        assert!(link.facts.peer[0].as_slice() == &*server_identity().chain[0]);
        let seen = server.wait_seen(0);
        assert_eq!((seen.name.as_deref(), seen.offered), (Some(&*full), vec!["x/1".into(), "h2".into()]));
    }
    assert_eq!(proxy.log().line(0).get("name"), "a.test");
}

/// As Istio's inbound listener: mutual TLS and clear text on one port, and foreign TLS passed through.
fn permissive(subject: &Subject) {
    let foreign = hello();
    let server = Server::start(Options::new(server_identity(), foreign.address()));
    let http = mutual_tls().alpn(&["h2", "http/1.1"]);
    let tcp = mutual_tls().alpn(&["istio-peer-exchange", "h2", "http/1.1"]);
    let echo = TcpUpstream::start(Role::Echo);
    let chains = [
        says(
            "mesh-http",
            "application_protocols: [istio-http/1.0, istio-http/1.1, istio-h2], transport_protocol: tls",
            Some(&http),
        ),
        says("plain-http", "application_protocols: [http/1.1, h2c], transport_protocol: raw_buffer", None),
        tcp_chain(
            "mesh-tcp",
            "cluster: echo",
            &format!(
                "filter_chain_match: {{application_protocols: [istio-peer-exchange, istio], transport_protocol: tls}}\n{}",
                tcp.downstream()
            ),
            "",
        ),
        tcp_chain("plain-tcp", "cluster: echo", "filter_chain_match: {transport_protocol: raw_buffer}\n", ""),
        tcp_chain("foreign", "cluster: tls", "filter_chain_match: {transport_protocol: tls}\n", ""),
    ];
    let more = inspectors("continue_on_listener_filters_timeout: true");
    let bootstrap = Bootstrap::new()
        .listener(&listener("main", &more, &chains.concat()))
        .cluster("echo", &[echo.address()], "")
        .cluster("tls", &[server.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let at = proxy.listener("main");
    for (offer, version, agreed) in [
        (&["istio-http/1.1", "istio", "http/1.1"][..], HttpVersion::Http1, Some("http/1.1")),
        (&["istio-h2", "istio", "h2"], HttpVersion::Http2, Some("h2")),
        (&["istio-http/1.0", "istio"], HttpVersion::Http1, None),
    ] {
        let link = mutual_client().alpn(offer).connect(at);
        let question = Question { method: "GET", path: "/".into(), ..Question::default() };
        let got = link.caller(version).ask(&question).expect("an answer");
        assert_eq!((got.body, link.facts.alpn.as_deref()), (b"mesh-http".to_vec(), agreed), "{offer:?}");
    }
    assert!(Client::new().alpn(&["istio-http/1.1"]).refusal(at) != millrace_support::tls::Ending::Clean);
    assert_eq!(Raw::connect(at).get("/").text(), "plain-http");
    assert_eq!(h2::Client::connect(at).get("/").text(), "plain-http");
    let link = mutual_client().alpn(&["istio-peer-exchange", "istio"]).connect(at);
    let (mut secret, mut clear) = (link.raw(), Raw::connect(at));
    for client in [&mut secret, &mut clear] {
        client.send(b"\x00tcp\r\n");
        assert_eq!(client.wire().exact(6, "echo"), Ok(b"\x00tcp\r\n".to_vec()));
    }
    let link = Client::new().name("x.test").connect(at);
    assert_eq!(link.raw().get("/").text(), "hello");
    assert!(link.facts.peer[0].as_slice() != &*proxy_identity().chain[0]);
}

fn silence_ends_with_the_timeout(subject: &Subject) {
    let proxy = start(
        subject,
        &[says("raw", "transport_protocol: raw_buffer", None)],
        "listener_filters_timeout: 0.3s",
    );
    let mut silent = proxy.client();
    assert_eq!(silent.end(), End::Closed(Vec::new()));
    proxy.wait_stat("listener.main.downstream_pre_cx_timeout", 1);
    assert_eq!(proxy.client().get("/").text(), "raw");
}

/// The server speaks first, so the client's silence is not its fault.
fn silence_goes_on_with_the_timeout(subject: &Subject) {
    let greeter = TcpUpstream::start(Role::FinishFirst);
    let chains =
        [says("one", "application_protocols: [http/1.1]", None), tcp_chain("tcp", "cluster: up", "", "")];
    let more = inspectors("listener_filters_timeout: 0.3s\ncontinue_on_listener_filters_timeout: true");
    let text = listener("main", &more, &chains.concat());
    let proxy =
        Proxy::start(subject, &Bootstrap::new().listener(&text).cluster("up", &[greeter.address()], ""));
    let mut silent = proxy.client();
    assert_eq!(silent.wire().exact(8, "greeting"), Ok(b"greeting".to_vec()));
    proxy.wait_stat("listener.main.downstream_pre_cx_timeout", 1);
    assert_eq!(proxy.client().get("/").text(), "one");
}

fn half_a_hello_and_the_timeout(subject: &Subject) {
    let context = plain_tls();
    let chains = [says("tls", "transport_protocol: tls", Some(&context))];
    let proxy = start(subject, &chains, "listener_filters_timeout: 0.4s");
    let bytes = Hello::v13().name(b"a.test").bytes();
    let mut half = proxy.client();
    half.send(&bytes[..bytes.len() / 2]);
    assert!(half.end_within(Duration::from_secs(5)) != End::Open);
    proxy.wait_stat("listener.main.downstream_pre_cx_timeout", 1);
    assert_eq!(chain_of(&proxy, &Client::new()), "tls");
}

/// In single bytes, and in records of a few bytes.
fn a_hello_in_pieces(subject: &Subject) {
    let context = plain_tls();
    let tls = Some(&context);
    let chains = [says("a", "server_names: [\"a.test\"]", tls), says("rest", "transport_protocol: tls", tls)];
    let proxy = start(subject, &chains, "");
    let slow = millrace_support::chaos::Chaos::start(proxy.listener("main"), 1, |_, _| {
        let slow = millrace_support::chaos::Plan { slice: 1, ..Default::default() };
        (slow, Default::default())
    });
    let link = Client::new().name("a.test").connect(slow.address());
    assert_eq!(link.raw().get("/").text(), "a");
}

fn inspection_statistics(subject: &Subject) {
    let context = plain_tls();
    let chains = [
        says("tls", "transport_protocol: tls", Some(&context)),
        says("raw", "transport_protocol: raw_buffer", None),
    ];
    let proxy = start(subject, &chains, "");
    assert_eq!(chain_of(&proxy, &Client::new().name("a.test").alpn(&["http/1.1"])), "tls");
    assert_eq!(chain_of(&proxy, &Client::new()), "tls");
    assert_eq!(proxy.client().get("/").text(), "raw");
    assert_eq!(h2::Client::connect(proxy.listener("main")).get("/").text(), "raw");
    for (name, value) in [
        ("tls_inspector.tls_found", 2),
        ("tls_inspector.tls_not_found", 2),
        ("tls_inspector.sni_found", 1),
        ("tls_inspector.sni_not_found", 1),
        ("tls_inspector.alpn_found", 1),
        ("tls_inspector.alpn_not_found", 1),
        ("http_inspector.http11_found", 1),
        ("http_inspector.http2_found", 1),
    ] {
        proxy.wait_stat(name, value);
    }
}
