//! `Location` of redirects.

use millrace_config::{Redirect, RedirectPath, RouteMatch};
use millrace_http::{HeaderId, RequestHead};

use crate::path::without_query;
use crate::rewrite::{replace_prefix, replace_regex};
use crate::select::port_start;

/// Writes `Location` of a virtual host with `require_tls`: the same host and path with `https`.
pub fn tls_location(head: &RequestHead, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"https://");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(head.path());
}

/// Writes `Location` of a redirect route to `out` (cleared first).
pub fn location(redirect: &Redirect, matcher: &RouteMatch, head: &RequestHead, out: &mut Vec<u8>) {
    out.clear();
    let old_scheme = old_scheme(head);
    let scheme = redirect.scheme.as_deref().unwrap_or(old_scheme);
    out.extend_from_slice(scheme);
    out.extend_from_slice(b"://");
    let authority = head.authority();
    let (host, port) = split_port(authority);
    // A scheme that changes takes the old scheme's default port with it.
    let default_port: Option<&[u8]> = match (old_scheme, redirect.scheme.as_deref()) {
        (b"http", Some(b"https")) => Some(b":80"),
        (b"https", Some(b"http")) => Some(b":443"),
        _ => None,
    };
    let port = Some(port).filter(|p| Some(*p) != default_port).unwrap_or_default();
    out.extend_from_slice(redirect.host.as_deref().unwrap_or(host));
    match redirect.port {
        Some(port) => {
            out.push(b':');
            out.extend_from_slice(port.to_string().as_bytes());
        }
        None if redirect.host.is_none() => out.extend_from_slice(port),
        None => {}
    }
    write_path(redirect, matcher, head.path(), out);
}

fn old_scheme(head: &RequestHead) -> &[u8] {
    head.headers.get(HeaderId::XForwardedProto).filter(|p| !p.is_empty()).unwrap_or(head.scheme())
}

fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    authority.split_at(port_start(authority).unwrap_or(authority.len()))
}

fn write_path(redirect: &Redirect, matcher: &RouteMatch, path: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    match &redirect.path {
        RedirectPath::Keep => out.extend_from_slice(path),
        RedirectPath::Replace(new) => {
            out.extend_from_slice(new);
            // A query of the configured path wins over the request's.
            if !new.contains(&b'?') {
                out.extend_from_slice(&path[without_query(path).len()..]);
            }
        }
        RedirectPath::Prefix(prefix) => {
            if !replace_prefix(matcher, path, prefix, out) {
                out.extend_from_slice(path);
            }
        }
        RedirectPath::Regex { pattern, substitution } => replace_regex(path, pattern, substitution, out),
    }
    if redirect.strip_query {
        let kept = without_query(&out[start..]).len();
        out.truncate(start + kept);
    }
}
