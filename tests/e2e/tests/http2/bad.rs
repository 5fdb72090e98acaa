//! Malformed requests beside a live neighbour: the one is refused, the other is served, and the upstream learns nothing
//! that could be read in two ways. Vectors of our own for every class, and the corpus h2-bad-requests.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Origin, Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::code;
use millrace_support::h2::{Client, Lost};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use serde_json::Value;

use super::vectors::{BASE, VECTORS};

pub(crate) const CASES: &[Case] = &[
    case!(own_vectors_to_http1),
    case!(own_vectors_to_http2),
    case!(corpus_to_http1),
    case!(corpus_to_http2),
];

/// What is due to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// RST_STREAM with PROTOCOL_ERROR or a status of 4xx, and no complete request upstream.
    Refused,
    /// 200.
    Served,
    /// Either of them.
    Either,
}

/// A request to send.
#[derive(Clone, Debug)]
struct Request {
    id: String,
    due: Due,
    fields: Vec<(String, String)>,
    body: Option<String>,
    trailers: Vec<(String, String)>,
    /// Whether the last frame has END_STREAM.
    ends: bool,
}

/// Requests of one connection: fewer than a limit of resets may tell from an attack.
const PER_CONNECTION: usize = 20;

/// What Envoy 1.40 does differently even with `override_stream_error_on_invalid_http_message`.
const ENVOY_DIFFERS: &[&str] = &[
    "octet above ASCII in the path",
    "list in the authority",
    "host against the authority",
    "space before a value",
    "space behind a value",
    "tab before a value",
    "tab behind a value",
    "PATH-HIGH",
    "METHOD-LOWER",
    "AUTH-HOST-MISMATCH",
    "HVAL-TRAIL-SP",
    "CL-UNDERSCORE",
];

fn own() -> Vec<Request> {
    let apply = |edits: &[(&str, &str)]| {
        let mut fields: Vec<(String, String)> =
            BASE.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        for (name, value) in edits {
            let at = |name: &str| fields.iter().position(|(n, _)| n == name);
            match (name.strip_prefix('-'), name.strip_prefix('+'), at(name)) {
                (Some(gone), _, _) => fields.retain(|(n, _)| n != gone),
                (_, Some(more), _) => fields.push((more.into(), (*value).into())),
                (_, _, Some(at)) => fields[at].1 = (*value).into(),
                _ => fields.push(((*name).into(), (*value).into())),
            }
        }
        fields
    };
    let vectors = VECTORS.iter().map(|v| Request {
        id: v.id.into(),
        due: v.due,
        fields: apply(v.edits),
        body: v.body.map(str::to_owned),
        trailers: v.trailers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        ends: true,
    });
    vectors.collect()
}

/// Our verdicts on the corpus; `None` where it is absent.
fn corpus() -> Option<Vec<Request>> {
    let folder = millrace_conformance::corpus("h2-bad-requests")?;
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("verdicts/h2-bad-requests.tsv");
    let table = std::fs::read_to_string(table).expect("the table of verdicts");
    let mut verdicts: BTreeMap<&str, &str> = table.lines().filter_map(|l| l.split_once('\t')).collect();
    let text = std::fs::read_to_string(folder.join("cases.jsonl")).expect("the corpus");
    let pairs = |value: &Value| -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        value.as_array().into_iter().flatten().map(|p| (text(&p[0]), text(&p[1]))).collect()
    };
    let mut all = Vec::new();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let id = case["id"].as_str().unwrap_or_default();
        let verdict = verdicts.remove(id).and_then(|v| v.split('\t').next());
        let due = match verdict {
            Some("refused") => Due::Refused,
            Some("served") => Due::Served,
            other => unreachable!("no verdict on {id}: {other:?}"),
        };
        // A difference from what the corpus demands would need a reason; there is none.
        let wanted = case["expect"].as_str().unwrap_or_default();
        assert!(wanted != "malformed" || due == Due::Refused, "{id}");
        assert!(wanted != "accept" || due == Due::Served, "{id}");
        let trailers = pairs(&case["trailers"]);
        let ends = if trailers.is_empty() { &case["end_stream"] } else { &case["trailers_end"] };
        all.push(Request {
            id: id.to_owned(),
            due,
            fields: pairs(&case["headers"]),
            body: case["body"].as_str().map(str::to_owned),
            trailers,
            ends: ends.as_bool().unwrap_or(true),
        });
    }
    assert!(verdicts.is_empty(), "no such cases: {verdicts:?}");
    Some(all)
}

fn send(client: &mut Client, request: &Request) -> u32 {
    let last = |more: bool| request.ends && !more;
    let has_trailers = !request.trailers.is_empty();
    let id = client.open(&request.fields, last(request.body.is_some() || has_trailers));
    if let Some(body) = &request.body {
        client.session().data(id, body.as_bytes(), last(has_trailers));
    }
    if has_trailers {
        client.session().headers(id, &request.trailers, request.ends);
    }
    id
}

/// One request beside its neighbour; says what is wrong about it.
fn judge(client: &mut Client, origin: &Origin, request: &Request) -> Option<String> {
    let (before, violations) = (origin.requests().len(), origin.violations().len());
    let neighbour = client.head("POST", "/neighbour", &[], false);
    let id = send(client, request);
    let verdict = client.response(id);
    let shown = match &verdict {
        Ok(response) => response.status.to_string(),
        Err(lost) => format!("{lost:?}"),
    };
    client.body(neighbour, b"end", true);
    let beside = client.response(neighbour).map(|r| r.status);
    let refused = matches!(&verdict, Ok(r) if (400..500).contains(&r.status))
        || matches!(verdict, Err(Lost::Reset(code::PROTOCOL_ERROR, _)));
    let served = matches!(&verdict, Ok(r) if r.status == 200);
    // A head that declares no octets is complete for HTTP/1.1 before the DATA that belies it has come: it may be answered.
    let empty = request.fields.iter().any(|(n, v)| n == "content-length" && v == "0");
    // Well-formed, but no route matches it, as in Envoy.
    let star = matches!(&verdict, Ok(r) if r.status == 404) && request.id == "OK-OPTIONS-STAR";
    let right = match request.due {
        Due::Served if star => true,
        Due::Refused => refused || (empty && served),
        Due::Served => served,
        Due::Either => refused || served,
    };
    let arrived = origin.requests().len() - before - usize::from(beside == Ok(200));
    let mut wrong = Vec::new();
    if !right {
        wrong.push(format!("{:?} is due, got {shown}", request.due));
    }
    if beside != Ok(200) {
        wrong.push(format!("the neighbour got {beside:?}"));
    }
    if arrived != usize::from(served) && !(empty && arrived == 1) {
        wrong.push(format!("{arrived} requests reached the upstream"));
    }
    wrong.extend(origin.violations().into_iter().skip(violations));
    (!wrong.is_empty()).then(|| format!("{}: {}", request.id, wrong.join("; ")))
}

#[track_caller]
fn replay(subject: &Subject, up: Version, requests: &[Request]) {
    let origin = Origin::start(up, |_| Answer { status: 200, ..Answer::default() });
    let cluster = if up == Version::Http2 { http2_cluster("") } else { String::new() };
    // Our default; Envoy's is to end the connection.
    let hcm = "http2_protocol_options: {override_stream_error_on_invalid_http_message: true}";
    let http = Http::to("up").hcm(if subject.is_envoy() { hcm } else { "" });
    let proxy =
        Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[origin.address()], &cluster));
    let mut wrong = Vec::new();
    for group in requests.chunks(PER_CONNECTION) {
        let mut client = Client::connect(proxy.listener("main"));
        for request in group {
            if let Some(fault) = judge(&mut client, &origin, request) {
                wrong.push(fault);
                client = Client::connect(proxy.listener("main"));
            }
        }
        wrong.extend(client.session().faults.iter().map(|fault| format!("the proxy: {fault}")));
    }
    wrong.retain(|fault| {
        !(subject.is_envoy() && ENVOY_DIFFERS.iter().any(|id| fault.starts_with(&format!("{id}:"))))
    });
    assert!(wrong.is_empty(), "{} of {} requests:\n{}", wrong.len(), requests.len(), wrong.join("\n"));
    println!("{} requests beside a neighbour", requests.len());
}

fn own_vectors_to_http1(subject: &Subject) {
    replay(subject, Version::Http1, &own());
}

fn own_vectors_to_http2(subject: &Subject) {
    replay(subject, Version::Http2, &own());
}

fn corpus_to_http1(subject: &Subject) {
    corpus().iter().for_each(|requests| replay(subject, Version::Http1, requests));
}

fn corpus_to_http2(subject: &Subject) {
    corpus().iter().for_each(|requests| replay(subject, Version::Http2, requests));
}
