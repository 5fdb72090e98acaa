//! Request and response heads, neutral to the protocol version that carries them.
//!
//! As in Envoy, `Host` of HTTP/1 is the authority and does not stand among the fields.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::header::HeaderMap;

/// The version that a message arrived with or leaves with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As `%PROTOCOL%` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Methods that the data plane treats specially (RFC 9110 section 9.3); methods are case-sensitive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the method of its name")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token.
    #[default]
    Other,
}

impl Method {
    /// Classifies the bytes of a method.
    #[inline]
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// A pseudo-header field of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Method,
    Path,
    Authority,
    Scheme,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    at: u32,
    len: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.at as usize..self.at as usize + self.len as usize
    }
}

/// A request head: pseudo-header fields and fields. Reused from request to request.
#[derive(Clone, Default)]
pub struct RequestHead {
    /// The fields, without `host`.
    pub headers: HeaderMap,
    /// The version that the request arrived with.
    pub version: Version,
    text: Vec<u8>,
    /// The class of `method`.
    kind: Method,
    method: Span,
    path: Span,
    authority: Span,
    scheme: Span,
}

impl RequestHead {
    /// An empty head that allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and keeps the allocations.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.text.clear();
        (self.version, self.kind) = Default::default();
        (self.method, self.path, self.authority, self.scheme) = Default::default();
    }

    /// `:method`; empty only in a cleared head.
    #[inline]
    pub fn method(&self) -> &[u8] {
        &self.text[self.method.range()]
    }

    /// The method's class.
    #[inline]
    pub fn method_kind(&self) -> Method {
        self.kind
    }

    /// `:path` with its query; `*` for server-wide OPTIONS; empty for CONNECT.
    #[inline]
    pub fn path(&self) -> &[u8] {
        &self.text[self.path.range()]
    }

    /// `:authority`: from an absolute-form target or else from `host`; empty when there is none.
    #[inline]
    pub fn authority(&self) -> &[u8] {
        &self.text[self.authority.range()]
    }

    /// `:scheme`; empty until the target names one or somebody sets it.
    #[inline]
    pub fn scheme(&self) -> &[u8] {
        &self.text[self.scheme.range()]
    }

    /// Replaces `:method`. Bytes that are no visible ASCII are dropped, here and in the other setters.
    pub fn set_method(&mut self, method: &[u8]) {
        self.method = self.write(self.method, method);
        self.kind = Method::of(self.method());
    }

    /// Replaces `:path`.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.write(self.path, path);
    }

    /// Replaces `:path` by `/` and the query or fragment of an absolute-form target without a path.
    pub(crate) fn set_path_after_slash(&mut self, rest: &[u8]) {
        let at = self.text.len();
        self.text.push(b'/');
        self.text.extend_from_slice(rest);
        self.path = Span { at: at as u32, len: (rest.len() + 1) as u32 };
    }

    /// Replaces `:authority`.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.write(self.authority, authority);
    }

    /// Replaces `:scheme`.
    pub fn set_scheme(&mut self, scheme: &[u8]) {
        self.scheme = self.write(self.scheme, scheme);
    }

    /// Sets a pseudo-header field of a head that has none of that name yet, from bytes that were checked already.
    #[inline]
    pub(crate) fn put(&mut self, part: Part, text: &[u8]) {
        let span = Span { at: self.text.len() as u32, len: text.len() as u32 };
        self.text.extend_from_slice(text);
        match part {
            Part::Method => (self.method, self.kind) = (span, Method::of(text)),
            Part::Path => self.path = span,
            Part::Authority => self.authority = span,
            Part::Scheme => self.scheme = span,
        }
    }

    /// Length of names and values as Envoy's `byteSize` counts a request's header map, pseudo-header
    /// fields included.
    pub fn byte_len(&self) -> usize {
        let pseudo = [(7, self.method), (5, self.path), (10, self.authority), (7, self.scheme)];
        let pseudo: usize = pseudo.iter().filter(|(_, s)| s.len > 0).map(|(n, s)| n + s.len as usize).sum();
        pseudo + self.headers.byte_len()
    }

    // A setter must not let SP, CR or LF into a request line whatever a rewrite template produced.
    fn write(&mut self, old: Span, new: &[u8]) -> Span {
        let clean = crate::block::none(new, crate::block::not_graphic)
            || crate::header::token::all(new, crate::header::token::TARGET);
        if clean && new.len() == old.len as usize {
            self.text[old.range()].copy_from_slice(new);
            return old;
        }
        let at = self.text.len();
        if clean {
            self.text.extend_from_slice(new);
        } else {
            self.text.extend(new.iter().copied().filter(u8::is_ascii_graphic));
        }
        Span { at: at as u32, len: (self.text.len() - at) as u32 }
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |b| alloc::string::String::from_utf8_lossy(b).into_owned();
        f.debug_struct("RequestHead")
            .field("method", &text(self.method()))
            .field("scheme", &text(self.scheme()))
            .field("authority", &text(self.authority()))
            .field("path", &text(self.path()))
            .field("version", &self.version)
            .field("headers", &self.headers)
            .finish()
    }
}

/// Equal when every pseudo-header field, the version and the fields are.
impl PartialEq for RequestHead {
    fn eq(&self, other: &Self) -> bool {
        self.method() == other.method()
            && self.path() == other.path()
            && self.authority() == other.authority()
            && self.scheme() == other.scheme()
            && self.version == other.version
            && self.headers == other.headers
    }
}

impl Eq for RequestHead {}

/// A response head. Reused from response to response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// `:status`, 100-999; 0 only in a cleared head.
    pub status: u16,
    /// The fields.
    pub headers: HeaderMap,
    /// The version that the response arrived with.
    pub version: Version,
    reason: Vec<u8>,
}

impl ResponseHead {
    /// An empty head that allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and keeps the allocations.
    pub fn clear(&mut self) {
        self.status = 0;
        self.headers.clear();
        self.version = Version::default();
        self.reason.clear();
    }

    /// The reason phrase that came from the upstream; informative only, never forwarded by default.
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Replaces the reason phrase; bytes that may not stand in one become spaces.
    pub fn set_reason(&mut self, reason: &[u8]) {
        self.reason.clear();
        self.reason
            .extend(reason.iter().map(|b| if crate::header::is_valid_value(&[*b]) { *b } else { b' ' }));
    }

    /// Length of names and values as Envoy's `byteSize` counts a response's header map.
    pub fn byte_len(&self) -> usize {
        ":status".len() + 3 + self.headers.byte_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudo_fields_are_replaced_and_cleared() {
        let mut head = RequestHead::new();
        head.set_method(b"GET");
        head.set_path(b"/a");
        head.set_authority(b"host");
        head.set_path(b"/longer?x");
        head.set_method(b"PUT");
        assert_eq!(
            (head.method(), head.path(), head.authority()),
            (&b"PUT"[..], &b"/longer?x"[..], &b"host"[..])
        );
        assert_eq!(head.byte_len(), 7 + 3 + 5 + 9 + 10 + 4);
        head.clear();
        assert_eq!(head, RequestHead::new());
    }

    #[test]
    fn setters_cannot_split_a_request_line() {
        let mut head = RequestHead::new();
        head.set_path(b"/a HTTP/1.1\r\nx: y\r\n\r\n\x80");
        assert_eq!(head.path(), b"/aHTTP/1.1x:y");
        let mut response = ResponseHead::new();
        response.set_reason(b"fine\r\nx: y");
        assert_eq!(response.reason(), b"fine  x: y");
    }
}
