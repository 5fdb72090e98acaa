//! Protocols inside HTTP/2: websocket over extended CONNECT (RFC 8441) in every pairing, and plain CONNECT.

use millrace_e2e::{Case, case};
use millrace_support::any::{Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::setting;
use millrace_support::h2::{self, Act, Client, Lost};
use millrace_support::process::Proxy;
use millrace_support::raw;
use millrace_support::rng::Rng;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::upstream::{Reply, Upstream};
use std::net::SocketAddr;

pub(crate) const CASES: &[Case] = &[
    case!(websocket_in_every_pairing),
    case!(websocket_refused),
    case!(extended_connect_needs_configuration),
    case!(websocket_beside_other_streams),
    case!(websocket_ends_with_its_client),
    case!(websocket_ends_with_its_upstream),
    case!(connect_to_a_raw_upstream),
    case!(connect_needs_configuration),
];

const HCM: &str =
    "upgrade_configs: [{upgrade_type: websocket}]\nhttp2_protocol_options: {allow_connect: true}";
const EXTENDED: [(&str, &str); 4] =
    [(":method", "CONNECT"), (":protocol", "websocket"), ("sec-websocket-version", "13"), ("x-own", "1")];

/// An upstream of either version that takes every websocket and echoes it.
enum Echo {
    Http1(Upstream),
    Http2(h2::Upstream),
}

impl Echo {
    fn start(version: Version) -> Self {
        match version {
            Version::Http1 => Self::Http1(Upstream::start(|r| match r.target.as_str() {
                "/chat" => Reply::websocket(),
                "/refuse" => Reply::bytes(403, b"no"),
                _ => Reply::ok("x"),
            })),
            Version::Http2 => Self::Http2(h2::Upstream::with(
                &[(setting::ENABLE_CONNECT_PROTOCOL, 1)],
                |asked| match asked.get(":path") {
                    "/chat" => Some(h2::Reply::default().head(200, &[], false).act(Act::Echo)),
                    "/refuse" => Some(h2::Reply::bytes(403, b"no")),
                    _ => None,
                },
                |_| h2::Reply::ok("x"),
            )),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Http1(upstream) => upstream.address(),
            Self::Http2(upstream) => upstream.address(),
        }
    }

    /// How the request came: its own words for an upgrade to websocket.
    fn assert_asked_rightly(&self) {
        match self {
            Self::Http1(upstream) => {
                let request = upstream.only_request();
                let upgrade = (request.method.as_str(), request.fields.get("upgrade"));
                assert_eq!(upgrade, ("GET", Some("websocket")));
                assert!(request.fields.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")));
                upstream.assert_strict();
            }
            Self::Http2(upstream) => {
                let head = upstream.heads().remove(0);
                assert_eq!((head.get(":method"), head.get(":protocol")), ("CONNECT", "websocket"));
                assert_eq!((head.get(":path"), head.get(":authority")), ("/chat", "test.local"));
                upstream.assert_strict();
            }
        }
    }
}

fn proxy(subject: &Subject, address: SocketAddr, version: Version) -> Proxy {
    let cluster = match version {
        Version::Http1 => String::new(),
        Version::Http2 => http2_cluster("allow_connect: true"),
    };
    Proxy::start(subject, &Bootstrap::new().http(Http::to("up").hcm(HCM)).cluster("up", &[address], &cluster))
}

/// A client that knows whether extended CONNECT is offered.
fn connect(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.listener("main"));
    assert!(client.session().until(|s| s.settings.0 > 0));
    client
}

fn chat2(proxy: &Proxy, envoy: bool) {
    let mut client = connect(proxy);
    assert_eq!(client.session().peer_setting(setting::ENABLE_CONNECT_PROTOCOL), Some(1));
    let id = client.head("CONNECT", "/chat", &EXTENDED, false);
    assert_eq!(client.response_head(id), Ok(200));
    let bytes = Rng::new(4).bytes(300_000);
    for (n, piece) in bytes.chunks(50_000).enumerate() {
        assert_eq!(client.body(id, piece, false), piece.len());
        let wanted = 50_000 * n + piece.len();
        assert!(client.session().until(|s| s.peek(id).is_some_and(|r| r.body.len() == wanted)));
    }
    assert!(client.session().received(id).body == bytes);
    client.body(id, b"", true);
    // Envoy does not pass the end on to an HTTP/1.1 upstream, which never learns of it.
    assert!(client.response(id).is_ok() || envoy);
    client.assert_strict();
}

fn chat1(proxy: &Proxy, _envoy: bool) {
    let mut client = raw::Client::connect(proxy.listener("main"));
    let fields = [("host", "test.local"), ("connection", "Upgrade"), ("upgrade", "websocket")];
    client.request("GET", "/chat", &fields, b"");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(101));
    for piece in Rng::new(4).bytes(300_000).chunks(50_000) {
        client.send(piece);
        assert!(client.wire().exact(piece.len(), "echo").is_ok_and(|echo| echo == piece));
    }
}

fn websocket_in_every_pairing(subject: &Subject) {
    for up in [Version::Http1, Version::Http2] {
        for down in [chat1, chat2] {
            let echo = Echo::start(up);
            let proxy = proxy(subject, echo.address(), up);
            down(&proxy, subject.is_envoy());
            echo.assert_asked_rightly();
            proxy.wait_stat("http.main.downstream_cx_upgrades_total", 1);
            proxy.wait_stat("http.main.downstream_cx_upgrades_active", 0);
        }
    }
}

fn websocket_refused(subject: &Subject) {
    for up in [Version::Http1, Version::Http2] {
        let echo = Echo::start(up);
        let proxy = proxy(subject, echo.address(), up);
        let mut client = connect(&proxy);
        let id = client.head("CONNECT", "/refuse", &EXTENDED, false);
        assert_eq!(client.response_head(id), Ok(403));
        assert_eq!(client.response(id).map(|r| r.text()), Ok("no".into()));
        assert_eq!(client.get("/").status, 200);
    }
}

/// Without `allow_connect` the offer is not made, and `:protocol` is malformed.
fn extended_connect_needs_configuration(subject: &Subject) {
    let echo = Echo::start(Version::Http1);
    let bootstrap = Bootstrap::forward(echo.address());
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = connect(&proxy);
    assert!(matches!(client.session().peer_setting(setting::ENABLE_CONNECT_PROTOCOL), None | Some(0)));
    let id = client.head("CONNECT", "/chat", &EXTENDED, false);
    let verdict = client.response_head(id);
    assert!(!matches!(verdict, Ok(200..300)) && verdict != Err(Lost::Timeout), "{verdict:?}");
    if !subject.is_envoy() {
        assert_eq!(client.get("/").status, 200);
    }
}

fn websocket_beside_other_streams(subject: &Subject) {
    let echo = Echo::start(Version::Http2);
    let proxy = proxy(subject, echo.address(), Version::Http2);
    let mut client = connect(&proxy);
    let ids = [0; 10].map(|_| client.head("CONNECT", "/chat", &EXTENDED, false));
    for round in 1..=10 {
        for id in ids {
            assert_eq!(client.response_head(id), Ok(200));
            client.body(id, b"message", false);
        }
        assert_eq!(client.get("/").text(), "x");
        for id in ids {
            assert!(client.session().until(|s| s.peek(id).is_some_and(|r| r.body.len() == 7 * round)));
        }
    }
    client.assert_strict();
}

fn websocket_ends_with_its_client(subject: &Subject) {
    let echo = Upstream::start(|_| Reply::websocket());
    let proxy = proxy(subject, echo.address(), Version::Http1);
    let mut client = connect(&proxy);
    let id = client.head("CONNECT", "/chat", &EXTENDED, false);
    assert_eq!(client.response_head(id), Ok(200));
    client.reset(id, h2::frame::code::CANCEL);
    millrace_support::wait::for_true("the upstream connection to end", || echo.active() == 0);
    assert!(client.is_alive());
    proxy.wait_stat("http.main.downstream_cx_upgrades_active", 0);
}

fn websocket_ends_with_its_upstream(subject: &Subject) {
    let switch = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nlast words";
    let upstream = Upstream::start(move |_| Reply::raw(switch).then(millrace_support::upstream::Then::Close));
    let proxy = proxy(subject, upstream.address(), Version::Http1);
    let mut client = connect(&proxy);
    let id = client.head("CONNECT", "/chat", &EXTENDED, false);
    assert_eq!(client.response_head(id), Ok(200));
    assert!(client.session().until(|s| s.peek(id).is_some_and(|r| r.body == b"last words")));
    assert!(client.session().until(|s| s.peek(id).is_some_and(|r| r.ended || r.reset.is_some())));
    assert!(client.is_alive());
}

fn connect_to_a_raw_upstream(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let routes = "- match: {connect_matcher: {}}\n  route:\n    cluster: up\n    upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]\n";
    let hcm = "upgrade_configs: [{upgrade_type: CONNECT}]\nhttp2_protocol_options: {allow_connect: true}";
    let http = Http::routes(routes).hcm(hcm);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let mut client = connect(&proxy);
    let id = client.open(&[(":method", "CONNECT"), (":authority", "a.test:80")], false);
    assert_eq!(client.response_head(id), Ok(200));
    client.body(id, b"raw bytes", false);
    assert!(client.session().until(|s| s.peek(id).is_some_and(|r| r.body == b"raw bytes")));
    client.body(id, b"", true);
    assert!(client.response(id).is_ok());
}

fn connect_needs_configuration(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(subject, &Bootstrap::forward(upstream.address()));
    let mut client = connect(&proxy);
    let id = client.open(&[(":method", "CONNECT"), (":authority", "a.test:80")], false);
    let verdict = client.response_head(id);
    assert!(matches!(verdict, Ok(403..=405) | Err(Lost::Reset(..) | Lost::Ended(..))), "{verdict:?}");
    assert!(upstream.requests().is_empty());
}
