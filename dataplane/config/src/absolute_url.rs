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
        (!authority.is_empty() && authority.iter().all(plain) && path.iter().all(u8::is_ascii_graphic))
            .then_some(Self { https, authority, path })
    }

    /// Its scheme.
    pub fn scheme(&self) -> &'static [u8] {
        if self.https { b"https" } else { b"http" }
    }
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
        for none in ["", "/p", "h", "ftp://h/", "http:///p", "http://u@h/", "http://a b/", "http://h/a b"] {
            assert_eq!(parts(none), None, "{none}");
        }
    }
}
