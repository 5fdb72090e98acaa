//! The filter `decompressor`.

use millrace_e2e::{Case, case};
use millrace_support::any::{Body, Caller, Question, Version};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::compression::{library, packed, text};
use super::{FORWARD, chain, rest, start};

pub(crate) const CASES: &[Case] = &[
    case!(responses),
    case!(requests),
    case!(what_is_left_alone),
    case!(the_endpoint_is_told),
    case!(trailers_tell_the_bytes),
    case!(what_is_no_such_thing, not_envoy: "ends the message as if what it could decompress were all of it"),
    case!(bombs, not_envoy: "cuts the message, which looks whole then"),
    case!(counters),
];

const KIND: &str = "decompressor.v3.Decompressor";
const LIBRARIES: [(&str, &str); 3] = [
    ("gzip", "gzip.decompressor.v3.Gzip"),
    ("br", "brotli.decompressor.v3.Brotli"),
    ("zstd", "zstd.decompressor.v3.Zstd"),
];

fn gunzip(more: &str) -> String {
    format!("{}{more}", library("decompressor_library", LIBRARIES[0].1))
}

/// Answers with its own body in the coding that the path names.
fn packing(text: Vec<u8>) -> Upstream {
    Upstream::start(move |request| {
        let coding = request.target.trim_start_matches('/').to_owned();
        Reply::with(200, &[("content-encoding", &coding)], &packed(&coding, &text))
    })
}

fn all() -> Vec<String> {
    LIBRARIES.iter().map(|(_, kind)| library("decompressor_library", kind)).collect()
}

fn responses(subject: &Subject) {
    let text = text(15_000);
    let upstream = packing(text.clone());
    let fields = all();
    let filters: Vec<_> = fields.iter().map(|fields| ("d", KIND, fields.as_str())).collect();
    let proxy = start(subject, &filters, &rest(FORWARD), &upstream);
    for version in [Version::Http1, Version::Http2] {
        let mut caller = Caller::connect(version, proxy.listener("main"));
        for (coding, _) in LIBRARIES {
            let question = Question { method: "GET", path: format!("/{coding}"), ..Question::default() };
            let got = caller.ask(&question).expect("an answer");
            let of = |name| got.fields.get(name);
            assert_eq!((of("content-encoding"), of("content-length")), (None, None), "{coding}");
            assert!(got.body == text, "{version:?} {coding}: {}", got.body.len());
        }
    }
    upstream.assert_strict();
}

fn requests(subject: &Subject) {
    let text = text(15_000);
    let upstream = Upstream::echo();
    let fields = all();
    let filters: Vec<_> = fields.iter().map(|fields| ("d", KIND, fields.as_str())).collect();
    let proxy = start(subject, &filters, &rest(FORWARD), &upstream);
    for version in [Version::Http1, Version::Http2] {
        let mut caller = Caller::connect(version, proxy.listener("main"));
        for (coding, _) in LIBRARIES {
            let packed = packed(coding, &text);
            let pieces = packed.chunks(5000).map(Vec::from).collect();
            for body in [Body::Length(packed.clone()), Body::Streamed(pieces)] {
                let fields = vec![("content-encoding", coding.to_owned())];
                let question =
                    Question { method: "POST", path: "/".into(), fields, body, ..Question::default() };
                let got = caller.ask(&question).expect("an answer");
                assert!(got.body == text, "{version:?} {coding}: {} {}", got.status, got.body.len());
            }
        }
    }
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| request.fields.get("content-encoding").is_none()));
    upstream.assert_strict();
}

fn what_is_left_alone(subject: &Subject) {
    let upstream = Upstream::start(|request| {
        let coding = request.fields.get("x-coding").unwrap_or("gzip").to_owned();
        let cache = request.fields.get("x-cache").unwrap_or("public").to_owned();
        let fields = [("content-encoding", coding.as_str()), ("cache-control", cache.as_str())];
        Reply::with(200, &fields, &packed("gzip", b"text"))
    });
    for (config, list, expected) in [
        ("", &[][..], None),
        ("", &[("x-coding", "GZIP , x")], Some("x")),
        ("", &[("x-coding", "x, gzip")], Some("x, gzip")),
        ("", &[("x-cache", "a, No-Transform")], Some("gzip")),
        (
            ", response_direction_config: {common_config: {ignore_no_transform_header: true}}",
            &[("x-cache", "no-transform")],
            None,
        ),
        (
            ", response_direction_config: {common_config: {enabled: {default_value: false, runtime_key: x}}}",
            &[],
            Some("gzip"),
        ),
    ] {
        let proxy = start(subject, &[("d", KIND, &gunzip(config))], &rest(FORWARD), &upstream);
        let response = proxy.client().get_with("/", list);
        assert_eq!(response.get("content-encoding"), expected, "{config} {list:?}");
        let changed = expected.is_none_or(|coding| coding == "x");
        assert_eq!(response.body == b"text", changed, "{config} {list:?}");
    }
}

fn the_endpoint_is_told(subject: &Subject) {
    let upstream = Upstream::start(|request| Reply::ok(request.fields.get("accept-encoding").unwrap_or("-")));
    for (config, cases) in [
        (
            "",
            &[("", "gzip"), ("br", "br,gzip"), ("gzip;q=0.3, br ,", "br,gzip"), ("a;q=1,gzip", "a;q=1,gzip")]
                [..],
        ),
        (", request_direction_config: {advertise_accept_encoding: false}", &[("", "-"), ("br", "br")]),
    ] {
        let proxy = start(subject, &[("d", KIND, &gunzip(config))], &rest(FORWARD), &upstream);
        for (accept, expected) in cases {
            let list = [("accept-encoding", *accept)];
            let list = if accept.is_empty() { &[][..] } else { &list };
            assert_eq!(proxy.client().get_with("/", list).text(), *expected, "{config} {accept}");
        }
    }
}

fn trailers_tell_the_bytes(subject: &Subject) {
    let upstream = packing(text(100));
    let length = packed("gzip", &text(100)).len().to_string();
    let proxy = start(subject, &[("d", KIND, &gunzip(""))], &rest(FORWARD), &upstream);
    let question = Question { method: "GET", path: "/gzip".into(), ..Question::default() };
    let got = Caller::connect(Version::Http2, proxy.listener("main")).ask(&question).expect("an answer");
    let of = |of: &str| got.trailers.get(&format!("x-envoy-decompressor-lib-{of}-bytes")).map(str::to_owned);
    assert_eq!(of("compressed"), Some(length.clone()));
    assert_eq!(of("uncompressed"), Some(text(100).len().to_string()));
    // Where nobody wants trailers there are none.
    let got = Caller::connect(Version::Http1, proxy.listener("main")).ask(&question).expect("an answer");
    assert!(got.trailers.0.is_empty() && got.body == text(100));
    let http = Http::to("up")
        .hcm(&chain(&[("d", KIND, &gunzip(""))]))
        .hcm("http_protocol_options: {enable_trailers: true}");
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let got = Caller::connect(Version::Http1, proxy.listener("main")).ask(&question).expect("an answer");
    assert_eq!(got.trailers.get("x-envoy-decompressor-lib-compressed-bytes"), Some(&*length));
}

fn what_is_no_such_thing(subject: &Subject) {
    let whole = packed("gzip", &text(3000));
    let cut = whole[..whole.len() / 2].to_vec();
    let upstream = Upstream::start(move |request| {
        let body = match request.target.as_str() {
            "/cut" => cut.clone(),
            _ => b"no gzip at all, but rather long".to_vec(),
        };
        Reply::with(200, &[("content-encoding", "gzip")], &body)
    });
    let proxy = start(subject, &[("d", KIND, &gunzip(""))], &rest(FORWARD), &upstream);
    for version in [Version::Http1, Version::Http2] {
        for path in ["/cut", "/none"] {
            let question = Question { method: "GET", path: path.into(), ..Question::default() };
            let got = Caller::connect(version, proxy.listener("main")).ask(&question);
            assert!(got.is_err(), "{version:?} {path}: {got:?}");
        }
    }
    let lines: Vec<_> = (0..4).map(|n| proxy.log().line(n).get("details").to_owned()).collect();
    assert_eq!(lines, vec!["response_decompression_failed"; 4]);
    let refused = proxy.client().exchange("POST", "/", &[("content-encoding", "gzip")], b"no gzip at all");
    assert_eq!(refused.status, 400);
    proxy.wait_stat("http.main.decompressor.lib.gzip.decompressor_library.zlib_data_error", 5);
    // Others are not hurt.
    assert_eq!(proxy.client().exchange("HEAD", "/", &[], b"").status, 200);
}

fn bombs(subject: &Subject) {
    let bombs: Vec<_> = LIBRARIES.iter().map(|(coding, _)| packed(coding, &vec![0; 20_000_000])).collect();
    let upstream = Upstream::start(move |request| {
        let coding = request.target.trim_start_matches('/').to_owned();
        let at = LIBRARIES.iter().position(|(name, _)| *name == coding).unwrap_or(0);
        Reply::with(200, &[("content-encoding", &coding)], &bombs[at])
    });
    let fields = all();
    let filters: Vec<_> = fields.iter().map(|fields| ("d", KIND, fields.as_str())).collect();
    let proxy = start(subject, &filters, &rest(FORWARD), &upstream);
    for (coding, _) in LIBRARIES {
        let question = Question { method: "GET", path: format!("/{coding}"), ..Question::default() };
        let got = Caller::connect(Version::Http1, proxy.listener("main")).ask(&question);
        assert!(got.is_err(), "{coding}");
    }
    proxy.wait_stat("http.main.decompressor.lib.gzip.decompressor_library.zlib_data_error", 1);
    proxy.wait_stat("http.main.decompressor.lib.brotli.decompressor_library.brotli_output_overflow", 1);
    proxy.wait_stat("http.main.decompressor.lib.zstd.decompressor_library.zstd_generic_error", 1);
}

fn counters(subject: &Subject) {
    let length = packed("gzip", &text(100)).len() as u64;
    let upstream = packing(text(100));
    let proxy = start(subject, &[("d", KIND, &gunzip(""))], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    client.get("/gzip");
    client.get("/br");
    let body = packed("gzip", &text(100));
    client.exchange("POST", "/gzip", &[("content-encoding", "gzip")], &body);
    client.exchange("POST", "/br", &[], b"plain");
    for (name, value) in [
        ("response.decompressed", 2),
        ("response.not_decompressed", 2),
        ("response.total_compressed_bytes", 2 * length),
        ("response.total_uncompressed_bytes", 2 * text(100).len() as u64),
        ("request.decompressed", 1),
        ("request.not_decompressed", 1),
        ("request.total_compressed_bytes", length),
        ("request.total_uncompressed_bytes", text(100).len() as u64),
    ] {
        proxy.wait_stat(&format!("http.main.decompressor.lib.gzip.{name}"), value);
    }
}
