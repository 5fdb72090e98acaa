//! Streams of one downstream connection beside each other: interleaving, endings, resets, flow control.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Body, Origin, Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::{self, code, flag, kind, setting};
use millrace_support::h2::{self, Act, Client, Lost, client, hpack};
use millrace_support::process::Proxy;
use millrace_support::rng::{BodyHash, Rng};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Then, Upstream};
use millrace_support::wait;

use super::{rss_kib, start};

pub(crate) const CASES: &[Case] = &[
    case!(a_hundred_streams_interleaved),
    case!(legal_oddities),
    case!(expect_continue),
    case!(early_response),
    case!(early_response_to_a_whole_request),
    case!(bidirectional_stream),
    case!(client_reset_closes_an_http1_upstream),
    case!(client_reset_cancels_an_http2_stream),
    case!(large_heads),
    case!(heads_beyond_the_limits),
    case!(slow_reader_does_not_stop_its_neighbours),
    case!(back_pressure_of_an_http1_upstream),
    case!(back_pressure_of_an_http2_upstream),
    case!(client_that_says_goodbye),
    case!(many_connections),
];

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

fn hashing(version: Version) -> Origin {
    Origin::start(version, |seen| Answer {
        status: 200,
        fields: vec![("x-hash", BodyHash::of(&seen.body).hex())],
        body: Body::Streamed(seen.body.chunks(3000).map(<[u8]>::to_vec).collect()),
        ..Answer::default()
    })
}

fn a_hundred_streams_interleaved(subject: &Subject) {
    for version in VERSIONS {
        let origin = hashing(version);
        let proxy = start(subject, &origin, "");
        let mut client = Client::connect(proxy.listener("main"));
        let bodies: Vec<Vec<u8>> = (0..100).map(|n| Rng::new(n).bytes(1 + 97 * n as usize)).collect();
        let ids: Vec<u32> = bodies.iter().map(|_| client.head("POST", "/", &[], false)).collect();
        let longest = bodies.iter().map(Vec::len).max().unwrap_or(0);
        for from in (0..longest).step_by(500) {
            for (id, body) in ids.iter().zip(&bodies).filter(|(_, body)| from < body.len()) {
                let to = (from + 500).min(body.len());
                client.body(*id, &body[from..to], to == body.len());
            }
        }
        for (id, body) in ids.iter().zip(&bodies) {
            let response = client.response(*id).expect("a response");
            assert_eq!(response.get("x-hash"), Some(&BodyHash::of(body).hex()[..]), "{version:?} {id}");
            assert!(response.body == *body, "{version:?} {id}: another body");
        }
        client.assert_strict();
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// Everything that RFC 9113 allows and few clients do.
fn legal_oddities(subject: &Subject) {
    let origin = hashing(Version::Http1);
    let proxy = start(subject, &origin, "");
    let mut client = Client::connect(proxy.listener("main"));
    let block = hpack::block(&client::head("POST", "/", &[]));
    let (one, two) = block.split_at(20);
    let decorated = [&[3, 0, 0, 0, 0, 7][..], &block, &[0; 3]].concat();
    let indexed = [&block[..], &hpack::indexing("x-a", "1"), &[0xbe]].concat();
    let resized = [&[0x20][..], &block].concat();
    for (what, flags, bytes) in [
        ("padding and priority", flag::PADDED | flag::PRIORITY, &decorated),
        ("plain", 0, &block),
        ("a dynamic field twice", 0, &indexed),
        ("a table of no size", 0, &resized),
        ("plain again", 0, &block),
    ] {
        let id = client.next_id();
        client.session().open(id);
        client.session().send(&frame::priority(id + 100, 0));
        client.session().send(&frame::frame(kind::HEADERS, flag::END_HEADERS | flags, id, bytes));
        client.session().send(&frame::frame(0x77, 0xff, id, b"unknown"));
        client.session().send(&frame::settings(&[(0x99, 7), (setting::MAX_FRAME_SIZE, 20_000)]));
        client.session().send(&frame::frame(kind::DATA, flag::PADDED, id, b"\x04body\0\0\0\0"));
        client.session().send(&frame::data(id, b"", true));
        assert_eq!(client.response(id).map(|r| r.text()), Ok("body".into()), "{what}");
        assert!(client.is_alive());
    }
    let id = client.next_id();
    client.session().open(id);
    client.session().send(&frame::frame(kind::HEADERS, flag::END_STREAM, id, one));
    client.session().send(&frame::frame(kind::CONTINUATION, 0, id, b""));
    client.session().send(&frame::frame(kind::CONTINUATION, flag::END_HEADERS, id, two));
    assert_eq!(client.response(id).map(|r| r.status), Ok(200));
    client.assert_strict();
    assert!(origin.violations().is_empty(), "{:?}", origin.violations());
}

fn expect_continue(subject: &Subject) {
    for version in VERSIONS {
        let origin = hashing(version);
        let proxy = start(subject, &origin, "");
        let mut client = Client::connect(proxy.listener("main"));
        let id = client.head("POST", "/", &[("expect", "100-continue"), ("content-length", "4")], false);
        assert!(client.session().until(|s| s.peek(id).is_some_and(|r| !r.blocks.is_empty())));
        assert_eq!(client.session().received(id).blocks[0].get(":status"), Some("100"));
        client.body(id, b"body", true);
        let response = client.response(id).expect("a response");
        assert_eq!((response.text().as_str(), response.interim.len()), ("body", 1), "{version:?}");
        assert!(!origin.requests()[0].fields.has("expect"), "{version:?}");
    }
}

/// The answer comes before the request is complete: the client gets all of it, and its neighbour nothing of it.
fn early_response(subject: &Subject) {
    let early1 = Upstream::with_early(
        |head| (head.target == "/early").then(|| Reply::bytes(413, b"no").then(Then::Close)),
        |_| Reply::ok("x"),
    );
    let early2 = h2::Upstream::with(
        &[],
        |head| (head.get(":path") == "/early").then(|| h2::Reply::bytes(413, b"no").act(Act::Reset(0))),
        |_| h2::Reply::ok("x"),
    );
    for origin in [Origin::Http1(early1), Origin::Http2(early2)] {
        let proxy = start(subject, &origin, "");
        let mut client = Client::connect(proxy.listener("main"));
        let neighbour = client.head("POST", "/", &[], false);
        let id = client.head("POST", "/early", &[("content-length", "100000")], false);
        client.body(id, b"some", false);
        let response = client.response(id).expect("a response");
        assert_eq!((response.status, response.text().as_str()), (413, "no"));
        client.session().data(id, b"late", false);
        client.body(neighbour, b"rest", true);
        assert_eq!(client.response(neighbour).map(|r| r.status), Ok(200));
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// The answer needs nothing of the body, all of which came with the head: there is nothing to be reset.
fn early_response_to_a_whole_request(subject: &Subject) {
    let routes = "- match: {prefix: /}\n  direct_response: {status: 403, body: {inline_string: \"no\"}}\n";
    let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::routes(routes)));
    let mut client = Client::connect(proxy.listener("main"));
    assert!(client.is_alive());
    let mut ids = Vec::new();
    let mut bytes = Vec::new();
    for whole in [true, true, false] {
        let id = client.next_id();
        let fields = client::head("POST", "/", &[("content-length", "4")]);
        bytes.extend(frame::headers(id, &hpack::block(&fields), false));
        bytes.extend(frame::data(id, if whole { b"body" } else { b"bo" }, whole));
        ids.push(id);
    }
    client.session().send(&bytes);
    for id in &ids {
        assert_eq!(client.response(*id).map(|r| (r.status, r.text())), Ok((403, "no".into())));
    }
    assert!(client.is_alive());
    let resets = ids.iter().map(|id| client.session().received(*id).reset);
    assert_eq!(resets.collect::<Vec<_>>(), [None, None, Some(0)]);
    proxy.wait_stat("http.main.downstream_rq_active", 0);
    proxy.wait_stat("http.main.downstream_rq_rx_reset", 3);
    client.assert_strict();
}

fn bidirectional_stream(subject: &Subject) {
    let upstream = h2::Upstream::with(
        &[],
        |_| Some(h2::Reply::default().head(200, &[], false).act(Act::Echo)),
        |_| h2::Reply::default(),
    );
    let origin = Origin::Http2(upstream);
    let proxy = start(subject, &origin, "");
    let mut client = Client::connect(proxy.listener("main"));
    let ids = [0; 3].map(|_| client.head("POST", "/", &[], false));
    for round in 1..=20 {
        for id in ids {
            client.body(id, b"ping", false);
            let enough = client.session().until(|s| s.peek(id).is_some_and(|r| r.body.len() == 4 * round));
            assert!(enough, "round {round} of stream {id} did not come back");
        }
    }
    for id in ids {
        client.body(id, b"", true);
        assert_eq!(client.response(id).map(|r| r.body.len()), Ok(80));
    }
}

fn client_reset_closes_an_http1_upstream(subject: &Subject) {
    let upstream = Upstream::start(|r| if r.target == "/hang" { Reply::hang() } else { Reply::ok("x") });
    let bootstrap = Bootstrap::forward(upstream.address());
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = Client::connect(proxy.listener("main"));
    let id = client.head("GET", "/hang", &[("x-case", "gone")], true);
    upstream.wait_for(1);
    client.reset(id, code::CANCEL);
    wait::for_true("the upstream connection to end", || upstream.active() == 0);
    assert_eq!(client.get("/").status, 200);
    let line = proxy.log().case("gone");
    assert_eq!((line.get("code"), line.get("flags")), ("0", "DR"));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    proxy.wait_stat("http.main.downstream_rq_active", 0);
}

fn client_reset_cancels_an_http2_stream(subject: &Subject) {
    let upstream = h2::Upstream::start(|asked| match asked.get(":path") {
        "/hang" => h2::Reply::hang(),
        "/part" => h2::Reply::default().head(200, &[], false).data(b"part", false),
        _ => h2::Reply::ok("x"),
    });
    let bootstrap =
        Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = Client::connect(proxy.listener("main"));
    for (path, blocks) in [("/hang", 0), ("/part", 1)] {
        let before = upstream.heads().len();
        let id = client.head("GET", path, &[], true);
        upstream.wait_heads(before + 1);
        assert!(client.session().until(|s| blocks == 0 || s.peek(id).is_some_and(|r| r.body.len() == 4)));
        client.reset(id, code::CANCEL);
        let stream = upstream.heads()[before].stream;
        wait::for_true("the reset upstream", || upstream.resets().iter().any(|r| r.1 == stream));
        let all = upstream.resets();
        let code = all.iter().find(|r| r.1 == stream).map(|r| r.2);
        // Envoy says INTERNAL_ERROR.
        assert!(subject.is_envoy() || code == Some(code::CANCEL), "{code:?}");
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!((upstream.connections(), upstream.active()), (1, 1));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    upstream.assert_strict();
}

fn large_heads(subject: &Subject) {
    for version in VERSIONS {
        let value = "v".repeat(40_000);
        let copy = value.clone();
        let origin = Origin::start(version, move |seen| Answer {
            status: if seen.fields.get("x-large") == Some(&copy) { 200 } else { 500 },
            fields: vec![("x-large", copy.clone())],
            ..Answer::default()
        });
        let proxy = start(subject, &origin, "");
        let mut client = Client::connect(proxy.listener("main"));
        let response = client.exchange("GET", "/", &[("x-large", &value)], b"").expect("a response");
        assert_eq!(
            (response.status, response.get("x-large").map(str::len)),
            (200, Some(40_000)),
            "{version:?}"
        );
        client.assert_strict();
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// 60 KiB and 100 fields are the defaults. A neighbour does not notice.
fn heads_beyond_the_limits(subject: &Subject) {
    let origin = hashing(Version::Http1);
    let proxy = start(subject, &origin, "");
    let mut client = Client::connect(proxy.listener("main"));
    let neighbour = client.head("POST", "/", &[], false);
    let value = "v".repeat(62_000);
    let names: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "1")).collect();
    for fields in [&[("x-large", &value[..])][..], &many] {
        let id = client.head("GET", "/beyond", fields, true);
        let verdict = client.response(id).map(|r| r.status);
        let expected =
            matches!(verdict, Ok(431) | Err(Lost::Reset(code::ENHANCE_YOUR_CALM | code::PROTOCOL_ERROR, _)));
        assert!(expected || (subject.is_envoy() && matches!(verdict, Err(Lost::Reset(..)))), "{verdict:?}");
    }
    client.body(neighbour, b"body", true);
    assert_eq!(client.response(neighbour).map(|r| r.text()), Ok("body".into()));
    assert_eq!(origin.requests().len(), 1);
}

/// What one stalled stream may cost. Envoy's windows are 16 MiB and it fills more than one.
fn most_kib(subject: &Subject) -> usize {
    if subject.is_envoy() { 64 << 10 } else { 8 << 10 }
}

/// A response of 64 MiB that nobody reads stops alone, and the proxy does not store it.
fn slow_reader_does_not_stop_its_neighbours(subject: &Subject) {
    let large = Rng::new(3).bytes(64 << 20);
    let hash = BodyHash::of(&large).hex();
    for version in VERSIONS {
        let body = large.clone();
        let origin = Origin::start(version, move |seen| Answer {
            status: 200,
            body: Body::Length(if seen.path == "/large" { body.clone() } else { vec![b'x'; 1000] }),
            ..Answer::default()
        });
        let proxy = start(subject, &origin, "");
        let mut client = Client::connect(proxy.listener("main"));
        client.get("/");
        let before = rss_kib(proxy.pid());
        let id = client.next_id();
        client.session().hold(id);
        client.session().headers(id, &client::head("GET", "/large", &[]), true);
        assert!(client.session().until(|s| s.peek(id).is_some_and(|r| r.body.len() == 65_535)));
        for _ in 0..200 {
            assert_eq!(client.get("/").body.len(), 1000, "{version:?}");
        }
        let grown = rss_kib(proxy.pid()).saturating_sub(before);
        assert!(grown < most_kib(subject), "{version:?}: {grown} KiB more for a stalled stream");
        assert_eq!(client.session().received(id).body.len(), 65_535);
        client.session().grant(id, 1 << 20);
        assert_eq!(client.response(id).map(|r| BodyHash::of(&r.body).hex()), Ok(hash.clone()), "{version:?}");
        client.assert_strict();
    }
}

/// Sends on a stream whose upstream does not read: what gets through is bounded and its neighbours go on; at last
/// everything arrives.
#[track_caller]
fn back_pressure(subject: &Subject, origin: &Origin, pause: Duration) {
    let proxy = start(subject, origin, "");
    let mut client = Client::connect(proxy.listener("main"));
    client.get("/");
    let before = rss_kib(proxy.pid());
    let body = Rng::new(8).bytes(48 << 20);
    let id = client.head("POST", "/slow", &[], false);
    let sent = client.body_within(id, &body, true, pause);
    assert!(sent < body.len(), "all of {sent} octets went into a stream that nobody reads");
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
    }
    let grown = rss_kib(proxy.pid()).saturating_sub(before);
    assert!(grown < most_kib(subject), "{grown} KiB more for a stalled stream");
    assert_eq!(client.body(id, &body[sent..], true), body.len() - sent);
    let hash = client.response(id).map(|r| r.text());
    assert_eq!(hash, Ok(BodyHash::of(&body).hex()));
    assert!(origin.violations().is_empty(), "{:?}", origin.violations());
}

fn back_pressure_of_an_http1_upstream(subject: &Subject) {
    let slow = |_: &_| Reply::new().step(Step::Sleep(Duration::from_secs(2))).then(Then::Continue);
    let upstream = Upstream::with_early(
        move |head| (head.target == "/slow").then(|| slow(head)),
        |request| Reply::ok(&BodyHash::of(&request.body).hex()),
    );
    back_pressure(subject, &Origin::Http1(upstream), Duration::from_millis(400));
}

fn back_pressure_of_an_http2_upstream(subject: &Subject) {
    let upstream = h2::Upstream::with(
        &[],
        |head| {
            let hold =
                h2::Reply::default().act(Act::Hold).wait(Duration::from_secs(2)).act(Act::Grant(1 << 20));
            (head.get(":path") == "/slow").then_some(hold)
        },
        |asked| h2::Reply::ok(&BodyHash::of(&asked.body).hex()),
    );
    back_pressure(subject, &Origin::Http2(upstream), Duration::from_millis(400));
}

/// A client may announce its end and still get what it asked for.
fn client_that_says_goodbye(subject: &Subject) {
    let origin = Origin::Http1(Upstream::start(|_| Reply::ok("late").after(Duration::from_millis(300))));
    let proxy = start(subject, &origin, "");
    let mut client = Client::connect(proxy.listener("main"));
    let id = client.head("GET", "/", &[], true);
    client.session().goaway(0);
    assert_eq!(client.response(id).map(|r| r.text()), Ok("late".into()));
}

/// 40 connections with 5 streams each, at once.
fn many_connections(subject: &Subject) {
    let origin = hashing(Version::Http2);
    let proxy = start(subject, &origin, "");
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(proxy.listener("main"))).collect();
    let ids: Vec<Vec<u32>> = clients
        .iter_mut()
        .map(|c| (0..5).map(|n| c.request("POST", "/", &[], &[b'x'; 700][..n * 100])).collect())
        .collect();
    for (client, ids) in clients.iter_mut().zip(ids) {
        for (n, id) in ids.into_iter().enumerate() {
            assert_eq!(client.response(id).map(|r| r.body.len()), Ok(n * 100));
        }
    }
    assert!(origin.violations().is_empty(), "{:?}", origin.violations());
}
