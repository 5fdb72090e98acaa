//! Path and host rewriting of forwarding routes.

use millrace_config::{HostRewrite, PathRewrite, RouteForward, RouteMatch};
use millrace_http::RequestHead;
use regex::bytes::Regex;

use crate::path::{matched_len, without_query};

/// Writes the rewritten path to `out` (cleared first); false, with `out` empty, when the path stays.
pub fn path(matcher: &RouteMatch, forward: &RouteForward, path: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    match &forward.path_rewrite {
        None => false,
        Some(PathRewrite::Prefix(prefix)) => replace_prefix(matcher, path, prefix, out),
        Some(PathRewrite::Regex { pattern, substitution }) => {
            replace_regex(path, pattern, substitution, out);
            true
        }
    }
}

/// Replaces what the matcher matched; false when it matches nothing of this path.
pub(crate) fn replace_prefix(matcher: &RouteMatch, path: &[u8], prefix: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(len) = matched_len(matcher, path) else { return false };
    out.extend_from_slice(prefix);
    out.extend_from_slice(&path[len.min(path.len())..]);
    true
}

/// Replaces every match in the path before the query and appends the query.
pub(crate) fn replace_regex(path: &[u8], pattern: &Regex, substitution: &[u8], out: &mut Vec<u8>) {
    let bare = without_query(path);
    out.extend_from_slice(&pattern.replace_all(bare, substitution));
    out.extend_from_slice(&path[bare.len()..]);
}

/// Writes the new authority to `out` (cleared first). False, with `out` empty, when it stays, or when only
/// the endpoint's choice will tell ([`HostRewrite::Auto`]).
pub fn host(rewrite: Option<&HostRewrite>, head: &RequestHead, out: &mut Vec<u8>) -> bool {
    out.clear();
    match rewrite {
        None | Some(HostRewrite::Auto) => false,
        Some(HostRewrite::Literal(host)) => {
            out.extend_from_slice(host);
            true
        }
        Some(HostRewrite::Header(name)) => match head.headers.get_name(name).filter(|v| !v.is_empty()) {
            Some(value) => {
                out.extend_from_slice(value);
                true
            }
            None => false,
        },
        Some(HostRewrite::PathRegex { pattern, substitution }) => {
            out.extend_from_slice(&pattern.replace_all(without_query(head.path()), &**substitution));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_config::PathMatcher;

    use super::*;
    use crate::test::{bytes, head, matching, text};

    fn prefixed(matcher: PathMatcher, path: &str) -> Option<String> {
        let mut out = Vec::new();
        replace_prefix(&matching(matcher), path.as_bytes(), b"/new", &mut out).then(|| text(&out))
    }

    #[test]
    fn paths_as_envoy_1_40_rewrote_them() {
        let prefix = || PathMatcher::Prefix(bytes("/w1"));
        assert_eq!(prefixed(prefix(), "/w1/a?b").as_deref(), Some("/new/a?b"));
        assert_eq!(prefixed(prefix(), "/w1").as_deref(), Some("/new"));
        assert_eq!(prefixed(PathMatcher::Exact(bytes("/w2")), "/w2?x").as_deref(), Some("/new?x"));
        let separated = || PathMatcher::SeparatedPrefix(bytes("/w3"));
        assert_eq!(prefixed(separated(), "/w3/a").as_deref(), Some("/new/a"));
        assert_eq!(prefixed(separated(), "/w3?x").as_deref(), Some("/new?x"));
        let regex = regex::bytes::Regex::new("^(?:/w4.*)$").unwrap();
        assert_eq!(prefixed(PathMatcher::Regex(regex), "/w4/abc?x").as_deref(), Some("/new?x"));
        assert_eq!(prefixed(prefix(), "/other"), None);
        let mut out = Vec::new();
        let pattern = regex::bytes::Regex::new("/(w5|z)").unwrap();
        replace_regex(b"/w5/z/w5?w5", &pattern, b"/_${1}_${0}", &mut out);
        assert_eq!(text(&out), "/_w5_/w5/_z_/z/_w5_/w5?w5");
    }

    #[test]
    fn hosts_as_envoy_1_40_rewrote_them() {
        let mut request = head("GET", "h:80", "/w8/foo/bar?x");
        request.headers.append(b"x-a", b"via-header");
        request.headers.append(b"x-empty", b"");
        let to = |rewrite: HostRewrite| {
            let mut out = b"old".to_vec();
            host(Some(&rewrite), &request, &mut out).then(|| text(&out))
        };
        assert_eq!(to(HostRewrite::Literal(bytes("nh"))).as_deref(), Some("nh"));
        assert_eq!(to(HostRewrite::Header(bytes("x-a"))).as_deref(), Some("via-header"));
        assert_eq!(to(HostRewrite::Header(bytes("x-empty"))), None);
        assert_eq!(to(HostRewrite::Header(bytes("x-none"))), None);
        assert_eq!(to(HostRewrite::Auto), None);
        let pattern = regex::bytes::Regex::new("^/w8/(.+)/.*$").unwrap();
        let by_path = HostRewrite::PathRegex { pattern, substitution: bytes("${1}.x") };
        assert_eq!(to(by_path).as_deref(), Some("foo.x"));
    }
}
