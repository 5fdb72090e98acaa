//! Messages as clients, meshes and origins send them.

use millrace_http::RequestHead;
use millrace_http::h1::{BodyFraming, ParseOptions, Parsed, parse_request};

/// What curl sends, and nearly what a browser's `fetch` does.
pub(crate) const SMALL: &[u8] = b"GET /api/v1/users/42?verbose=1 HTTP/1.1\r\n\
    Host: users.example.com\r\n\
    User-Agent: curl/8.5.0\r\n\
    Accept: */*\r\n\r\n";

/// Between two sidecars: tracing, identity, retries. Twenty fields.
pub(crate) const MESH: &[u8] = b"GET /api/v1/users/42/orders?limit=20&cursor=eyJpZCI6NDJ9 HTTP/1.1\r\n\
    host: orders.shop.svc.cluster.local:8080\r\n\
    user-agent: Go-http-client/1.1\r\n\
    accept: application/json\r\n\
    accept-encoding: gzip\r\n\
    accept-language: en-GB,en;q=0.8\r\n\
    authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyLTQyIn0.c2lnbmF0dXJl\r\n\
    cookie: session=5f2b8c1e9a; theme=dark\r\n\
    content-type: application/json\r\n\
    x-request-id: 5f9c6d2e-2c5b-4d1f-9b0a-3f6b9f2f7a11\r\n\
    x-forwarded-for: 10.20.30.40\r\n\
    x-forwarded-proto: http\r\n\
    x-envoy-attempt-count: 1\r\n\
    x-envoy-expected-rq-timeout-ms: 15000\r\n\
    x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\r\n\
    x-b3-spanid: a2fb4a1d1a96d312\r\n\
    x-b3-parentspanid: 0020000000000001\r\n\
    x-b3-sampled: 1\r\n\
    traceparent: 00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01\r\n\
    x-tenant: shop-eu-west-1\r\n\
    x-client-version: 2026.11.2\r\n\r\n";

/// What an application server answers.
pub(crate) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: gunicorn\r\n\
    Date: Sun, 22 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 1024\r\n\
    Cache-Control: no-cache, no-store\r\n\
    ETag: \"33a64df551425fcc\"\r\n\
    Vary: accept-encoding\r\n\
    X-Request-Id: 5f9c6d2e-2c5b-4d1f-9b0a-3f6b9f2f7a11\r\n\
    X-Tenant: shop-eu-west-1\r\n\r\n";

/// Sixty fields, most of them unknown to the table of names.
pub(crate) fn large() -> Vec<u8> {
    let mut head = SMALL[..SMALL.len() - 2].to_vec();
    for field in 0..57 {
        let line = format!("X-Application-Field-{field:02}: value-{:024x}\r\n", field * 7919);
        head.extend_from_slice(line.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Parses a head that is known to be complete.
#[inline]
pub(crate) fn parse(input: &[u8], options: &ParseOptions, head: &mut RequestHead) -> BodyFraming {
    match parse_request(input, options, head) {
        Ok(Parsed::Complete { consumed, framing }) if consumed == input.len() => framing,
        other => unreachable!("{other:?}"),
    }
}

/// A parsed head.
pub(crate) fn parsed(input: &[u8]) -> RequestHead {
    let mut head = RequestHead::new();
    parse(input, &ParseOptions::default(), &mut head);
    head
}
