//! Interim responses and connections that stop being HTTP.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::message::Framing;
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::rng::Rng;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Then, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(expect_continue_is_answered_here),
    case!(expect_continue_is_passed_on_when_asked),
    case!(early_hints),
    case!(websocket),
    case!(websocket_refused_by_the_upstream),
    case!(websocket_answered_with_another_success),
    case!(websocket_needs_configuration),
    case!(bytes_before_the_switch_wait),
    case!(connect_needs_configuration),
    case!(connect_to_a_raw_upstream),
    case!(upgrade_half_close),
];

const WEBSOCKET: [(&str, &str); 4] =
    [("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x")];

fn start(subject: &Subject, upstream: &Upstream, hcm: &str) -> Proxy {
    let http = Http::to("up").hcm(hcm);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn expect_continue_is_answered_here(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = start(subject, &upstream, "");
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.wire().line("status"), Ok(b"HTTP/1.1 100 Continue".to_vec()));
    assert_eq!(client.wire().line("end"), Ok(Vec::new()));
    client.send(b"body");
    assert_eq!(client.response("POST").map(|r| (r.interim.len(), r.text())), Ok((0, "body".to_owned())));
    assert!(!upstream.only_request().fields.has("expect"));
}

fn expect_continue_is_passed_on_when_asked(subject: &Subject) {
    let upstream = Upstream::with_early(
        |head| {
            head.fields
                .has("expect")
                .then(|| Reply::raw("HTTP/1.1 100 Continue\r\n\r\n").then(Then::Continue))
        },
        |request| Reply::bytes(200, &request.body),
    );
    let proxy = start(subject, &upstream, "proxy_100_continue: true");
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.wire().line("status"), Ok(b"HTTP/1.1 100 Continue".to_vec()));
    assert!(upstream.requests().is_empty());
    client.send(b"body");
    while client.wire().line("interim fields").is_ok_and(|l| !l.is_empty()) {}
    assert_eq!(client.response("POST").map(|r| r.text()), Ok("body".to_owned()));
    assert_eq!(upstream.only_request().fields.get("expect"), Some("100-continue"));
}

/// An interim response other than 100 does not disturb the final one. Envoy swallows it; passing it on,
/// as RFC 9110 section 15.2 asks of proxies, is right too.
fn early_hints(subject: &Subject) {
    let upstream = Upstream::start(|_| {
        Reply::raw("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n")
            .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let proxy = start(subject, &upstream, "");
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        let interim: Vec<u16> = response.interim.iter().map(|i| i.status).collect();
        assert!(interim.is_empty() || (!subject.is_envoy() && interim == [103]), "{interim:?}");
    }
    assert_eq!(upstream.connections(), 1);
}

const UPGRADES: &str = "upgrade_configs: [{upgrade_type: websocket}]";

fn websocket(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::websocket());
    let proxy = start(subject, &upstream, UPGRADES);
    let mut client = proxy.client();
    client.request("GET", "/chat", &WEBSOCKET, b"");
    let response = client.response("GET").expect("the switch");
    assert_eq!((response.status, response.framing.clone()), (101, Framing::Tunnel));
    assert_eq!(response.get("upgrade"), Some("websocket"));
    assert!(response.get("connection").is_some_and(|v| v.eq_ignore_ascii_case("upgrade")));
    let bytes = Rng::new(11).bytes(200_000);
    for piece in bytes.chunks(50_000) {
        client.send(piece);
        assert!(client.wire().exact(piece.len(), "echo").is_ok_and(|echo| echo == piece));
    }
    client.finish_sending();
    assert_eq!(client.end(), End::Closed(Vec::new()));
    let request = upstream.only_request();
    assert_eq!(request.fields.get("upgrade"), Some("websocket"));
    assert_eq!(proxy.log().line(0).get("code"), "101");
    proxy.wait_stat("http.main.downstream_cx_upgrades_total", 1);
    proxy.wait_stat("http.main.downstream_cx_upgrades_active", 0);
    upstream.assert_strict();
}

fn websocket_refused_by_the_upstream(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(403, b"not here"));
    let proxy = start(subject, &upstream, UPGRADES);
    let mut client = proxy.client();
    client.request("GET", "/chat", &WEBSOCKET, b"");
    let response = client.response("GET").expect("the refusal");
    assert_eq!((response.status, response.text().as_str()), (403, "not here"));
    // Whatever follows the head is not HTTP.
    assert!(response.closes());
    assert_eq!(proxy.log().line(0).verdict(), ("403", "-", "via_upstream"));
    proxy.wait_stat("http.main.downstream_cx_upgrades_total", 1);
    proxy.wait_stat("http.main.downstream_cx_upgrades_active", 0);
}

fn websocket_answered_with_another_success(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(200, b"a page"));
    let proxy = start(subject, &upstream, UPGRADES);
    let mut client = proxy.client();
    client.request("GET", "/chat", &WEBSOCKET, b"");
    let response = client.response("GET").expect("a response");
    assert_eq!((response.status, response.text().as_str(), response.closes()), (200, "", true));
    assert_eq!(proxy.log().line(0).verdict(), ("200", "-", "websocket_handshake_unsuccessful"));
}

fn websocket_needs_configuration(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::websocket());
    let proxy = start(subject, &upstream, "");
    let mut client = proxy.client();
    client.request("GET", "/chat", &WEBSOCKET, b"");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(403));
    assert!(upstream.requests().is_empty());
    assert_eq!(proxy.log().line(0).verdict(), ("403", "-", "upgrade_failed"));
}

/// What a client sends before the upstream has agreed must not be taken for a request.
fn bytes_before_the_switch_wait(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(400, b"no").after(Duration::from_millis(200)));
    let proxy = start(subject, &upstream, UPGRADES);
    let mut client = proxy.client();
    client.request("GET", "/chat", &WEBSOCKET, b"");
    client.send(b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(400));
    client.end();
    assert!(upstream.requests().iter().all(|r| r.target != "/smuggled"));
}

fn connect_needs_configuration(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "");
    let mut client = proxy.client();
    client.send(b"CONNECT a.test:80 HTTP/1.1\r\nhost: a.test:80\r\n\r\n");
    assert_eq!(client.response("CONNECT").map(|r| r.status), Ok(404));
    assert!(upstream.requests().is_empty());
}

fn connect_to_a_raw_upstream(subject: &Subject) {
    let upstream = millrace_support::tcp::TcpUpstream::start(millrace_support::tcp::Role::Echo);
    let routes = "- match: {connect_matcher: {}}\n  route:\n    cluster: up\n    upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]\n";
    let http = Http::routes(routes).hcm("upgrade_configs: [{upgrade_type: CONNECT}]");
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let mut client = Client::connect(proxy.listener("main"));
    client.send(b"CONNECT a.test:80 HTTP/1.1\r\nhost: a.test:80\r\n\r\n");
    assert_eq!(client.response("CONNECT").map(|r| r.status), Ok(200));
    client.send(b"raw bytes");
    assert_eq!(client.wire().exact(9, "echo"), Ok(b"raw bytes".to_vec()));
}

fn upgrade_half_close(subject: &Subject) {
    let switch = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nlast words";
    let upstream = Upstream::start(move |_| Reply::raw(switch).step(Step::Finish).step(Step::Hang));
    let proxy = start(subject, &upstream, UPGRADES);
    let mut client = proxy.client();
    client.request("GET", "/chat", &WEBSOCKET, b"");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(101));
    assert_eq!(client.end(), End::Closed(b"last words".to_vec()));
}
