//! What a head says about its connection: keep-alive, upgrades, tunnels, expectations.
//!
//! To be asked before [`crate::hop`] strips the fields.

use super::field::trim;
use crate::head::{RequestHead, ResponseHead, Version};
use crate::header::{HeaderId, HeaderMap};

/// True when a list field contains `token`, compared without case (RFC 9110 section 5.6.1).
pub fn has_token(headers: &HeaderMap, id: HeaderId, token: &[u8]) -> bool {
    headers
        .values(id)
        .any(|value| value.split(|b| *b == b',').any(|item| trim(item).eq_ignore_ascii_case(token)))
}

fn keep_alive(headers: &HeaderMap, version: Version) -> bool {
    let mask = HeaderId::Connection.bit() | HeaderId::ProxyConnection.bit();
    if headers.present() & mask == 0 {
        return version != Version::Http10;
    }
    let said = |token| {
        has_token(headers, HeaderId::Connection, token)
            || has_token(headers, HeaderId::ProxyConnection, token)
    };
    !said(b"close") && (version != Version::Http10 || said(b"keep-alive"))
}

/// True when the client wants the connection to persist (RFC 9112 section 9.3; `Proxy-Connection` counts,
/// as in Envoy).
pub fn request_keep_alive(head: &RequestHead) -> bool {
    keep_alive(&head.headers, head.version)
}

/// True when the upstream will keep the connection. A body that runs until the end of the connection, and a
/// 101, rule reuse out by their framing.
pub fn response_keep_alive(head: &ResponseHead) -> bool {
    keep_alive(&head.headers, head.version)
}

/// The protocol that an upgrade asks for or confirms: `Upgrade` is present and `Connection` lists it
/// (RFC 9110 section 7.8).
pub fn upgrade_type(headers: &HeaderMap) -> Option<&[u8]> {
    let protocol = headers.get(HeaderId::Upgrade)?;
    (!protocol.is_empty() && has_token(headers, HeaderId::Connection, b"upgrade")).then_some(protocol)
}

/// True when a response with this status ends HTTP on the connection, given what the request was.
pub fn response_opens_tunnel(status: u16, request: &super::RequestInfo) -> bool {
    (status == 101 && request.upgrade) || (request.connect && matches!(status, 200..=299))
}

/// What `Expect` asks for (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    None,
    /// Exactly `100-continue`.
    Continue,
    /// Anything else: 417.
    Unknown,
}

/// Reads `Expect`. HTTP/1.0 requests expect nothing.
pub fn expectation(head: &RequestHead) -> Expectation {
    let mut values = head.headers.values(HeaderId::Expect);
    match (values.next(), values.next()) {
        (None, _) => Expectation::None,
        (Some(_), _) if head.version == Version::Http10 => Expectation::None,
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Expectation::Continue,
        _ => Expectation::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        head.version = version;
        for (n, v) in fields {
            head.headers.append(n.as_bytes(), v.as_bytes());
        }
        head
    }

    #[test]
    fn persistence_follows_version_and_fields() {
        let keep = |version, fields: &[(&str, &str)]| request_keep_alive(&head(version, fields));
        assert!(keep(Version::Http11, &[]));
        assert!(keep(Version::Http11, &[("connection", "closed, x")]));
        assert!(!keep(Version::Http11, &[("connection", "x,\tClose")]));
        assert!(!keep(Version::Http11, &[("connection", "x"), ("connection", "close")]));
        assert!(!keep(Version::Http11, &[("proxy-connection", "close")]));
        assert!(!keep(Version::Http11, &[("connection", "keep-alive, close")]));
        assert!(!keep(Version::Http10, &[]));
        assert!(keep(Version::Http10, &[("connection", "Keep-Alive")]));
        assert!(!keep(Version::Http10, &[("connection", "upgrade")]));
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        let kind = |fields: &[(&str, &str)]| {
            upgrade_type(&head(Version::Http11, fields).headers).map(<[u8]>::to_vec)
        };
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(kind(&both).as_deref(), Some(&b"websocket"[..]));
        assert_eq!(kind(&both[1..]), None);
        assert_eq!(kind(&both[..1]), None);
    }

    #[test]
    fn expectations() {
        let of = |v: &str| expectation(&head(Version::Http11, &[("expect", v)]));
        assert_eq!(of("100-Continue"), Expectation::Continue);
        assert_eq!(of("y 100-continue"), Expectation::Unknown);
        assert_eq!(of("100-continue, x"), Expectation::Unknown);
        assert_eq!(of(""), Expectation::Unknown);
        assert_eq!(expectation(&head(Version::Http10, &[("expect", "100-continue")])), Expectation::None);
        assert_eq!(expectation(&head(Version::Http11, &[])), Expectation::None);
    }
}
