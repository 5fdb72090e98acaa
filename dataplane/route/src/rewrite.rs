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
