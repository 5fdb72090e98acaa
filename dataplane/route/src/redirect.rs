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
