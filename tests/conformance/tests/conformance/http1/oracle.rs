//! Two parsers that we did not write judge every request that we would send upstream.

use http_desync_guardian::RequestSafetyTier;
use http_desync_guardian::request_analyzer::HttpRequestData;

/// Panics unless both parsers read the head as one unambiguous request.
pub fn unambiguous(id: &str, wire: &[u8]) {
    let shown = wire.escape_ascii();
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(wire), Ok(httparse::Status::Complete(wire.len())), "{id}: {shown}");
    assert_eq!(request.version, Some(1), "{id}");
    let count = |name: &str| request.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name)).count();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    assert_eq!((count("host"), lengths + codings < 2), (1, true), "{id}: {shown}");
    for field in request.headers.iter().filter(|f| f.name.eq_ignore_ascii_case("transfer-encoding")) {
        assert_eq!(field.value, b"chunked", "{id}: {shown}");
    }
    let tier = HttpRequestData::analyze_raw_request(wire).tier;
    let fine = matches!(tier, RequestSafetyTier::Compliant | RequestSafetyTier::Acceptable);
    // The analyser distrusts bodies of GET and HEAD and bytes in the target that RFC 3986 does not list, however
    // they are framed; neither is ambiguous to a parser.
    let known = request.method.is_some_and(|m| matches!(m, "GET" | "HEAD")) && lengths + codings == 1
        || request.path.is_some_and(|p| p.bytes().any(|b| b"\"<>\\^`{|}[]".contains(&b)));
    assert!(fine || known, "{id}: {tier:?} {shown}");
}
