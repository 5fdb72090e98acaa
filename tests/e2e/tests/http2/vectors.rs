//! Requests for [`super::bad`], one for each class of malformed field and message (RFC 9113 sections 8.1 to 8.5), each as
//! edits of one plain request.

use super::bad::Due::{self, Either, Refused, Served};

type Fields = &'static [(&'static str, &'static str)];

/// One request.
pub(crate) struct Vector {
    pub(crate) id: &'static str,
    pub(crate) due: Due,
    /// Replaces a field of [`BASE`] or appends one; `+name` appends always, `-name` removes.
    pub(crate) edits: Fields,
    pub(crate) body: Option<&'static str>,
    pub(crate) trailers: Fields,
}

/// What the edits start from. Chars are octets.
pub(crate) const BASE: Fields =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test.local")];

const fn get(id: &'static str, due: Due, edits: Fields) -> Vector {
    Vector { id, due, edits, body: None, trailers: &[] }
}

const fn body(id: &'static str, due: Due, edits: Fields, body: &'static str) -> Vector {
    Vector { id, due, edits, body: Some(body), trailers: &[] }
}

const fn trailers(id: &'static str, due: Due, trailers: Fields) -> Vector {
    Vector { id, due, edits: &[(":method", "POST")], body: Some("body"), trailers }
}

pub(crate) const VECTORS: &[Vector] = &[
    get("host only", Served, &[("-:authority", ""), ("host", "only.test")]),
    get("cookie crumbs", Served, &[("cookie", "a=1"), ("+cookie", "b=2")]),
    body("post without a length", Served, &[(":method", "POST")], "body"),
    trailers("trailers", Served, &[("x-sum", "1")]),
    get("te trailers", Served, &[("te", "trailers")]),
    get("host as the authority", Served, &[("host", "test.local")]),
    get("empty value", Served, &[("x-test", "")]),
    get("tab within a value", Served, &[("x-test", "a\tb")]),
    get("latin-1 in a value", Served, &[("x-test", "a\u{e9}b")]),
    get("no method", Refused, &[("-:method", "")]),
    get("no scheme", Refused, &[("-:scheme", "")]),
    get("no path", Refused, &[("-:path", "")]),
    get("two methods", Refused, &[("+:method", "GET")]),
    get("two schemes", Refused, &[("+:scheme", "http")]),
    get("two paths", Refused, &[("+:path", "/")]),
    get("two authorities", Refused, &[("+:authority", "test.local")]),
    get("unknown pseudo field", Refused, &[(":unknown", "1")]),
    get("empty pseudo field", Refused, &[(":", "1")]),
    get("status in a request", Refused, &[(":status", "200")]),
    get("pseudo field behind a regular one", Refused, &[("-:path", ""), ("x-test", "1"), (":path", "/")]),
    trailers("pseudo field in trailers", Refused, &[(":path", "/")]),
    get("neither authority nor host", Refused, &[("-:authority", "")]),
    get("empty path", Refused, &[(":path", "")]),
    get("path without a slash", Refused, &[(":path", "smuggled")]),
    get("absolute path", Refused, &[(":path", "http://evil.test/")]),
    get("star with GET", Refused, &[(":path", "*")]),
    get("space in the path", Refused, &[(":path", "/ smuggled")]),
    get("tab in the path", Refused, &[(":path", "/\tsmuggled")]),
    get("CR in the path", Refused, &[(":path", "/\rsmuggled")]),
    get("LF in the path", Refused, &[(":path", "/\nsmuggled")]),
    get("version in the path", Refused, &[(":path", "/ HTTP/1.1")]),
    get("request in the path", Refused, &[(":path", "/ HTTP/1.1\r\nhost: a\r\n\r\nGET /smuggled")]),
    get("NUL in the path", Refused, &[(":path", "/\0")]),
    get("DEL in the path", Refused, &[(":path", "/\u{7f}")]),
    get("control in the path", Refused, &[(":path", "/\u{1}")]),
    get("octet above ASCII in the path", Refused, &[(":path", "/\u{e9}")]),
    get("fragment in the path", Refused, &[(":path", "/#smuggled")]),
    get("empty method", Refused, &[(":method", "")]),
    get("request in the method", Refused, &[(":method", "GET / HTTP/1.1\r\nx: y")]),
    get("space in the method", Refused, &[(":method", "GET /smuggled")]),
    get("NUL in the method", Refused, &[(":method", "G\0T")]),
    get("octet above ASCII in the method", Refused, &[(":method", "G\u{e9}T")]),
    get("space in the scheme", Refused, &[(":scheme", "ht tp")]),
    get("CRLF in the scheme", Refused, &[(":scheme", "http\r\nx: y")]),
    get("URL in the scheme", Refused, &[(":scheme", "http://evil.test/?")]),
    get("empty scheme", Refused, &[(":scheme", "")]),
    get("CRLF in the authority", Refused, &[(":authority", "a\r\nx: y")]),
    get("user information in the authority", Refused, &[(":authority", "user@test.local")]),
    get("path in the authority", Refused, &[(":authority", "test.local/x")]),
    get("list in the authority", Refused, &[(":authority", "a.test,b.test")]),
    get("octet above ASCII in the authority", Refused, &[(":authority", "\u{e9}.test")]),
    get("empty authority", Refused, &[(":authority", "")]),
    get("two hosts", Refused, &[("-:authority", ""), ("host", "a.test"), ("+host", "b.test")]),
    get("host against the authority", Refused, &[("host", "evil.test")]),
    get("empty name", Refused, &[("", "1")]),
    get("upper case in a name", Refused, &[("X-Upper", "1")]),
    get("space in a name", Refused, &[("x test", "1")]),
    get("space behind a name", Refused, &[("x-test ", "1")]),
    get("colon in a name", Refused, &[("x:test", "1")]),
    get("colon behind a name", Refused, &[("x-test:", "1")]),
    get("LF in a name", Refused, &[("x\ntest", "1")]),
    get("CRLF in a name", Refused, &[("a: b\r\nx-inj", "1")]),
    get("NUL in a name", Refused, &[("x\0test", "1")]),
    get("DEL in a name", Refused, &[("x\u{7f}test", "1")]),
    get("octet above ASCII in a name", Refused, &[("x\u{e9}test", "1")]),
    get("quote in a name", Refused, &[("x\"test", "1")]),
    get("CR in a value", Refused, &[("x-test", "a\rb")]),
    get("LF in a value", Refused, &[("x-test", "a\nb")]),
    get("field in a value", Refused, &[("x-test", "a\r\ntransfer-encoding: chunked")]),
    get("request in a value", Refused, &[("x-test", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")]),
    get("NUL in a value", Refused, &[("x-test", "a\0")]),
    get("space before a value", Refused, &[("x-test", " a")]),
    get("space behind a value", Refused, &[("x-test", "a ")]),
    get("tab before a value", Refused, &[("x-test", "\ta")]),
    get("tab behind a value", Refused, &[("x-test", "a\t")]),
    get("control in a value", Either, &[("x-test", "a\u{1}b")]),
    get("DEL in a value", Either, &[("x-test", "a\u{7f}b")]),
    get("connection", Refused, &[("connection", "keep-alive")]),
    get("connection that names the host", Refused, &[("connection", "host")]),
    get("keep-alive", Refused, &[("keep-alive", "5")]),
    get("proxy-connection", Refused, &[("proxy-connection", "keep-alive")]),
    get("upgrade", Refused, &[("upgrade", "websocket")]),
    body(
        "transfer-encoding",
        Refused,
        &[(":method", "POST"), ("transfer-encoding", "chunked")],
        "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    body(
        "transfer-encoding and a length",
        Refused,
        &[(":method", "POST"), ("transfer-encoding", "chunked"), ("content-length", "4")],
        "body",
    ),
    get("transfer-encoding identity", Refused, &[("transfer-encoding", "identity")]),
    get("te with more than trailers", Refused, &[("te", "trailers, deflate")]),
    get("te chunked", Refused, &[("te", "chunked")]),
    body("length below the body", Refused, &[(":method", "POST"), ("content-length", "2")], "body"),
    body("length above the body", Refused, &[(":method", "POST"), ("content-length", "9")], "body"),
    body("length with a plus", Refused, &[(":method", "POST"), ("content-length", "+4")], "body"),
    body("length with a minus", Refused, &[(":method", "POST"), ("content-length", "-4")], "body"),
    body("empty length", Refused, &[(":method", "POST"), ("content-length", "")], "body"),
    body("length in hexadecimal", Refused, &[(":method", "POST"), ("content-length", "0x4")], "body"),
    body("length with a space", Refused, &[(":method", "POST"), ("content-length", "4 4")], "body"),
    body("length with letters", Refused, &[(":method", "POST"), ("content-length", "4a")], "body"),
    body(
        "length beyond 64 bits",
        Refused,
        &[(":method", "POST"), ("content-length", "18446744073709551620")],
        "body",
    ),
    body("list of lengths", Refused, &[(":method", "POST"), ("content-length", "4, 4")], "body"),
    body(
        "two equal lengths",
        Refused,
        &[(":method", "POST"), ("content-length", "4"), ("+content-length", "4")],
        "body",
    ),
    body(
        "two lengths",
        Refused,
        &[(":method", "POST"), ("content-length", "4"), ("+content-length", "5")],
        "body",
    ),
    get("length without a body", Refused, &[(":method", "POST"), ("content-length", "4")]),
    trailers("length in trailers", Refused, &[("content-length", "9")]),
    trailers("transfer-encoding in trailers", Refused, &[("transfer-encoding", "chunked")]),
    trailers("CRLF in trailers", Refused, &[("x-sum", "1\r\n\r\nGET /smuggled HTTP/1.1")]),
    trailers("upper case in trailers", Refused, &[("X-Sum", "1")]),
    get("connect with a path", Refused, &[(":method", "CONNECT"), ("-:scheme", "")]),
    get("connect with a scheme", Refused, &[(":method", "CONNECT"), ("-:path", "")]),
    get(
        "connect without an authority",
        Refused,
        &[(":method", "CONNECT"), ("-:scheme", ""), ("-:path", ""), ("-:authority", "")],
    ),
    get(
        "extended connect that was not offered",
        Refused,
        &[(":method", "CONNECT"), (":protocol", "websocket")],
    ),
    get("protocol without connect", Refused, &[(":protocol", "websocket")]),
    // The last one: its head is a whole request, which may reach the endpoint when it has been judged.
    body(
        "request behind a length of 0",
        Refused,
        &[(":method", "POST"), ("content-length", "0")],
        "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
];
