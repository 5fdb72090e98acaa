//! Hop-by-hop fields: what must not travel further (RFC 9110 section 7.6.1), as Envoy removes it.
//!
//! Framing, keep-alive and upgrade decisions come first; they read the fields that this removes.

use crate::h1::{RequestError, has_token, upgrade_type};
use crate::head::{RequestHead, ResponseHead};
use crate::header::{HeaderId, HeaderMap};

/// Most fields that `Connection` may name, as in Envoy; more is 400.
const NOMINATED_MAX: usize = 10;

/// Removes hop-by-hop fields and those that `Connection` names. With `keep_upgrade` (the route allows this
/// upgrade) `Connection` and `Upgrade` stay as they came; `h2c` is never kept. `TE` stays only as `trailers`.
///
/// A `Connection` that names a framing or identity field, a pseudo-header field, or too many fields is an
/// attempt to make us strip what others rely on: [`RequestError::ConnectionRejected`].
pub fn strip_request(head: &mut RequestHead, keep_upgrade: bool) -> Result<(), RequestError> {
    let headers = &mut head.headers;
    if headers.contains(HeaderId::Connection) {
        check_nominated(headers)?;
        let keep =
            keep_upgrade && upgrade_type(headers).is_some_and(|kind| !kind.eq_ignore_ascii_case(b"h2c"));
        let h2c = has_token(headers, HeaderId::Connection, b"http2-settings");
        remove_nominated(headers);
        if h2c {
            headers.remove_id(HeaderId::Http2Settings);
        }
        if !keep {
            headers.remove_id(HeaderId::Connection);
            headers.remove_id(HeaderId::Upgrade);
        }
    } else {
        headers.remove_id(HeaderId::Upgrade);
    }
    if headers.contains(HeaderId::Te) {
        match has_token(headers, HeaderId::Te, b"trailers") {
            true => _ = headers.set_id(HeaderId::Te, b"trailers"),
            false => _ = headers.remove_id(HeaderId::Te),
        }
    }
    strip_common(headers);
    Ok(())
}

/// Removes hop-by-hop fields of a response. `Connection` and `Upgrade` stay in a 101. Unlike in requests, a
/// `Connection` that names framing or identity fields is not an error: those fields simply stay.
pub fn strip_response(head: &mut ResponseHead) {
    let headers = &mut head.headers;
    if headers.contains(HeaderId::Connection) {
        remove_nominated(headers);
    }
    if head.status != 101 {
        headers.remove_id(HeaderId::Connection);
        headers.remove_id(HeaderId::Upgrade);
    }
    strip_common(headers);
}

fn strip_common(headers: &mut HeaderMap) {
    const IDS: [HeaderId; 3] = [HeaderId::KeepAlive, HeaderId::ProxyConnection, HeaderId::TransferEncoding];
    if headers.contains_any(const { HeaderId::set(&IDS) }) {
        for id in IDS {
            headers.remove_id(id);
        }
    }
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> + Clone {
    headers
        .values(HeaderId::Connection)
        .flat_map(|value| value.split(|b| *b == b','))
        .map(crate::h1::trim_ows)
        .filter(|token| !token.is_empty())
}

/// Options of the connection itself, which are no field names, and fields that are handled on their own.
fn is_option(token: &[u8]) -> bool {
    const OPTIONS: [&[u8]; 8] = [
        b"close",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"proxy-connection",
        b"http2-settings",
        b"connection",
        b"trailer",
    ];
    OPTIONS.iter().any(|option| token.eq_ignore_ascii_case(option))
}

fn protected(token: &[u8]) -> bool {
    let mut buffer = [0; 48];
    let Some(lower) = buffer.get_mut(..token.len()) else { return false };
    for (to, from) in lower.iter_mut().zip(token) {
        *to = from.to_ascii_lowercase();
    }
    HeaderId::lookup(lower).is_some_and(|id| id.is_framing() || id.is_identity())
}

fn check_nominated(headers: &HeaderMap) -> Result<(), RequestError> {
    for (count, token) in tokens(headers).enumerate() {
        let harmless = is_option(token) || (crate::header::is_token(token) && !protected(token));
        if count >= NOMINATED_MAX || !harmless {
            return Err(RequestError::ConnectionRejected);
        }
    }
    Ok(())
}

/// Removes the fields that `Connection` names, protected ones excepted.
fn remove_nominated(headers: &mut HeaderMap) {
    // The nominating values are read while the map changes: a bounded number of positions, looked up anew.
    for index in 0..NOMINATED_MAX {
        let mut name = [0; 128];
        let Some(token) = tokens(headers).filter(|t| !is_option(t)).nth(index) else { return };
        let Some(copy) = name.get_mut(..token.len()) else { continue };
        for (to, from) in copy.iter_mut().zip(token) {
            *to = from.to_ascii_lowercase();
        }
        let copy = &name[..token.len()];
        if !protected(copy) {
            headers.remove_name(copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn strip(keep: bool, fields: &[(&str, &str)]) -> Result<Vec<String>, RequestError> {
        let mut head = RequestHead::new();
        for (n, v) in fields {
            head.headers.append(n.as_bytes(), v.as_bytes());
        }
        strip_request(&mut head, keep)?;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        Ok(head.headers.iter().map(|(n, v)| std::format!("{}: {}", text(n), text(v))).collect())
    }

    #[test]
    fn named_and_standard_hop_fields_go() {
        let fields = [
            ("connection", "a, B ,keep-alive"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("keep-alive", "4"),
            ("proxy-connection", "5"),
            ("te", "gzip"),
            ("upgrade", "foo"),
            ("transfer-encoding", "chunked"),
            ("a", "6"),
        ];
        assert_eq!(strip(false, &fields).as_deref(), Ok(&["c: 3".into()][..]));
    }

    #[test]
    fn upgrades_stay_only_when_allowed() {
        let fields = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        let kept = ["connection: keep-alive, Upgrade".into(), "upgrade: WebSocket".into()];
        assert_eq!(strip(true, &fields).as_deref(), Ok(&kept[..]));
        assert_eq!(strip(false, &fields).as_deref(), Ok(&[][..]));
        let h2c = [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAA")];
        assert_eq!(strip(true, &h2c).as_deref(), Ok(&[][..]));
        assert_eq!(strip(true, &fields[1..]).as_deref(), Ok(&[][..]));
    }

    #[test]
    fn te_is_reduced_to_trailers() {
        assert_eq!(strip(false, &[("te", "gzip, Trailers")]).as_deref(), Ok(&["te: trailers".into()][..]));
        let named = [("connection", "te"), ("te", "trailers")];
        assert_eq!(strip(false, &named).as_deref(), Ok(&["te: trailers".into()][..]));
    }

    #[test]
    fn framing_and_identity_cannot_be_named() {
        let names = [
            "Host",
            "content-length",
            "authorization",
            "X-Forwarded-For",
            ":path",
            "x-envoy-internal",
            "a b",
            "cookie",
        ];
        for name in names {
            let fields = [("connection", name), ("content-length", "1")];
            assert_eq!(strip(false, &fields), Err(RequestError::ConnectionRejected), "{name}");
        }
        let many = "a,b,c,d,e,f,g,h,i,j,k";
        assert_eq!(strip(false, &[("connection", many)]), Err(RequestError::ConnectionRejected));
        assert_eq!(strip(false, &[("connection", &many[..19])]).as_deref(), Ok(&[][..]));
    }

    #[test]
    fn responses_keep_upgrade_fields_only_in_a_101() {
        let mut head = ResponseHead::new();
        for status in [200, 101] {
            head.clear();
            head.status = status;
            for (n, v) in
                [("connection", "upgrade, x"), ("upgrade", "websocket"), ("x", "1"), ("keep-alive", "2")]
            {
                head.headers.append(n.as_bytes(), v.as_bytes());
            }
            strip_response(&mut head);
            assert_eq!(head.headers.len(), if status == 101 { 2 } else { 0 });
        }
    }
}
