//! Raw responses of connectrpc's conformance suite sent through the gRPC filters: a client behind them must be able to
//! see what a client of the server itself sees.

use std::sync::Arc;

use millrace_base::{ResponseFlags, Rng, StreamState, Time, WallTime};
use millrace_config::format::Template;
use millrace_config::{HttpConnectionManager, NetworkFilter};
use millrace_conformance::corpus;
use millrace_filter::http::custom_response::{Restart, Restarted};
use millrace_filter::http::grpc::status::http_to_grpc_status;
use millrace_filter::http::router::Render;
use millrace_filter::http::stream_filters::{
    ConnectionFilters, Env, ResponseEnv, ShardFilters, Start, StreamFilters, Verdict,
};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml, yaml};
use millrace_translate::{Context, Overrides};
use serde_json::Value;

const SUITES: &str = "grpc/connect-conformance/internal/app/connectconformance/testsuites/data";

/// What a server answers, and what the suite expects a client to make of it.
#[derive(Debug)]
struct Raw {
    name: String,
    status: u16,
    headers: Vec<(String, String)>,
    /// Flags and payload of each frame.
    frames: Vec<(u8, Vec<u8>)>,
    trailers: Vec<(String, String)>,
    code: Option<String>,
}

impl Raw {
    fn body(&self) -> Vec<u8> {
        let frame = |(flags, payload): &(u8, Vec<u8>)| {
            let mut out = vec![*flags];
            out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            out.extend_from_slice(payload);
            out
        };
        self.frames.iter().flat_map(frame).collect()
    }
}

fn field<'v>(value: &'v Value, snake: &str, camel: &str) -> &'v Value {
    if value[snake].is_null() { &value[camel] } else { &value[snake] }
}

fn pairs(list: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for entry in list.as_array().into_iter().flatten() {
        let name = entry["name"].as_str().expect("a name").to_ascii_lowercase();
        let values = entry["value"].as_array().expect("values").iter().map(|v| v.as_str().expect("a text"));
        out.extend(values.map(|value| (name.clone(), value.to_owned())));
    }
    out
}

/// The payload's own octets where the suite spells them out; its description stands for an encoded message.
fn payload(value: &Value) -> Vec<u8> {
    match value["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => value.to_string().into_bytes(),
    }
}

fn raw(suite: &Value) -> Vec<Raw> {
    let mut out = Vec::new();
    for case in suite["testCases"].as_array().expect("cases") {
        let request = &case["request"];
        let definition = field(&request["requestMessages"][0], "responseDefinition", "response_definition");
        let response = field(definition, "rawResponse", "raw_response");
        if response.is_null() {
            continue;
        }
        let items = response["stream"]["items"].as_array().into_iter().flatten();
        let code = &field(case, "expectedResponse", "expected_response")["error"]["code"];
        out.push(Raw {
            name: request["testName"].as_str().expect("a name").to_owned(),
            status: field(response, "status_code", "statusCode").as_u64().unwrap_or(200) as u16,
            headers: pairs(&response["headers"]),
            frames: items
                .map(|item| (item["flags"].as_u64().unwrap_or(0) as u8, payload(&item["payload"])))
                .collect(),
            trailers: pairs(&response["trailers"]),
            code: code.as_str().map(str::to_owned).or_else(|| code.as_u64().map(|code| code.to_string())),
        });
    }
    out
}

/// The raw responses of a suite; `None` without the corpora.
fn suite(name: &str) -> Option<Vec<Raw>> {
    let file = corpus(SUITES)?.join(name);
    let text = std::fs::read_to_string(file).expect("a suite");
    Some(raw(&yaml::parse(&text).expect("YAML")))
}

/// A connection manager whose chain is one filter and the router, as a configuration makes it.
fn manager(filter: &str) -> Arc<HttpConnectionManager> {
    let types = "type.googleapis.com/envoy.extensions.filters";
    let text = format!(
        "static_resources: {{listeners: [{{name: l, address: {{pipe: {{path: /x}}}}, filter_chains: [{{filters: [{{name: h, \
         typed_config: {{'@type': {types}.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, \
         route_config: {{}}, http_filters: [{{name: f, typed_config: {{'@type': {types}.http.{filter}}}}}, \
         {{name: r, typed_config: {{'@type': {types}.http.router.v3.Router}}}}]}}}}]}}]}}]}}"
    );
    let parsed = bootstrap_from_yaml(&text, &LoadOptions::default()).expect("a bootstrap");
    let mut cx = Context::new(Registry::new(), Overrides::default());
    let compiled = millrace_translate::bootstrap(&parsed.bytes, &mut cx).expect("served");
    let hcm = match &compiled.snapshot.listeners[0].filter_chains[0].filters[0] {
        NetworkFilter::HttpConnectionManager(hcm) => Some(Arc::clone(hcm)),
        NetworkFilter::TcpProxy(_) => None,
    };
    hcm.expect("a connection manager")
}

fn map(fields: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name.as_bytes(), value.as_bytes());
    }
    map
}

fn list(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a text");
    map.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// None of these filters has any.
struct NoTemplates;

impl Render for NoTemplates {
    fn render(&self, _: &Template, _: &RequestHead, _: Option<&ResponseHead>, _: &mut Vec<u8>) {}
}

fn begin(start: &Start<'_>, head: &mut RequestHead) -> Box<StreamFilters> {
    let mut slot = None;
    let mut env = Env {
        now: Time::ZERO,
        wall: WallTime::default(),
        rng: &mut Rng::new(1),
        stats: &mut Registry::new().attach_shard("worker_0"),
        render: &NoTemplates,
        scratch: &mut Vec::new(),
        connection: &mut ConnectionFilters::default(),
        flags: &mut ResponseFlags::default(),
        shard: &mut ShardFilters::default(),
        state: &StreamState::default(),
        connection_state: None,
        names: &mut millrace_filter::http::forward_proxy::NoHosts,
    };
    assert_eq!(StreamFilters::begin(&mut slot, start, &mut env, head), Verdict::Continue);
    slot.expect("something to do")
}

struct NoRedirects;

impl Restart for NoRedirects {
    fn may_restart(&mut self, _head: &RequestHead) -> Restarted {
        Restarted::TooEarly
    }
}

/// Sends a response through the filters in pieces of `piece` octets, as their documentation says; what comes out.
fn send(
    raw: &Raw,
    hcm: &HttpConnectionManager,
    request: &[(&str, &str)],
    piece: usize,
) -> (ResponseHead, Vec<u8>, HeaderMap) {
    let mut asked = RequestHead::new();
    asked.set_method(b"POST");
    asked.set_path(b"/connectrpc.conformance.v1.ConformanceService/Unary");
    request.iter().for_each(|(name, value)| _ = asked.headers.append(name.as_bytes(), value.as_bytes()));
    let start = Start { buffer_limit: 1 << 20, ..Start::of(hcm, None) };
    let mut filters = begin(&start, &mut asked);
    let mut scratch = Vec::new();
    let mut env = ResponseEnv {
        start: &start,
        request: &asked,
        render: &NoTemplates,
        scratch: &mut scratch,
        now: Time::ZERO,
        stats: &mut Registry::new().attach_shard("worker_0"),
        upstream: None,
        flags: ResponseFlags::default(),
        wall: WallTime::default(),
        shard: &mut ShardFilters::default(),
        state: &StreamState::default(),
        local_reply: false,
        redirected: None,
        restart: &mut NoRedirects,
    };
    let mut head = ResponseHead::new();
    head.status = raw.status;
    head.headers = map(&raw.headers);
    let (body, mut trailers, mut out) = (raw.body(), map(&raw.trailers), Vec::new());
    let headers_only = body.is_empty() && trailers.is_empty();
    filters.response_head(&mut head, headers_only, &mut env);
    let pieces: Vec<&[u8]> = body.chunks(piece).collect();
    for (at, data) in pieces.iter().enumerate() {
        let end = at + 1 == pieces.len() && trailers.is_empty();
        filters.response_data(data, end, &mut head, &mut trailers, &mut out, &mut env).expect("small");
    }
    if !trailers.is_empty() {
        filters.response_trailers(&mut trailers, &mut head, &mut out, &mut env).expect("small");
    }
    assert!(!filters.holds_response(), "{}", raw.name);
    (head, out, trailers)
}

/// Frames of a gRPC-Web body, the trailers among them.
fn web_frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = body {
        let (payload, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        out.push((*flags, payload.to_vec()));
        body = rest;
    }
    assert!(body.is_empty(), "whole frames");
    out
}

/// As a client decodes it: group by group, padding anywhere.
fn base64(text: &[u8]) -> Vec<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for group in text.chunks(4) {
        let value = |letter: &u8| letters.iter().position(|l| l == letter).unwrap_or(0) as u32;
        let bits = group.iter().fold(0, |bits, letter| bits << 6 | value(letter));
        let padding = group.iter().filter(|letter| **letter == b'=').count();
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    out
}

const GRPC_SUITES: [&str; 4] = [
    "grpc_client_trailers.yaml",
    "grpc_client_empty.yaml",
    "grpc_client_unexpected.yaml",
    "grpc_client_proto_subformat.yaml",
];

#[test]
fn grpc_web_loses_nothing_of_grpc() {
    let hcm = manager("grpc_web.v3.GrpcWeb");
    let text = [("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")];
    let mut count = 0;
    for raw in GRPC_SUITES.iter().filter_map(|name| suite(name)).flatten() {
        let is_grpc =
            raw.headers.iter().any(|(n, v)| n == "content-type" && v.starts_with("application/grpc"));
        let ends_with_head = raw.frames.is_empty() && raw.trailers.is_empty();
        if !is_grpc && !ends_with_head {
            continue;
        }
        for (request, piece) in
            [(&text[..], 1), (&text[..], 4096), (&[("content-type", "application/grpc-web")][..], 3)]
        {
            let (head, out, left) = send(&raw, &hcm, request, piece);
            assert!(left.is_empty() || ends_with_head, "{}", raw.name);
            let body = if request.len() == 2 { base64(&out) } else { out };
            let mut frames = web_frames(&body);
            if !raw.trailers.is_empty() {
                let (flags, trailers) = frames.pop().expect("trailers");
                let lines = raw.trailers.iter().map(|(name, value)| format!("{name}:{value}\r\n"));
                assert_eq!((flags, trailers), (0x80, lines.collect::<String>().into_bytes()), "{}", raw.name);
            }
            assert_eq!(frames, raw.frames, "{}", raw.name);
            let others = |fields: Vec<(String, String)>| {
                fields.into_iter().filter(|(name, _)| name != "content-type").collect::<Vec<_>>()
            };
            assert_eq!(others(list(&head.headers)), others(list(&map(&raw.headers))), "{}", raw.name);
            assert_eq!(head.status, raw.status);
            count += 1;
        }
    }
    println!("grpc: {count} responses as gRPC-Web");
}

#[test]
fn a_bridged_client_sees_the_status_in_the_head() {
    let hcm = manager("grpc_http1_bridge.v3.Config");
    let mut count = 0;
    for raw in GRPC_SUITES.iter().filter_map(|name| suite(name)).flatten().filter(|r| !r.trailers.is_empty())
    {
        let (head, out, _) = send(&raw, &hcm, &[("content-type", "application/grpc")], 7);
        let status = raw.trailers.iter().find(|(name, _)| name == "grpc-status").map(|(_, value)| value);
        let shown = head.headers.get_name(b"grpc-status").map(|v| String::from_utf8_lossy(v).into_owned());
        if let Some(status) = status {
            assert_eq!(shown.as_ref(), Some(status), "{}", raw.name);
            assert_eq!(head.status, if status == "0" { raw.status } else { 503 }, "{}", raw.name);
        }
        assert_eq!(out, raw.body(), "{}", raw.name);
        let length = out.len().to_string();
        assert_eq!(head.headers.get_name(b"content-length"), Some(length.as_bytes()), "{}", raw.name);
        count += 1;
    }
    println!("grpc: {count} responses bridged");
}

#[test]
fn grpc_web_of_a_server_passes_unchanged() {
    let hcm = manager("grpc_web.v3.GrpcWeb");
    let names = [
        "grpc_web_client_trailers.yaml",
        "grpc_web_client_empty.yaml",
        "grpc_web_client_proto_subformat.yaml",
    ];
    let mut count = 0;
    for raw in names.iter().filter_map(|name| suite(name)).flatten() {
        let web = |(name, value): &(String, String)| {
            name == "content-type"
                && matches!(value.as_str(), "application/grpc-web" | "application/grpc-web+proto")
        };
        if !raw.headers.iter().any(web) || raw.status != 200 {
            continue;
        }
        let (head, out, _) = send(&raw, &hcm, &[("content-type", "application/grpc-web+proto")], 5);
        assert_eq!((head.status, out), (200, raw.body()), "{}", raw.name);
        count += 1;
    }
    println!("grpc: {count} responses that are gRPC-Web already");
}

#[test]
fn http_statuses_mean_what_clients_take_them_for() {
    const CODES: [&str; 17] = [
        "OK",
        "CANCELED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let Some(cases) = suite("client_http_to_rpc_code.yaml") else { return };
    for raw in &cases {
        let code = raw.code.as_deref().expect("a code");
        let name = code.strip_prefix("CODE_").expect("a name");
        let number = CODES.iter().position(|known| *known == name).expect("a known code");
        assert_eq!(http_to_grpc_status(raw.status), number.to_string(), "{}", raw.name);
    }
    println!("grpc: {} HTTP statuses", cases.len());
}
