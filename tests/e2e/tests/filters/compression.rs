//! The filter `compressor`.

use millrace_compression::{Compressor, Decompressor};
use millrace_config::{
    BrotliCompressor, BrotliMode, CompressorLibrary, DecompressorLibrary, GzipCompressor, GzipStrategy,
    ZstdCompressor,
};
use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Body, Caller, Origin, Question, Version};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::message::Response;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Upstream};

use super::{DIRECT, FORWARD, chain, rest, route, start};

pub(crate) const CASES: &[Case] = &[
    case!(every_coding_over_every_version),
    case!(what_is_left_alone),
    case!(the_client_chooses),
    case!(etags),
    case!(the_status_header),
    case!(routes),
    case!(a_library_of_the_route, not_envoy: "1.40 names the route's coding and sends the filter's"),
    case!(requests),
    case!(events_do_not_stall),
    case!(events_of_zstd_do_not_stall, not_envoy: "1.40 keeps them until the end"),
    case!(local_replies),
    case!(trailers_follow),
    case!(counters),
];

const KIND: &str = "compressor.v3.Compressor";
const PER_ROUTE: &str = "compressor.v3.CompressorPerRoute";
const GZIP: &str = "gzip.compressor.v3.Gzip";
const BROTLI: &str = "brotli.compressor.v3.Brotli";
const ZSTD: &str = "zstd.compressor.v3.Zstd";

/// `compressor_library` or `decompressor_library`, called `lib`.
pub(super) fn library(field: &str, kind: &str) -> String {
    format!(
        "{field}: {{name: lib, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.compression.{kind}}}}}"
    )
}

fn gzip(more: &str) -> String {
    format!("{}{more}", library("compressor_library", GZIP))
}

/// Compresses as Envoy does by default.
pub(super) fn packed(coding: &str, data: &[u8]) -> Vec<u8> {
    let library = match coding {
        "gzip" => CompressorLibrary::Gzip(GzipCompressor {
            memory_level: 5,
            level: None,
            strategy: GzipStrategy::Default,
            window_bits: 12,
        }),
        "br" => CompressorLibrary::Brotli(BrotliCompressor {
            quality: 3,
            mode: BrotliMode::Generic,
            window_bits: 18,
            block_bits: 24,
            no_literal_context: false,
        }),
        _ => CompressorLibrary::Zstd(ZstdCompressor {
            level: 3,
            checksum: false,
            strategy: 0,
            dictionary: None,
        }),
    };
    let (mut compressor, mut out) = (Compressor::new(&library).expect("memory"), Vec::new());
    compressor.compress(data, true, &mut out);
    out
}

fn unpacker(coding: &str) -> Decompressor {
    let library = match coding {
        "gzip" => DecompressorLibrary::Gzip { window_bits: 15, max_inflate_ratio: 1032 },
        "br" => DecompressorLibrary::Brotli,
        _ => DecompressorLibrary::Zstd { dictionaries: Vec::new() },
    };
    Decompressor::new(&library).expect("memory")
}

/// What a body was before it was compressed.
#[track_caller]
pub(super) fn unpacked(coding: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    unpacker(coding).decompress(data, true, &mut out).expect("a whole body");
    out
}

pub(super) fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("line {n}, {} of a text\n", n * 7919 % 1000).into_bytes()).collect()
}

/// An upstream whose answer has these fields and a body of 100 letters; the query adds fields and `status`.
fn letters() -> Upstream {
    Upstream::start(|request| {
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let mut pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let status =
            pairs.iter().find(|(name, _)| *name == "status").map_or(200, |(_, s)| s.parse().unwrap_or(0));
        let length = pairs.iter().find(|(name, _)| *name == "n").map_or(100, |(_, n)| n.parse().unwrap_or(0));
        pairs.retain(|(name, _)| !matches!(*name, "status" | "n"));
        let saw = request.fields.get("accept-encoding").unwrap_or("nothing");
        pairs.push(("x-saw", saw));
        let body = if request.method == "HEAD" { 0 } else { length };
        let mut reply = Reply::with(status, &pairs, &vec![b'a'; body]);
        if request.method == "HEAD"
            && let Some(Step::Send(bytes)) = reply.steps.first_mut()
        {
            let head = String::from_utf8_lossy(bytes).replace("content-length: 0", "content-length: 100");
            *bytes = head.into_bytes();
        }
        reply
    })
}

fn coding(response: &Response) -> &str {
    response.get("content-encoding").unwrap_or("-")
}

fn every_coding_over_every_version(subject: &Subject) {
    let text = text(15_000);
    for version in [Version::Http1, Version::Http2] {
        let answer = Answer {
            status: 200,
            fields: vec![("content-type", "text/plain".into())],
            body: Body::Length(text.clone()),
            ..Answer::default()
        };
        let origin = Origin::start(version, move |_| answer.clone());
        let filters = [GZIP, BROTLI, ZSTD].map(|kind| library("compressor_library", kind));
        let filters: Vec<_> = filters.iter().map(|fields| ("c", KIND, fields.as_str())).collect();
        let cluster = match version {
            Version::Http1 => String::new(),
            Version::Http2 => millrace_support::any::http2_cluster(""),
        };
        let bootstrap = Bootstrap::new().http(Http::to("up").hcm(&chain(&filters))).cluster(
            "up",
            &[origin.address()],
            &cluster,
        );
        let proxy = Proxy::start(subject, &bootstrap);
        for client in [Version::Http1, Version::Http2] {
            for coding in ["gzip", "br", "zstd"] {
                let fields = vec![("accept-encoding", coding.to_owned())];
                let question = Question { method: "GET", path: "/".into(), fields, ..Question::default() };
                let got = Caller::connect(client, proxy.listener("main")).ask(&question).expect("an answer");
                let of = |name| got.fields.get(name);
                assert_eq!(
                    (got.status, of("content-encoding")),
                    (200, Some(coding)),
                    "{version:?} {client:?}"
                );
                assert_eq!((of("vary"), of("content-length")), (Some("Accept-Encoding"), None));
                assert!(got.body.len() < text.len() / 2, "{coding}: {}", got.body.len());
                assert!(unpacked(coding, &got.body) == text, "{version:?} {client:?} {coding}");
            }
        }
        assert!(origin.violations().is_empty());
    }
}

fn what_is_left_alone(subject: &Subject) {
    let fields = gzip(
        ", response_direction_config: {uncompressible_response_codes: [206], common_config: {min_content_length: 50, content_type_matcher: [{prefix: text/}, {exact: application/y}]}}",
    );
    let upstream = letters();
    let proxy = start(subject, &[("c", KIND, &fields)], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    for (target, expected, vary) in [
        ("/?content-type=text/plain", "gzip", true),
        ("/?content-type=text/plain;charset=x", "gzip", true),
        ("/?content-type=application/y;v=1", "gzip", true),
        ("/", "gzip", true),
        ("/?content-type=TEXT/plain", "-", false),
        ("/?content-type=image/png", "-", false),
        ("/?content-type=text/plain&n=49", "-", false),
        ("/?content-type=text/plain&n=50", "gzip", true),
        ("/?content-type=text/plain&status=206", "-", false),
        ("/?content-type=text/plain&cache-control=private,no-transform", "-", false),
        ("/?content-encoding=x", "x", false),
        ("/?status=204", "-", true),
    ] {
        let response = client.get_with(target, &[("accept-encoding", "gzip")]);
        assert_eq!((coding(&response), response.get("vary").is_some()), (expected, vary), "{target}");
        if expected == "gzip" {
            assert!(unpacked("gzip", &response.body).iter().all(|b| *b == b'a'), "{target}");
        }
    }
    // Nobody asked; a cache must know all the same.
    let plain = client.get("/?vary=Origin");
    assert_eq!((coding(&plain), plain.get("vary")), ("-", Some("Origin, Accept-Encoding")));
    let head = client.exchange("HEAD", "/", &[("accept-encoding", "gzip")], b"");
    assert_eq!((coding(&head), head.get("content-length")), ("-", Some("100")));
}

fn the_client_chooses(subject: &Subject) {
    let upstream = letters();
    for (first, cases) in [
        (
            "",
            &[
                ("gzip, br", "gzip"),
                ("br, gzip", "br"),
                ("gzip;q=0.5, br;q=0.6", "br"),
                ("gzip;q=0, *", "br"),
                ("*", "gzip"),
                ("identity, gzip;q=0.5", "-"),
                ("zstd", "-"),
                ("gzip;q=0", "-"),
                ("gzip;q=x, br;q=0.1", "br"),
            ][..],
        ),
        (", choose_first: true", &[("gzip, br", "br"), ("gzip, br;q=0.9", "gzip")]),
    ] {
        let brotli = format!("{}{first}", library("compressor_library", BROTLI));
        let filters = [("g", KIND, &*gzip("")), ("b", KIND, &*brotli)];
        let proxy = start(subject, &filters, &rest(FORWARD), &upstream);
        let mut client = proxy.client();
        for (accept, expected) in cases {
            let response = client.get_with("/", &[("accept-encoding", accept)]);
            assert_eq!(coding(&response), *expected, "{accept}{first}");
            assert_eq!(response.get("x-saw"), Some(*accept));
        }
    }
}

fn etags(subject: &Subject) {
    let upstream = letters();
    for (config, strong, weak) in [
        ("", ("gzip", None), ("gzip", Some("W/\"x\""))),
        ("disable_on_etag_header: true", ("-", Some("\"x\"")), ("-", Some("W/\"x\""))),
        (
            "disable_on_etag_header: true, weaken_etag_on_compress: true",
            ("gzip", Some("W/\"x\"")),
            ("gzip", Some("W/\"x\"")),
        ),
    ] {
        let fields = gzip(&format!(", response_direction_config: {{{config}}}"));
        let proxy = start(subject, &[("c", KIND, &fields)], &rest(FORWARD), &upstream);
        let mut client = proxy.client();
        for (target, expected) in [("/?etag=\"x\"", strong), ("/?etag=W/\"x\"", weak)] {
            let response = client.get_with(target, &[("accept-encoding", "gzip")]);
            assert_eq!((coding(&response), response.get("etag")), expected, "{config} {target}");
        }
    }
}

fn the_status_header(subject: &Subject) {
    let config = ", response_direction_config: {status_header_enabled: true, disable_on_etag_header: true, uncompressible_response_codes: [404], common_config: {content_type: [text/plain]}}";
    let upstream = letters();
    let filters = [
        ("g", KIND, &*gzip(config)),
        ("b", KIND, &*format!("{}{config}", library("compressor_library", BROTLI))),
    ];
    let proxy = start(subject, &filters, &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    for (target, accept, expected) in [
        ("/", "gzip", Some("gzip;Compressed;OriginalLength=100")),
        ("/", "br", Some("br;Compressed;OriginalLength=100")),
        ("/", "zstd", None),
        ("/?n=20", "gzip", Some("br;ContentLengthTooSmall,gzip;ContentLengthTooSmall")),
        ("/?n=20&status=404", "gzip", Some("br;ContentLengthTooSmall,gzip;ContentLengthTooSmall")),
        (
            "/?content-type=image/png&status=404",
            "gzip",
            Some("br;ContentTypeNotAllowed,gzip;ContentTypeNotAllowed"),
        ),
        ("/?etag=\"x\"&status=404", "gzip", Some("br;EtagNotAllowed,gzip;EtagNotAllowed")),
        ("/?status=404", "gzip", Some("br;StatusCodeNotAllowed,gzip;StatusCodeNotAllowed")),
        ("/?cache-control=no-transform", "gzip", None),
    ] {
        let response = client.get_with(target, &[("accept-encoding", accept)]);
        let told = response.fields.all("x-envoy-compression-status").join(",");
        assert_eq!(told, expected.unwrap_or_default(), "{target} {accept}");
    }
}

fn routes(subject: &Subject) {
    let remove = "overrides: {response_direction_config: {remove_accept_encoding_header: true}}";
    let routes = [
        route("/off", FORWARD, "c", PER_ROUTE, "disabled: true"),
        route("/on", FORWARD, "o", PER_ROUTE, remove),
        rest(FORWARD),
    ]
    .concat();
    let off = gzip(
        ", response_direction_config: {common_config: {enabled: {default_value: false, runtime_key: x}}}",
    );
    let upstream = letters();
    let filters = [("c", KIND, &*gzip(", remove_accept_encoding_header: true")), ("o", KIND, &*off)];
    let proxy = start(subject, &filters, &routes, &upstream);
    let mut client = proxy.client();
    for (target, expected, saw) in [("/off", "-", "gzip"), ("/on", "-", "nothing"), ("/", "gzip", "nothing")]
    {
        let response = client.get_with(target, &[("accept-encoding", "gzip")]);
        assert_eq!((response.get("x-saw"), target), (Some(saw), target));
        if target != "/on" {
            assert_eq!(coding(&response), expected, "{target}");
        }
    }
}

fn a_library_of_the_route(subject: &Subject) {
    let other = format!("overrides: {{{}}}", library("compressor_library", BROTLI));
    let routes = [route("/other", FORWARD, "c", PER_ROUTE, &other), rest(FORWARD)].concat();
    let upstream = letters();
    let proxy = start(subject, &[("c", KIND, &gzip(""))], &routes, &upstream);
    let mut client = proxy.client();
    let response = client.get_with("/other", &[("accept-encoding", "br, gzip")]);
    assert_eq!((coding(&response), unpacked("br", &response.body)), ("br", vec![b'a'; 100]));
    assert_eq!(coding(&client.get_with("/other", &[("accept-encoding", "gzip")])), "-");
    assert_eq!(coding(&client.get_with("/", &[("accept-encoding", "br, gzip")])), "gzip");
}

fn requests(subject: &Subject) {
    let fields = gzip(
        ", request_direction_config: {}, response_direction_config: {common_config: {enabled: {default_value: false, runtime_key: x}}}",
    );
    let upstream = Upstream::start(|request| {
        let of = |name| request.fields.get(name).unwrap_or("-").to_owned();
        let fields = [("x-coding", of("content-encoding")), ("x-length", of("content-length"))];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Reply::with(200, &fields, &request.body)
    });
    let proxy = start(subject, &[("c", KIND, &fields)], &rest(FORWARD), &upstream);
    let text = text(8000);
    for version in [Version::Http1, Version::Http2] {
        for body in [Body::Length(text.clone()), Body::Streamed(text.chunks(30_000).map(Vec::from).collect())]
        {
            let question = Question { method: "POST", path: "/".into(), body, ..Question::default() };
            let got = Caller::connect(version, proxy.listener("main")).ask(&question).expect("an answer");
            let of = |name| got.fields.get(name);
            assert_eq!((of("x-coding"), of("x-length")), (Some("gzip"), Some("-")), "{version:?}");
            assert!(unpacked("gzip", &got.body) == text, "{version:?}");
        }
    }
    let mut client = proxy.client();
    let short = client.exchange("POST", "/", &[], b"short");
    assert_eq!((short.get("x-coding"), short.text().as_str()), (Some("-"), "short"));
    let image = client.exchange("POST", "/", &[("content-type", "image/png")], &[b'x'; 99]);
    assert_eq!((image.get("x-coding"), image.body.len()), (Some("-"), 99));
    upstream.assert_strict();
}

/// What was sent before a pause arrives before it is over.
fn events_do_not_stall(subject: &Subject) {
    events_of(subject, &[(GZIP, "gzip"), (BROTLI, "br")]);
}

fn events_of_zstd_do_not_stall(subject: &Subject) {
    events_of(subject, &[(ZSTD, "zstd")]);
}

fn events_of(subject: &Subject, libraries: &[(&str, &str)]) {
    for (kind, coding) in libraries {
        let upstream = Upstream::start(|_| {
            Reply::raw("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
                .send("9\r\ndata: 1\n\n\r\n")
                .step(Step::Hang)
        });
        let fields = library("compressor_library", kind);
        let proxy = start(subject, &[("c", KIND, &fields)], &rest(FORWARD), &upstream);
        let mut client = proxy.client();
        client.request("GET", "/", &[("host", "a"), ("accept-encoding", coding)], b"");
        let (mut wire, mut event, mut taken) = (Vec::new(), Vec::new(), 0);
        let mut unpacker = unpacker(coding);
        while event != b"data: 1\n\n" {
            wire.extend_from_slice(&client.wire().some().expect("an event"));
            let head = wire.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
            for chunk in head.map(|at| chunks(&wire[at..])).unwrap_or_default().iter().skip(taken) {
                unpacker.decompress(chunk, false, &mut event).expect("a body");
                taken += 1;
            }
        }
    }
}

/// The chunks of a body that are complete.
fn chunks(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(line) = body.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&body[..line]), 16).expect("a length");
        let Some(chunk) = body.get(line + 2..line + 2 + length) else { break };
        out.push(chunk.to_vec());
        body = body.get(line + 4 + length..).unwrap_or_default();
    }
    out
}

fn local_replies(subject: &Subject) {
    let long = format!("direct_response: {{status: 200, body: {{inline_string: {}}}}}", "x".repeat(200));
    let routes = [format!("- match: {{prefix: /long}}\n  {long}\n"), rest(DIRECT)].concat();
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &[("c", KIND, &gzip(""))], &routes, &upstream);
    for version in [Version::Http1, Version::Http2] {
        let mut caller = Caller::connect(version, proxy.listener("main"));
        for (path, expected, body) in [("/long", Some("gzip"), "x".repeat(200)), ("/", None, "hello".into())]
        {
            let fields = vec![("accept-encoding", "gzip".to_owned())];
            let question = Question { method: "GET", path: path.into(), fields, ..Question::default() };
            let got = caller.ask(&question).expect("an answer");
            assert_eq!(got.fields.get("content-encoding"), expected, "{version:?} {path}");
            let text = if expected.is_some() { unpacked("gzip", &got.body) } else { got.body };
            assert_eq!(text, body.as_bytes(), "{version:?} {path}");
        }
    }
}

fn trailers_follow(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::chunked(&[], &[&[b'a'; 60], &[b'b'; 60]], &[("x-end", "1")]));
    let http = Http::to("up")
        .hcm(&chain(&[("c", KIND, &gzip(""))]))
        .hcm("http_protocol_options: {enable_trailers: true}");
    let options = millrace_support::any::protocol_options(
        "explicit_http_config: {http_protocol_options: {enable_trailers: true}}",
    );
    let proxy =
        Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], &options));
    for version in [Version::Http1, Version::Http2] {
        let fields = vec![("accept-encoding", "gzip".to_owned())];
        let question = Question { method: "GET", path: "/".into(), fields, ..Question::default() };
        let got = Caller::connect(version, proxy.listener("main")).ask(&question).expect("an answer");
        assert_eq!(unpacked("gzip", &got.body), [[b'a'; 60], [b'b'; 60]].concat(), "{version:?}");
        assert_eq!(got.trailers.get("x-end"), Some("1"), "{version:?}");
    }
}

fn counters(subject: &Subject) {
    let upstream = letters();
    let brotli = format!("{}, response_direction_config: {{}}", library("compressor_library", BROTLI));
    let filters = [("g", KIND, &*gzip("")), ("b", KIND, &*brotli)];
    let proxy = start(subject, &filters, &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    for accept in ["gzip", "br", "*", "identity", "zstd"] {
        client.get_with("/", &[("accept-encoding", accept)]);
    }
    client.get("/");
    client.get_with("/?n=3", &[("accept-encoding", "gzip")]);
    client.get_with("/?content-type=image/png", &[("accept-encoding", "gzip")]);
    for (name, value) in [
        ("gzip.compressed", 2),
        ("gzip.not_compressed", 6),
        ("gzip.total_uncompressed_bytes", 200),
        ("gzip.content_length_too_small", 1),
        ("gzip.header_compressor_used", 1),
        ("gzip.header_compressor_overshadowed", 1),
        ("gzip.header_identity", 1),
        ("gzip.header_wildcard", 1),
        ("gzip.header_not_valid", 2),
        ("gzip.no_accept_header", 1),
        ("gzip.request.not_compressed", 8),
        ("brotli.response.compressed", 1),
        ("brotli.response.not_compressed", 7),
        ("brotli.response.total_uncompressed_bytes", 100),
        ("brotli.header_compressor_used", 1),
        ("brotli.header_compressor_overshadowed", 1),
    ] {
        proxy.wait_stat(&format!("http.main.compressor.lib.{name}"), value);
    }
}
