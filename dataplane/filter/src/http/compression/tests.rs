//! What the two filters make of heads and bodies.

use std::sync::Arc;

use millrace_config::{
    Coding, CompressDirection, CompressResponses, CompressorFilter, CompressorLibrary, CompressorPerRoute,
    DecompressDirection, DecompressorFilter, DecompressorLibrary, FilterConfigId, GzipCompressor,
    GzipStrategy, HttpConnectionManager, HttpFilter, HttpFilterKind, PerFilterConfig, RouteConfiguration,
    ScopeId, StringMatcher, ZstdCompressor,
};
use millrace_http::{HeaderMap, ResponseHead};
use millrace_observe::stats::{
    Counter, ScopeKind, compressor as metric, compressor_direction as direction, decompressor,
    decompressor_library as library,
};

use crate::http::BodyUse;
use crate::http::stream_filters::Start;
use crate::http::test::{Room, Running, bytes, hcm, head, lines, response};

const GZIP: CompressorLibrary = CompressorLibrary::Gzip(GzipCompressor {
    memory_level: 5,
    level: None,
    strategy: GzipStrategy::Default,
    window_bits: 12,
});
const ZSTD: CompressorLibrary =
    CompressorLibrary::Zstd(ZstdCompressor { level: 3, checksum: false, strategy: 0, dictionary: None });

/// Scopes of a compressor: its own, the requests', the responses'.
fn scopes(room: &Room, name: &str) -> [ScopeId; 3] {
    [
        room.registry.scope(ScopeKind::HttpCompressor, name),
        room.registry.scope(ScopeKind::HttpCompressorDirection, &format!("{name}.request")),
        room.registry.scope(ScopeKind::HttpCompressorDirection, &format!("{name}.response")),
    ]
}

fn compressor(room: &Room, library: &CompressorLibrary) -> CompressorFilter {
    let [own, request, response] = scopes(room, library.coding().name());
    let direction = |enabled, scope| CompressDirection {
        enabled,
        min_content_length: 30,
        content_types: vec![StringMatcher::Exact { value: bytes("text/plain"), ignore_case: true }],
        scope,
    };
    CompressorFilter {
        library: library.clone(),
        request: direction(false, request),
        response: CompressResponses {
            common: direction(true, response),
            disable_on_etag: false,
            weaken_etag: false,
            remove_accept_encoding: false,
            uncompressible_codes: vec![206],
            status_header: false,
        },
        choose_first: false,
        scope: own,
    }
}

fn chain(kinds: Vec<HttpFilterKind>) -> HttpConnectionManager {
    let mut hcm = hcm();
    for (at, kind) in kinds.into_iter().enumerate() {
        let name = format!("f{at}").into();
        hcm.http_filters.insert(at, HttpFilter { name, id: FilterConfigId(0), disabled: false, kind });
    }
    hcm
}

fn compressors(filters: Vec<CompressorFilter>) -> HttpConnectionManager {
    chain(filters.into_iter().map(|filter| HttpFilterKind::Compressor(Arc::new(filter))).collect())
}

/// What a response of these fields and 100 bytes becomes.
fn answer(
    room: Room,
    hcm: &HttpConnectionManager,
    accept: Option<&str>,
    status: u16,
    fields: &[(&str, &str)],
) -> (Room, String, Vec<u8>) {
    answer_of(room, Start::of(hcm, None), accept, response(status, fields))
}

fn answer_of(
    room: Room,
    start: Start<'_>,
    accept: Option<&str>,
    mut head: ResponseHead,
) -> (Room, String, Vec<u8>) {
    let list: Vec<_> = accept.iter().map(|accept| ("accept-encoding", *accept)).collect();
    let mut filters = Running::begin_in(room, start, &mut crate::http::test::head("/", &list)).unwrap();
    filters.response_head(&mut head, false);
    let mut out = Vec::new();
    match filters.response_use() {
        BodyUse::Change => filters.response_data(&[b'a'; 100], true, &mut head, &mut out).unwrap(),
        BodyUse::Bypass | BodyUse::Observe => out = vec![b'a'; 100],
    }
    (filters.room, lines(&head.headers), out)
}

#[test]
fn responses_that_are_compressed_and_others() {
    let mut room = Room::new();
    let hcm = compressors(vec![compressor(&room, &GZIP)]);
    let text = ("content-type", "text/plain");
    let yes = "content-type: text/plain | vary: Accept-Encoding | content-encoding: gzip";
    for (accept, fields, expected) in [
        (Some("gzip"), &[text, ("content-length", "100")][..], yes),
        (Some("gzip"), &[text], yes),
        (None, &[text], "content-type: text/plain | vary: Accept-Encoding"),
        (Some("br"), &[text], "content-type: text/plain | vary: Accept-Encoding"),
        (Some("gzip"), &[text, ("content-length", "29")], "content-type: text/plain | content-length: 29"),
        (Some("gzip"), &[("content-type", "image/png")], "content-type: image/png"),
        (
            Some("gzip"),
            &[("content-type", "TEXT/PLAIN ; x")],
            "content-type: TEXT/PLAIN ; x | vary: Accept-Encoding | content-encoding: gzip",
        ),
        (Some("gzip"), &[text, ("content-encoding", "x")], "content-type: text/plain | content-encoding: x"),
        (
            Some("gzip"),
            &[text, ("cache-control", "x, No-Transform")],
            "content-type: text/plain | cache-control: x, No-Transform",
        ),
        (
            Some("gzip"),
            &[("vary", "Origin"), ("etag", "\"x\"")],
            "vary: Origin, Accept-Encoding | content-encoding: gzip",
        ),
        (
            Some("gzip"),
            &[("vary", "a,Accept-Encoding"), ("etag", "W/\"x\"")],
            "vary: a,Accept-Encoding | etag: W/\"x\" | content-encoding: gzip",
        ),
    ] {
        let (back, head, body) = answer(room, &hcm, accept, 200, fields);
        room = back;
        assert_eq!(head, expected, "{accept:?} {fields:?}");
        assert_eq!(body.starts_with(&[0x1f, 0x8b]), head.contains("encoding: gzip"), "{fields:?}");
    }
    let (room, head, _) = answer(room, &hcm, Some("gzip"), 206, &[text]);
    assert_eq!(head, "content-type: text/plain");
    let [own, request, response] = scopes(&room, "gzip");
    let counted = |scope, counter: Counter| room.registry.counter(scope, counter);
    assert_eq!(
        [direction::COMPRESSED, direction::NOT_COMPRESSED, direction::CONTENT_LENGTH_TOO_SMALL]
            .map(|counter| counted(response, counter)),
        [5, 7, 1]
    );
    assert_eq!(counted(response, direction::TOTAL_UNCOMPRESSED_BYTES), 500);
    assert_eq!(counted(request, direction::NOT_COMPRESSED), 12);
    assert_eq!(
        [metric::HEADER_COMPRESSOR_USED, metric::HEADER_NOT_VALID, metric::NO_ACCEPT_HEADER]
            .map(|counter| counted(own, counter)),
        [8, 2, 1]
    );
}

#[test]
fn etags_and_the_status_header() {
    let room = Room::new();
    let mut filter = compressor(&room, &GZIP);
    filter.response.status_header = true;
    filter.response.disable_on_etag = true;
    let tag = [("etag", "\"x\""), ("content-length", "100")];
    let (room, head, _) = answer(room, &compressors(vec![filter.clone()]), Some("gzip"), 200, &tag);
    assert_eq!(head, "etag: \"x\" | content-length: 100 | x-envoy-compression-status: gzip;EtagNotAllowed");
    filter.response.weaken_etag = true;
    let (room, head, _) = answer(room, &compressors(vec![filter.clone()]), Some("gzip"), 200, &tag);
    assert!(head.contains("etag: W/\"x\"") && head.contains("gzip;Compressed;OriginalLength=100"), "{head}");
    let both = compressors(vec![filter, compressor(&room, &ZSTD)]);
    let short = [("content-length", "3")];
    let (_, head, _) = answer(room, &both, Some("gzip"), 200, &short);
    assert_eq!(head, "content-length: 3 | x-envoy-compression-status: gzip;ContentLengthTooSmall");
}

#[test]
fn of_several_compressors_the_client_chooses_one() {
    let mut room = Room::new();
    let hcm = compressors(vec![compressor(&room, &GZIP), compressor(&room, &ZSTD)]);
    for (accept, coding) in
        [("gzip, zstd;q=0.9", "gzip"), ("gzip;q=0.8, zstd", "zstd"), ("*", "gzip"), ("*, gzip;q=0", "zstd")]
    {
        let (back, head, _) = answer(room, &hcm, Some(accept), 200, &[]);
        room = back;
        assert_eq!(head, format!("vary: Accept-Encoding | content-encoding: {coding}"), "{accept}");
    }
    let [gzip, ..] = scopes(&room, "gzip");
    let [zstd, ..] = scopes(&room, "zstd");
    let counted = |scope, counter: Counter| room.registry.counter(scope, counter);
    assert_eq!(counted(gzip, metric::HEADER_COMPRESSOR_USED), 1);
    assert_eq!(counted(zstd, metric::HEADER_COMPRESSOR_OVERSHADOWED), 1);
    assert_eq!(counted(zstd, metric::HEADER_WILDCARD), 2);
}

#[test]
fn routes_switch_compression_off_and_choose_another_library() {
    let room = Room::new();
    let hcm = compressors(vec![compressor(&room, &GZIP)]);
    let with = |route: CompressorPerRoute| {
        let mut config = RouteConfiguration::default();
        config.per_filter.push(("f0".into(), PerFilterConfig::Compressor(Arc::new(route))));
        config
    };
    let none = CompressorPerRoute { enabled: None, remove_accept_encoding: None, library: None };
    let off = with(CompressorPerRoute { enabled: Some(false), ..none.clone() });
    let (room, head, _) = answer_of(room, Start::of(&hcm, Some(&off)), Some("gzip"), response(200, &[]));
    assert_eq!(head, "");
    let other = with(CompressorPerRoute { library: Some(ZSTD), ..none });
    let (room, head, body) = answer_of(room, Start::of(&hcm, Some(&other)), Some("zstd"), response(200, &[]));
    assert_eq!(head, "vary: Accept-Encoding | content-encoding: zstd");
    assert!(body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let [own, ..] = scopes(&room, "gzip");
    assert_eq!(room.registry.counter(own, metric::HEADER_COMPRESSOR_USED), 1);
}

fn decompressor(room: &Room, advertise: bool) -> DecompressorFilter {
    let direction = |name: &str| DecompressDirection {
        enabled: true,
        ignore_no_transform: false,
        scope: room.registry.scope(ScopeKind::HttpDecompressor, name),
    };
    DecompressorFilter {
        library: DecompressorLibrary::Gzip { window_bits: 15, max_inflate_ratio: 100 },
        request: direction("request"),
        response: direction("response"),
        advertise,
        trailers: [bytes("x-c"), bytes("x-u")],
        scope: room.registry.scope(ScopeKind::HttpDecompressorLibrary, "library"),
    }
}

/// 100 letters as gzip.
fn zipped() -> Vec<u8> {
    let mut compressor = millrace_compression::Compressor::new(&GZIP).unwrap();
    let mut out = Vec::new();
    compressor.compress(&[b'a'; 100], true, &mut out);
    out
}

#[test]
fn bodies_of_both_directions_are_decompressed() {
    let room = Room::new();
    let hcm = chain(vec![HttpFilterKind::Decompressor(Arc::new(decompressor(&room, true)))]);
    let list =
        [("content-encoding", "gzip"), ("content-length", "9"), ("accept-encoding", "br;q=1, gzip;q=0.1")];
    let mut request = head("/", &list);
    let start = Start { whole: false, ..Start::of(&hcm, None) };
    let mut filters = Running::begin_in(room, start, &mut request).unwrap();
    assert_eq!(lines(&request.headers), "accept-encoding: br;q=1,gzip");
    assert_eq!(filters.request_use(), BodyUse::Change);
    let (mut out, zipped) = (Vec::new(), zipped());
    let (one, two) = zipped.split_at(7);
    filters.request_data(one, false, &mut out).unwrap();
    filters.request_data(two, true, &mut out).unwrap();
    assert_eq!(out, [b'a'; 100]);
    let told = format!("x-c: {} | x-u: 100", zipped.len());
    assert_eq!(lines(&filters.trailers), told);
    let mut head = response(200, &[("content-encoding", "GZIP, x"), ("content-length", "9")]);
    filters.response_head(&mut head, false);
    assert_eq!(lines(&head.headers), "content-encoding: x");
    out.clear();
    filters.response_data(&zipped, false, &mut head, &mut out).unwrap();
    let mut trailers = HeaderMap::new();
    filters.response_trailers(&mut trailers, &mut head, &mut out).unwrap();
    assert_eq!((out, lines(&trailers)), (vec![b'a'; 100], told));
    let scope = filters.room.registry.scope(ScopeKind::HttpDecompressor, "response");
    assert_eq!(filters.room.registry.counter(scope, decompressor::TOTAL_UNCOMPRESSED_BYTES), 100);
}

#[test]
fn bodies_that_are_no_such_thing_end_their_stream() {
    let room = Room::new();
    let hcm = chain(vec![HttpFilterKind::Decompressor(Arc::new(decompressor(&room, false)))]);
    let mut request = head("/", &[("content-encoding", "gzip")]);
    let start = Start { whole: false, ..Start::of(&hcm, None) };
    let mut filters = Running::begin_in(room, start, &mut request).unwrap();
    let mut out = Vec::new();
    assert_eq!(filters.request_data(b"no gzip at all", false, &mut out).unwrap_err().status, 400);
    let mut head = response(200, &[("content-encoding", "gzip")]);
    filters.response_head(&mut head, false);
    let zipped = zipped();
    filters.response_data(&zipped[..9], false, &mut head, &mut out).unwrap();
    let cut = filters.response_data(&[], true, &mut head, &mut out).unwrap_err();
    assert_eq!((cut.status, &*cut.details), (502, "response_decompression_failed"));
    let scope = filters.room.registry.scope(ScopeKind::HttpDecompressorLibrary, "library");
    assert_eq!(filters.room.registry.counter(scope, library::ZLIB_DATA_ERROR), 2);
    // Somebody has forbidden it.
    let mut head = response(200, &[("content-encoding", "gzip"), ("cache-control", "no-transform")]);
    let mut filters = Running::begin(Start::of(&hcm, None), &mut self::head("/", &[])).unwrap();
    filters.response_head(&mut head, false);
    assert_eq!(filters.response_use(), BodyUse::Bypass);
}

/// Nearer to the endpoint decompressed, nearer to the client compressed in another way.
#[test]
fn a_response_changes_its_coding() {
    let room = Room::new();
    let kinds = vec![
        HttpFilterKind::Compressor(Arc::new(compressor(&room, &ZSTD))),
        HttpFilterKind::Decompressor(Arc::new(decompressor(&room, false))),
    ];
    let hcm = chain(kinds);
    let mut filters =
        Running::begin_in(room, Start::of(&hcm, None), &mut head("/", &[("accept-encoding", "zstd")]))
            .unwrap();
    let mut head = response(200, &[("content-encoding", "gzip")]);
    filters.response_head(&mut head, false);
    assert_eq!(lines(&head.headers), "vary: Accept-Encoding | content-encoding: zstd");
    let mut out = Vec::new();
    filters.response_data(&zipped(), true, &mut head, &mut out).unwrap();
    let library = DecompressorLibrary::Zstd { dictionaries: Vec::new() };
    assert_eq!(library.coding(), Coding::Zstd);
    let (mut back, mut text) = (millrace_compression::Decompressor::new(&library).unwrap(), Vec::new());
    back.decompress(&out, true, &mut text).unwrap();
    assert_eq!(text, [b'a'; 100]);
}
