//! The filter `buffer`.

use millrace_e2e::{Case, case};
use millrace_support::any::{Body, Caller, Question, Version};
use millrace_support::raw::encode_chunked;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

use super::{FORWARD, rest, route, start};

pub(crate) const CASES: &[Case] = &[
    case!(the_upstream_sees_whole_requests),
    case!(what_is_too_long_is_refused),
    case!(long_requests_of_either_version),
    case!(the_client_is_invited_at_once),
    case!(filters_behind_see_what_was_held),
];

const KIND: &str = "buffer.v3.Buffer";
const HUNDRED: (&str, &str, &str) = ("buffer", KIND, "max_request_bytes: 100");

fn the_upstream_sees_whole_requests(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = start(subject, &[HUNDRED], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    // Nothing is to be seen of it before it is whole.
    proxy.wait_stat("http.main.downstream_rq_active", 1);
    assert_eq!(upstream.connections(), 0);
    client.send(b"2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.response("POST").expect("a response").text(), "abcde");
    let request = upstream.only_request();
    assert_eq!(
        (request.fields.get("content-length"), request.fields.get("transfer-encoding")),
        (Some("5"), None)
    );
    assert_eq!(client.exchange("POST", "/", &[], &[b'x'; 100]).body.len(), 100);
    assert_eq!(client.get("/").status, 200);
    upstream.assert_strict();
}

fn what_is_too_long_is_refused(subject: &Subject) {
    let routes = [
        route("/off", FORWARD, "buffer", "buffer.v3.BufferPerRoute", "disabled: true"),
        route("/more", FORWARD, "buffer", "buffer.v3.BufferPerRoute", "buffer: {max_request_bytes: 300}"),
        rest(FORWARD),
    ]
    .concat();
    let upstream = Upstream::echo();
    let proxy = start(subject, &[HUNDRED], &routes, &upstream);
    let refused = proxy.client().exchange("POST", "/", &[], &[b'x'; 200]);
    assert_eq!((refused.status, refused.text().as_str()), (413, "Payload Too Large"));
    assert_eq!(proxy.log().line(0).verdict(), ("413", "-", "request_payload_too_large"));
    let mut client = proxy.client();
    client.send(&encode_chunked("POST", "/", &[("host", "a")], &[&[b'x'; 60], &[b'x'; 60]], &[]));
    assert_eq!(client.response("POST").expect("a response").status, 413);
    for path in ["/off", "/more"] {
        let response = proxy.client().exchange("POST", path, &[], &[b'x'; 200]);
        assert_eq!((response.status, response.body.len()), (200, 200), "{path}");
    }
    proxy.wait_stat("http.main.downstream_rq_too_large", 2);
}

/// Longer than any window and any watermark.
fn long_requests_of_either_version(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = start(subject, &[("buffer", KIND, "max_request_bytes: 4000000")], &rest(FORWARD), &upstream);
    for version in [Version::Http1, Version::Http2] {
        let mut caller = Caller::connect(version, proxy.listener("main"));
        let pieces = (0..30u8).map(|n| vec![b'A' + n; 100_000]).collect();
        let body = Body::Streamed(pieces);
        let question = Question { method: "POST", path: "/".into(), body, ..Question::default() };
        let got = caller.ask(&question).expect("a response");
        let expected: Vec<u8> = (0..30u8).flat_map(|n| vec![b'A' + n; 100_000]).collect();
        assert!(got.status == 200 && got.body == expected, "{version:?}: {}", got.status);
    }
    upstream.assert_strict();
}

fn the_client_is_invited_at_once(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = start(subject, &[HUNDRED], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    let invited = client.wire().exact(25, "an interim response").expect("a response");
    assert_eq!(invited, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"body");
    assert_eq!(client.response("POST").expect("a response").text(), "body");
}

/// gRPC messages are counted that came before the filter knew of them.
fn filters_behind_see_what_was_held(subject: &Subject) {
    let stats = ("stats", "grpc_stats.v3.FilterConfig", "stats_for_all_methods: true");
    let upstream = Upstream::echo();
    let proxy = start(subject, &[HUNDRED, stats], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    let message = b"\0\0\0\0\x02ab";
    let fields = [("host", "a"), ("content-type", "application/grpc"), ("te", "trailers")];
    client.send(&encode_chunked("POST", "/s.S/M", &fields, &[message, message], &[]));
    assert_eq!(client.response("POST").expect("a response").body.len(), 14);
    proxy.wait_stat("cluster.up.grpc.s.S.M.request_message_count", 2);
}
