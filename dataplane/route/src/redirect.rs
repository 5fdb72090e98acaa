//! `Location` of redirects.

use millrace_config::{Redirect, RedirectPath, RouteMatch};
use millrace_http::{HeaderId, RequestHead};

use crate::path::without_query;
use crate::rewrite::{replace_prefix, replace_regex};

/// Writes `Location` of a virtual host with `require_tls`: the same host and path with `https`.
pub fn tls_location(head: &RequestHead, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"https://");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(head.path());
}

/// Writes the request's own URL to `out` (cleared first).
pub fn own_location(head: &RequestHead, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(head.scheme());
    out.extend_from_slice(b"://");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(head.path());
}

/// Writes `Location` of a redirect route to `out` (cleared first).
pub fn location(redirect: &Redirect, matcher: &RouteMatch, head: &RequestHead, out: &mut Vec<u8>) {
    out.clear();
    let scheme = redirect.scheme.as_deref().filter(|s| !s.is_empty()).unwrap_or(head.scheme());
    out.extend_from_slice(scheme);
    out.extend_from_slice(b"://");
    match redirect.host.as_deref().filter(|host| !host.is_empty()) {
        Some(host) => out.extend_from_slice(host),
        None => out.extend_from_slice(request_host(head, scheme, redirect.port.is_some())),
    }
    if let Some(port) = redirect.port {
        out.push(b':');
        write_number(port, out);
    }
    write_path(redirect, matcher, head.path(), out);
}

/// The request's authority, without its port when another one replaces it, or when the scheme changes and the
/// port was the default of the scheme that the client used (`x-forwarded-proto`).
fn request_host<'h>(head: &'h RequestHead, scheme: &[u8], replaced: bool) -> &'h [u8] {
    let authority = head.authority();
    let Some(at) =
        authority.iter().rposition(|b| matches!(b, b':' | b']')).filter(|at| authority[*at] == b':')
    else {
        return authority;
    };
    let used = head.headers.get(HeaderId::XForwardedProto).unwrap_or_default();
    let default: &[u8] = match used {
        _ if used.eq_ignore_ascii_case(b"https") => b":443",
        _ if used.eq_ignore_ascii_case(b"http") => b":80",
        _ => b"",
    };
    let (host, port) = authority.split_at(at);
    if replaced || (scheme != used && port == default) { host } else { authority }
}

fn write_number(number: u16, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}

fn write_path(redirect: &Redirect, matcher: &RouteMatch, path: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    match &redirect.path {
        RedirectPath::Keep => out.extend_from_slice(path),
        RedirectPath::Replace(new) => {
            out.extend_from_slice(new);
            // A query of the configured path wins over the request's, and over `strip_query`.
            if new.contains(&b'?') {
                return;
            }
            out.extend_from_slice(&path[without_query(path).len()..]);
        }
        RedirectPath::Prefix(prefix) => {
            if !replace_prefix(matcher, path, prefix, out) {
                out.extend_from_slice(path);
            }
        }
        RedirectPath::Regex { pattern, substitution } => replace_regex(path, pattern, substitution, out),
    }
    if redirect.strip_query {
        let kept = out[start..].iter().position(|b| *b == b'?');
        out.truncate(kept.map_or(out.len(), |kept| start + kept));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::PathMatcher;

    use super::*;
    use crate::test::{bytes, head, matching, redirect, text};

    fn to(
        change: impl FnOnce(&mut Redirect),
        matcher: &RouteMatch,
        proto: &str,
        url: (&str, &str),
    ) -> String {
        let (mut redirect, mut out) = (redirect(), Vec::new());
        change(&mut redirect);
        let mut head = head("GET", url.0, url.1);
        head.set_scheme(proto.as_bytes());
        head.headers.append(b"x-forwarded-proto", proto.as_bytes());
        location(&redirect, matcher, &head, &mut out);
        text(&out)
    }

    fn scheme(scheme: &'static str) -> impl Fn(&mut Redirect) {
        move |r| r.scheme = Some(bytes(scheme))
    }

    #[test]
    fn ports_as_envoy_1_40_keeps_and_drops_them() {
        let any = RouteMatch::any();
        let cases = [
            ("https", "http", "h", "https://h/x"),
            ("https", "http", "h:80", "https://h/x"),
            ("https", "http", "h:443", "https://h:443/x"),
            ("https", "http", "h:8080", "https://h:8080/x"),
            ("https", "http", "[::1]:80", "https://[::1]/x"),
            ("https", "http", "[::1]", "https://[::1]/x"),
            ("https", "https", "h:80", "https://h:80/x"),
            ("https", "https", "h:443", "https://h:443/x"),
            ("http", "http", "h:80", "http://h:80/x"),
            ("http", "https", "h:443", "http://h/x"),
            ("http", "https", "h:80", "http://h:80/x"),
            ("HTTPS", "http", "h:80", "HTTPS://h/x"),
        ];
        for (new, proto, host, expected) in cases {
            assert_eq!(to(scheme(new), &any, proto, (host, "/x")), expected, "{new} {proto} {host}");
        }
        let host = |r: &mut Redirect| r.host = Some(bytes("new.example"));
        assert_eq!(to(host, &any, "https", ("h:80", "/x?y")), "https://new.example/x?y");
        let both = |r: &mut Redirect| (r.scheme, r.port) = (Some(bytes("https")), Some(8443));
        assert_eq!(to(both, &any, "http", ("[::1]:80", "/x")), "https://[::1]:8443/x");
        let none = |r: &mut Redirect| r.host = Some(Arc::from(&b""[..]));
        assert_eq!(to(none, &any, "http", ("h:80", "/x")), "http://h:80/x");
    }

    #[test]
    fn paths_and_queries() {
        let prefix = |p: &str| matching(PathMatcher::Prefix(bytes(p)));
        let replace = |p: &'static str, strip| {
            move |r: &mut Redirect| (r.path, r.strip_query) = (RedirectPath::Replace(bytes(p)), strip)
        };
        let go =
            |change: &dyn Fn(&mut Redirect), m: &str, path| to(change, &prefix(m), "http", ("h:80", path));
        assert_eq!(go(&replace("/np", false), "/r4", "/r4/a?b=c"), "http://h:80/np?b=c");
        assert_eq!(go(&replace("/np?x=1", false), "/r5", "/r5/a?b=c"), "http://h:80/np?x=1");
        assert_eq!(go(&replace("/np", true), "/r6", "/r6?b"), "http://h:80/np");
        assert_eq!(go(&replace("/np?x=1", true), "/rg", "/rg?q"), "http://h:80/np?x=1");
        assert_eq!(go(&replace("/np#frag", false), "/rf", "/rf?q"), "http://h:80/np#frag?q");
        let new = |r: &mut Redirect| r.path = RedirectPath::Prefix(bytes("/new"));
        assert_eq!(go(&new, "/r8", "/r8/a?b"), "http://h:80/new/a?b");
        let exact = matching(PathMatcher::Exact(bytes("/rc")));
        assert_eq!(to(new, &exact, "http", ("h", "/rc?x")), "http://h/new?x");
        let regex = |r: &mut Redirect| {
            r.path = RedirectPath::Regex {
                pattern: regex::bytes::Regex::new("^/r9/(.*)$").unwrap(),
                substitution: bytes("/x/${1}/y"),
            };
        };
        assert_eq!(go(&regex, "/r9", "/r9/a?b"), "http://h:80/x/a/y?b");
        let mut out = Vec::new();
        tls_location(&head("GET", "PORT:80", "/x?y"), &mut out);
        assert_eq!(text(&out), "https://PORT:80/x?y");
        own_location(&head("GET", "h:80", "/dm"), &mut out);
        assert_eq!(text(&out), "http://h:80/dm");
    }
}
