//! Absolute `http` and `https` URLs, as redirects name them.

/// The parts of a URL that a request has. The fragment is no part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsoluteUrl<'u> {
    /// The scheme is `https`.
    pub https: bool,
    /// Host and port as they were written.
    pub authority: &'u [u8],
    /// Path and query; empty, or without a leading `/`, when the URL has no path.
    pub path: &'u [u8],
}

impl<'u> AbsoluteUrl<'u> {
    /// Takes a text apart; `None` for everything else.
    pub fn parse(text: &'u [u8]) -> Option<Self> {
        let colon = text.windows(3).position(|three| three == b"://")?;
        let https = match &text[..colon] {
            scheme if scheme.eq_ignore_ascii_case(b"http") => false,
            scheme if scheme.eq_ignore_ascii_case(b"https") => true,
            _ => return None,
        };
        let rest = &text[colon + 3..];
        let end = rest.iter().position(|b| *b == b'#').unwrap_or(rest.len());
        let rest = &rest[..end];
        let path = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'@' | b'\\' | b'"' | b'<' | b'>');
        (!authority.is_empty()
            && port_is_possible(authority)
            && authority.iter().all(plain)
            && path.iter().all(u8::is_ascii_graphic))
        .then_some(Self { https, authority, path })
    }

    /// It is a URL, but of something else, such as `ftp`.
    pub fn has_other_scheme(text: &[u8]) -> bool {
        let scheme = text.windows(3).position(|three| three == b"://").map(|colon| &text[..colon]);
        scheme.is_some_and(|scheme| {
            !scheme.is_empty()
                && scheme.iter().all(u8::is_ascii_alphabetic)
                && ![&b"http"[..], b"https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        })
    }

    /// Its scheme.
    pub fn scheme(&self) -> &'static [u8] {
        if self.https { b"https" } else { b"http" }
    }
}

/// A port after the last colon, outside of brackets, is no more than 65535.
fn port_is_possible(authority: &[u8]) -> bool {
    let Some(colon) = authority.iter().rposition(|b| *b == b':') else { return true };
    let port = &authority[colon + 1..];
    if port.contains(&b']') {
        return true;
    }
    port.is_empty() || std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_what_is_none() {
        let parts = |url: &'static str| {
            AbsoluteUrl::parse(url.as_bytes()).map(|url| (url.https, url.authority, url.path))
        };
        assert_eq!(parts("http://h/p?q#f"), Some((false, &b"h"[..], &b"/p?q"[..])));
        assert_eq!(parts("HTTPS://h:1?q"), Some((true, &b"h:1"[..], &b"?q"[..])));
        assert_eq!(parts("http://[::1]:80"), Some((false, &b"[::1]:80"[..], &b""[..])));
        for none in [
            "",
            "/p",
            "h",
            "ftp://h/",
            "http:///p",
            "http://u@h/",
            "http://a b/",
            "http://h/a b",
            "http://h:65536/",
        ] {
            assert_eq!(parts(none), None, "{none}");
        }
        assert_eq!(parts("http://h:65535/").map(|url| url.1), Some(&b"h:65535"[..]));
        for (text, other) in
            [("ftp://h/", true), ("HTTP://h", false), ("https://h", false), ("://h", false), ("/p", false)]
        {
            assert_eq!(AbsoluteUrl::has_other_scheme(text.as_bytes()), other, "{text}");
        }
    }
}
