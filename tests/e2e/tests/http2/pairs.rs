//! Every pairing of HTTP/1.1 and HTTP/2, driven by one table of exchanges.

use millrace_e2e::{Case, case};
use millrace_support::any::{
    Answer, Body, Caller, Got, Origin, Question, Seen, Version, http2_cluster, protocol_options,
};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::rng::{BodyHash, Rng};
use millrace_support::subject::Subject;

use super::start;

pub(crate) const CASES: &[Case] = &[
    case!(http1_to_http1),
    case!(http2_to_http1),
    case!(http1_to_http2),
    case!(http2_to_http2),
    case!(codec_type_http2),
    case!(trailers),
    case!(trailers_need_configuration_in_http1),
    case!(large_bodies),
    case!(heads_of_every_shape_on_one_connection),
    case!(use_downstream_protocol),
];

use Version::{Http1, Http2};

const PAIRS: [(Version, Version); 4] = [(Http1, Http1), (Http2, Http1), (Http1, Http2), (Http2, Http2)];

type Fields = &'static [(&'static str, &'static str)];

/// One exchange: what is asked and answered, and what the other side must see of it.
struct Row {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    send: Fields,
    body: Sent,
    status: u16,
    answer: Fields,
    reply: Sent,
    interim: Option<u16>,
    /// Fields at the origin, by their joined values; `""`: absent.
    seen: Fields,
    /// Fields at the client.
    got: Fields,
    /// Only for clients of this version.
    only: Option<Version>,
}

#[derive(Clone, Copy)]
enum Sent {
    Nothing,
    Length(&'static str),
    Streamed(&'static [&'static str]),
}

impl Sent {
    fn body(self) -> Body {
        match self {
            Self::Nothing => Body::None,
            Self::Length(text) => Body::Length(text.as_bytes().to_vec()),
            Self::Streamed(pieces) => Body::Streamed(pieces.iter().map(|p| p.as_bytes().to_vec()).collect()),
        }
    }
}

const ROW: Row = Row {
    name: "",
    method: "GET",
    path: "/",
    send: &[],
    body: Sent::Nothing,
    status: 200,
    answer: &[],
    reply: Sent::Length("answer"),
    interim: None,
    seen: &[],
    got: &[],
    only: None,
};

const ROWS: &[Row] = &[
    Row { name: "get", got: &[("content-length", "6")], ..ROW },
    Row { name: "query", path: "/a%20b/c?d=e&f=%2F", ..ROW },
    Row {
        name: "post with a length",
        method: "POST",
        body: Sent::Length("hello"),
        seen: &[("content-length", "5"), ("transfer-encoding", "")],
        ..ROW
    },
    Row {
        name: "post without a length",
        method: "POST",
        body: Sent::Streamed(&["hel", "lo"]),
        seen: &[("content-length", "")],
        ..ROW
    },
    Row {
        name: "post of nothing",
        method: "POST",
        body: Sent::Length(""),
        seen: &[("content-length", "0")],
        ..ROW
    },
    Row { name: "put", method: "PUT", body: Sent::Length("x"), status: 201, ..ROW },
    Row { name: "delete", method: "DELETE", status: 202, ..ROW },
    Row { name: "head", method: "HEAD", got: &[("content-length", "6")], ..ROW },
    Row {
        name: "head without a length",
        method: "HEAD",
        reply: Sent::Nothing,
        answer: &[("x", "1")],
        got: &[("x", "1")],
        ..ROW
    },
    Row { name: "204", status: 204, reply: Sent::Nothing, got: &[("content-length", "")], ..ROW },
    Row {
        name: "304",
        status: 304,
        reply: Sent::Nothing,
        answer: &[("etag", "\"e\"")],
        got: &[("etag", "\"e\"")],
        ..ROW
    },
    Row { name: "404", status: 404, ..ROW },
    Row { name: "503", status: 503, ..ROW },
    Row { name: "empty answer", reply: Sent::Length(""), got: &[("content-length", "0")], ..ROW },
    Row {
        name: "answer without a length",
        reply: Sent::Streamed(&["ans", "wer"]),
        got: &[("content-length", "")],
        ..ROW
    },
    Row { name: "early hints", interim: Some(103), ..ROW },
    Row {
        name: "repeated fields",
        send: &[("x-a", "1"), ("x-b", "-"), ("x-a", "2")],
        seen: &[("x-a", "1,2"), ("x-b", "-")],
        answer: &[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-c", "")],
        got: &[("set-cookie", "a=1,b=2")],
        ..ROW
    },
    Row { name: "another authority", send: &[("host", "other.test:8080")], ..ROW },
    Row { name: "a cookie", send: &[("cookie", "a=1; b=2")], seen: &[("cookie", "a=1; b=2")], ..ROW },
    Row {
        name: "cookie crumbs",
        send: &[("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2"), ("cookie", "c=3")],
        seen: &[("cookie", "a=1; b=2; c=3")],
        only: Some(Http2),
        ..ROW
    },
    Row { name: "te", send: &[("te", "trailers")], seen: &[("te", "trailers")], only: Some(Http2), ..ROW },
    Row {
        name: "connection fields of the request",
        send: &[
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("x-hop", "1"),
        ],
        seen: &[("connection", ""), ("keep-alive", ""), ("proxy-connection", ""), ("x-hop", "")],
        only: Some(Http1),
        ..ROW
    },
    Row {
        name: "an offer of h2c",
        send: &[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ],
        seen: &[("connection", ""), ("upgrade", ""), ("http2-settings", "")],
        only: Some(Http1),
        ..ROW
    },
    Row {
        name: "connection fields of the answer",
        answer: &[("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("x", "1")],
        got: &[("connection", ""), ("keep-alive", ""), ("x", "1")],
        ..ROW
    },
    Row { name: "case of names", send: &[("x-mixed", "MiXeD")], seen: &[("x-mixed", "MiXeD")], ..ROW },
];

fn owned(fields: Fields) -> Vec<(&'static str, String)> {
    fields.iter().map(|(n, v)| (*n, (*v).to_owned())).collect()
}

impl Row {
    fn question(&self) -> Question {
        let mut fields = owned(self.send);
        fields.push(("x-row", self.name.to_owned()));
        Question {
            method: self.method,
            path: self.path.into(),
            fields,
            body: self.body.body(),
            ..Question::default()
        }
    }

    fn answer(&self) -> Answer {
        let (fields, body) = (owned(self.answer), self.reply.body());
        Answer { status: self.status, fields, body, interim: self.interim, ..Answer::default() }
    }

    /// What is wrong about the exchange.
    fn judge(&self, seen: Option<&Seen>, got: &Result<Got, String>) -> Vec<String> {
        let (Some(seen), Ok(got)) = (seen, got) else {
            return vec![format!("seen {seen:?}, got {got:?}")];
        };
        let mut wrong = Vec::new();
        let mut expect = |what: &str, is: &str, wanted: &str| {
            if is != wanted {
                wrong.push(format!("{what} is {is:?}, not {wanted:?}"));
            }
        };
        expect("the method", &seen.method, self.method);
        expect("the path", &seen.path, self.path);
        expect(
            "the body",
            &String::from_utf8_lossy(&seen.body),
            &String::from_utf8_lossy(&self.body.body().bytes()),
        );
        let host = self.send.iter().find(|(n, _)| *n == "host").map_or("test.local", |(_, v)| v);
        expect("the authority", &seen.authority, host);
        for (name, value) in self.seen {
            expect(&format!("request {name}"), &seen.fields.all(name).join(","), value);
        }
        expect("the status", &got.status.to_string(), &self.status.to_string());
        let bare = self.method == "HEAD" || matches!(self.status, 204 | 304);
        let body = if bare { Vec::new() } else { self.reply.body().bytes() };
        expect("the answer's body", &String::from_utf8_lossy(&got.body), &String::from_utf8_lossy(&body));
        for (name, value) in self.got {
            expect(&format!("response {name}"), &got.fields.all(name).join(","), value);
        }
        let interim: Vec<u16> = self.interim.into_iter().collect();
        // Envoy swallows what it does not know; passing it on, as RFC 9110 section 15.2 asks of proxies, is right too.
        if got.interim != interim && !got.interim.is_empty() {
            wrong.push(format!("interim {:?}, not {interim:?}", got.interim));
        }
        wrong
    }
}

/// Runs the table over one pairing and reports every row that failed.
#[track_caller]
fn table(subject: &Subject, (down, up): (Version, Version), hcm: &str) {
    let origin = Origin::start(up, |seen| {
        let name = seen.fields.get("x-row").unwrap_or_default();
        ROWS.iter().find(|r| r.name == name).map_or_else(Answer::default, Row::answer)
    });
    let proxy = start(subject, &origin, hcm);
    let mut caller = Caller::connect(down, proxy.listener("main"));
    let mut wrong = Vec::new();
    let skipped = |row: &&Row| row.only.is_some_and(|only| only != down);
    for row in ROWS.iter().filter(|row| !skipped(row)) {
        let got = caller.ask(&row.question());
        let seen = origin.requests().into_iter().find(|s| s.fields.get("x-row") == Some(row.name));
        if got.is_err() {
            caller = Caller::connect(down, proxy.listener("main"));
        }
        let faults = row.judge(seen.as_ref(), &got);
        wrong.extend(faults.into_iter().map(|fault| format!("{}: {fault}", row.name)));
    }
    wrong.extend(origin.violations());
    assert!(wrong.is_empty(), "{down:?} to {up:?}:\n{}", wrong.join("\n"));
}

fn http1_to_http1(subject: &Subject) {
    table(subject, (Http1, Http1), "");
}

fn http2_to_http1(subject: &Subject) {
    table(subject, (Http2, Http1), "");
}

fn http1_to_http2(subject: &Subject) {
    table(subject, (Http1, Http2), "");
}

fn http2_to_http2(subject: &Subject) {
    table(subject, (Http2, Http2), "");
}

fn codec_type_http2(subject: &Subject) {
    table(subject, (Http2, Http1), "codec_type: HTTP2");
}

/// A proxy whose both sides take trailers in HTTP/1.1.
fn with_trailers(subject: &Subject, origin: &Origin, up: Version) -> Proxy {
    let cluster = match up {
        Http1 => protocol_options("explicit_http_config: {http_protocol_options: {enable_trailers: true}}"),
        Http2 => http2_cluster(""),
    };
    let http = Http::to("up").hcm("http_protocol_options: {enable_trailers: true}");
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[origin.address()], &cluster))
}

/// A streamed exchange with trailers both ways: those that the origin saw and those that came back.
fn exchange_with_trailers(proxy: &Proxy, origin: &Origin, down: Version) -> (Seen, Got) {
    let question = Question {
        method: "POST",
        path: "/".into(),
        fields: vec![("te", "trailers".into())],
        body: Body::Streamed(vec![b"part".to_vec()]),
        trailers: vec![("x-sum", "1".into()), ("x-other", "2".into())],
    };
    let got = Caller::connect(down, proxy.listener("main")).ask(&question).expect("an answer");
    (origin.requests().remove(0), got)
}

fn trailing_origin(up: Version) -> Origin {
    Origin::start(up, |_| Answer {
        status: 200,
        body: Body::Streamed(vec![b"part".to_vec(), b"two".to_vec()]),
        trailers: vec![("x-result", "good".into()), ("grpc-status", "0".into())],
        ..Answer::default()
    })
}

fn trailers(subject: &Subject) {
    for (down, up) in PAIRS {
        let origin = trailing_origin(up);
        let proxy = with_trailers(subject, &origin, up);
        let (seen, got) = exchange_with_trailers(&proxy, &origin, down);
        assert_eq!(
            (seen.trailers.get("x-sum"), seen.trailers.get("x-other")),
            (Some("1"), Some("2")),
            "{down:?} to {up:?}"
        );
        assert_eq!((seen.body, got.body), (b"part".to_vec(), b"parttwo".to_vec()), "{down:?} to {up:?}");
        assert_eq!(got.trailers.get("x-result"), Some("good"), "{down:?} to {up:?}");
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// HTTP/1.1 gets no trailers unless it is asked to, and the message is whole without them.
fn trailers_need_configuration_in_http1(subject: &Subject) {
    for (down, up) in [(Http2, Http1), (Http1, Http2)] {
        let origin = trailing_origin(up);
        let proxy = start(subject, &origin, "");
        let (seen, got) = exchange_with_trailers(&proxy, &origin, down);
        assert_eq!((seen.body, got.body), (b"part".to_vec(), b"parttwo".to_vec()), "{down:?} to {up:?}");
        assert_eq!(
            (seen.trailers.has("x-sum"), got.trailers.has("x-result")),
            (false, false),
            "{down:?} to {up:?}"
        );
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

fn large_bodies(subject: &Subject) {
    let bytes = Rng::new(5).bytes(8 << 20);
    let hash = BodyHash::of(&bytes).hex();
    for (down, up) in PAIRS {
        let origin = Origin::start(up, |seen| {
            let fields = vec![("x-hash", BodyHash::of(&seen.body).hex())];
            let body = match seen.path.as_str() {
                "/length" => Body::Length(seen.body.clone()),
                _ => Body::Streamed(seen.body.chunks(100_000).map(<[u8]>::to_vec).collect()),
            };
            Answer { status: 200, fields, body, ..Answer::default() }
        });
        let proxy = start(subject, &origin, "");
        let mut caller = Caller::connect(down, proxy.listener("main"));
        for path in ["/length", "/streamed"] {
            let body = match path {
                "/length" => Body::Length(bytes.clone()),
                _ => Body::Streamed(bytes.chunks(70_001).map(<[u8]>::to_vec).collect()),
            };
            let question = Question { method: "POST", path: path.into(), body, ..Question::default() };
            let got = caller.ask(&question).expect("an answer");
            assert_eq!(
                (got.status, got.fields.get("x-hash")),
                (200, Some(&hash[..])),
                "{down:?} to {up:?} {path}"
            );
            assert_eq!(BodyHash::of(&got.body).hex(), hash, "{down:?} to {up:?} {path}");
        }
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// Many heads with fields that repeat, change and grow: the tables of HPACK stay in step on both sides.
fn heads_of_every_shape_on_one_connection(subject: &Subject) {
    for (down, up) in PAIRS {
        let origin = Origin::start(up, |seen| Answer {
            status: 200,
            fields: vec![
                ("x-back", seen.fields.get("x-value").unwrap_or("?").to_owned()),
                ("x-path", seen.path.clone()),
            ],
            ..Answer::default()
        });
        let proxy = start(subject, &origin, "");
        let mut caller = Caller::connect(down, proxy.listener("main"));
        let mut rng = Rng::new(9);
        for n in 0..300 {
            let length = usize::try_from(rng.between(0, if n % 10 == 0 { 6000 } else { 80 })).unwrap_or(0);
            let value: String = rng.bytes(length).iter().map(|b| char::from(b'!' + b % 90)).collect();
            let mut fields = vec![("x-value", value.clone()), ("x-fixed", "the same".into())];
            if rng.one_in(3) {
                fields.push(("x-rare", n.to_string()));
            }
            let question =
                Question { method: "GET", path: format!("/{}", n % 7), fields, ..Question::default() };
            let got = caller.ask(&question).expect("an answer");
            let back = (got.fields.get("x-back"), got.fields.get("x-path"));
            assert_eq!(back, (Some(&value[..]), Some(&question.path[..])), "{down:?} to {up:?} {n}");
        }
        assert!(origin.violations().is_empty(), "{:?}", origin.violations());
    }
}

/// `use_downstream_protocol_config`: the cluster speaks whatever the client does.
fn use_downstream_protocol(subject: &Subject) {
    let fields = "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}";
    for version in [Http1, Http2] {
        let origin = Origin::start(version, |_| Answer { status: 200, ..Answer::default() });
        let cluster = protocol_options(fields);
        let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[origin.address()], &cluster);
        let proxy = Proxy::start(subject, &bootstrap);
        let question = Question { method: "GET", path: "/".into(), ..Question::default() };
        let got = Caller::connect(version, proxy.listener("main")).ask(&question).expect("an answer");
        assert_eq!(got.status, 200, "{version:?}");
        assert!(origin.violations().is_empty(), "{version:?}: {:?}", origin.violations());
    }
}
