//! Request targets and authorities (RFC 9112 section 3.2, RFC 3986 section 3.2).

use memchr::memchr;

use super::error::RequestError;
use crate::block;
use crate::head::{Method, RequestHead};
use crate::header::token::{CLASS, HOST};

/// Splits a target, already free of bytes that may not stand in one, into the head's pseudo-header fields.
/// Origin-form leaves the authority to `Host`.
pub(crate) fn split(target: &[u8], absolute: bool, head: &mut RequestHead) -> Result<(), RequestError> {
    let method = head.method_kind();
    if method == Method::Connect {
        return connect(target, head);
    }
    match target {
        b"*" if method == Method::Options => head.set_path(target),
        [b'/', ..] => head.set_path(target),
        _ if absolute => return absolute_form(target, method, head),
        _ => return Err(RequestError::BadTarget),
    }
    Ok(())
}

fn connect(target: &[u8], head: &mut RequestHead) -> Result<(), RequestError> {
    if !has_port(target) || !is_valid_authority(target) {
        return Err(RequestError::BadTarget);
    }
    head.set_authority(target);
    Ok(())
}

fn absolute_form(target: &[u8], method: Method, head: &mut RequestHead) -> Result<(), RequestError> {
    let colon = memchr(b':', target).ok_or(RequestError::BadTarget)?;
    let rest = target[colon..].strip_prefix(b"://").ok_or(RequestError::BadTarget)?;
    let scheme: &[u8] = match &target[..colon] {
        s if s.eq_ignore_ascii_case(b"http") => b"http",
        s if s.eq_ignore_ascii_case(b"https") => b"https",
        _ => return Err(RequestError::BadScheme),
    };
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_valid_authority(authority) {
        return Err(RequestError::BadTarget);
    }
    head.set_scheme(scheme);
    head.set_authority(authority);
    match path {
        [] if method == Method::Options => head.set_path(b"*"),
        [] => head.set_path(b"/"),
        [b'/', ..] => head.set_path(path),
        _ => head.set_path_after_slash(path),
    }
    Ok(())
}

/// True for an authority with a port that can be connected to, as CONNECT needs (RFC 9110 section 9.3.6).
pub(crate) fn has_port(authority: &[u8]) -> bool {
    port_of(authority).is_some_and(|port| port != 0)
}

/// The port of `host:port`; `None` without one or when it is no number up to 65535.
fn port_of(authority: &[u8]) -> Option<u16> {
    let at = authority.iter().rposition(|b| *b == b':')?;
    parse_port(&authority[at + 1..])
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let port =
        digits.iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))?;
    u16::try_from(port).ok()
}

/// True for a non-empty `uri-host [":" port]` without user information, list or path. An empty port is
/// legal; `_` is accepted in names because meshes use it.
pub fn is_valid_authority(authority: &[u8]) -> bool {
    if let [b'[', rest @ ..] = authority {
        let Some(end) = memchr(b']', rest) else { return false };
        return is_ipv6ish(&rest[..end]) && is_port_part(&rest[end + 1..]);
    }
    let host_len = memchr(b':', authority).unwrap_or(authority.len());
    host_len > 0 && is_reg_name(&authority[..host_len]) && is_port_part(&authority[host_len..])
}

fn is_port_part(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => parse_port(digits).is_some(),
        _ => false,
    }
}

fn is_ipv6ish(text: &[u8]) -> bool {
    text.len() >= 2
        && memchr(b':', text).is_some()
        && text.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
}

fn is_reg_name(mut text: &[u8]) -> bool {
    // Letters, digits and `-._~` eight at a time; nearly every name is made of those.
    if block::none(text, |word| block::not_path(word) | block::slashes(word)) {
        return true;
    }
    loop {
        let plain = text.iter().take_while(|b| CLASS[**b as usize] & HOST != 0).count();
        text = match &text[plain..] {
            [] => return true,
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, target: &str) -> Result<[alloc::string::String; 3], RequestError> {
        let mut head = RequestHead::new();
        head.set_method(method.as_bytes());
        split(target.as_bytes(), true, &mut head)?;
        let text = |b: &[u8]| alloc::string::String::from_utf8_lossy(b).into_owned();
        Ok([text(head.scheme()), text(head.authority()), text(head.path())])
    }

    #[test]
    fn the_four_forms() {
        let ok = |m, t, s: &str, a: &str, p: &str| {
            assert_eq!(parts(m, t), Ok([s.into(), a.into(), p.into()]), "{m} {t}")
        };
        ok("GET", "/a?b", "", "", "/a?b");
        ok("GET", "//a/b", "", "", "//a/b");
        ok("OPTIONS", "*", "", "", "*");
        ok("GET", "HTTP://h:80/x", "http", "h:80", "/x");
        ok("GET", "https://h", "https", "h", "/");
        ok("GET", "http://h?q", "http", "h", "/?q");
        ok("OPTIONS", "http://h", "http", "h", "*");
        ok("CONNECT", "h:443", "", "h:443", "");
        ok("CONNECT", "[::1]:443", "", "[::1]:443", "");
    }

    #[test]
    fn everything_else_is_refused() {
        for (method, target) in [
            ("GET", "*"),
            ("GET", "a"),
            ("GET", "?q"),
            ("GET", "http:/h"),
            ("GET", "http:///x"),
            ("GET", "http://u@h/"),
            ("GET", "http://h:99999/"),
            ("GET", "http://a,b/"),
            ("CONNECT", "/x"),
            ("CONNECT", "h"),
            ("CONNECT", "h:"),
            ("CONNECT", "h:0"),
            ("CONNECT", "http://h/"),
            ("CONNECT", "u@h:1"),
            ("OPTIONS", "**"),
            ("GET", "h:80"),
        ] {
            assert_eq!(parts(method, target), Err(RequestError::BadTarget), "{method} {target}");
        }
        assert_eq!(parts("GET", "ftp://h/"), Err(RequestError::BadScheme));
    }

    #[test]
    fn authorities() {
        for good in ["a", "a.b-c_d~1", "a:", "a:80", "[::1]", "[::ffff:1.2.3.4]:80", "%61", "1.2.3.4:65535"] {
            assert!(is_valid_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:65536",
            "a:000080",
            "a:+1",
            "u@a",
            "a/b",
            "a,b",
            "a b",
            "a?b",
            "a#b",
            "[::1",
            "[]",
            "[::1]x",
            "[g::]",
            "::1",
            "a\\b",
            "a%zz",
            "a%6",
            "[::1%25eth0]",
            "a\"",
        ] {
            assert!(!is_valid_authority(bad.as_bytes()), "{bad}");
        }
    }
}
