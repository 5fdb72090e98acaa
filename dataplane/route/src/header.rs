//! Header matchers of routes, retry policies and access-log filters.

use millrace_config::{HeaderMatcher, HeaderMatcherKind};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};

/// Whether a matcher takes a request; `:method`, `:path`, `:authority`, `:scheme` and `host` work.
pub fn matches_request(matcher: &HeaderMatcher, head: &RequestHead) -> bool {
    let present = |value: &'_ [u8]| !value.is_empty();
    match &*matcher.name {
        b":method" => holds(matcher, Some(head.method()).filter(|v| present(v))),
        b":path" => holds(matcher, Some(head.path()).filter(|v| present(v))),
        b":authority" | b"host" => holds(matcher, Some(head.authority()).filter(|v| present(v))),
        b":scheme" => holds(matcher, Some(head.scheme()).filter(|v| present(v))),
        name => matches_fields(matcher, &head.headers, name),
    }
}

/// Whether a matcher takes a response; `:status` works.
pub fn matches_response(matcher: &HeaderMatcher, head: &ResponseHead) -> bool {
    if &*matcher.name == b":status" {
        let digits = [b'0' + (head.status / 100 % 10) as u8, b'0' + (head.status / 10 % 10) as u8, {
            b'0' + (head.status % 10) as u8
        }];
        return holds(matcher, Some(&digits));
    }
    matches_fields(matcher, &head.headers, &matcher.name)
}

/// Values of one name that are joined without an allocation.
const JOINED_MAX: usize = 2048;

fn matches_fields(matcher: &HeaderMatcher, headers: &HeaderMap, name: &[u8]) -> bool {
    let mut values = headers.values_name(name);
    let first = values.next();
    if values.next().is_none() || matches!(matcher.kind, HeaderMatcherKind::Present(_)) {
        return holds(matcher, first);
    }
    let mut buffer = [0; JOINED_MAX];
    if let Some(len) = join(headers, name, &mut buffer) {
        return holds(matcher, Some(&buffer[..len]));
    }
    let mut joined = Vec::new();
    headers.joined(name, &mut joined);
    holds(matcher, Some(&joined))
}

/// Joins by `,`; `None` when `out` is too small.
fn join(headers: &HeaderMap, name: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    for (i, value) in headers.values_name(name).enumerate() {
        if i > 0 {
            *out.get_mut(at)? = b',';
            at += 1;
        }
        out.get_mut(at..at + value.len())?.copy_from_slice(value);
        at += value.len();
    }
    Some(at)
}

/// Whether a matcher takes a value. A missing value never matches, inverted or not, unless it counts as
/// empty or the matcher asks for presence.
fn holds(matcher: &HeaderMatcher, value: Option<&[u8]>) -> bool {
    let value = match value {
        None if matcher.missing_as_empty => Some(&b""[..]),
        other => other,
    };
    let matched = match (&matcher.kind, value) {
        (HeaderMatcherKind::Present(present), value) => value.is_some() == *present,
        (_, None) => return false,
        (HeaderMatcherKind::Range { start, end }, Some(value)) => {
            number(value).is_some_and(|n| (*start..*end).contains(&n))
        }
        (HeaderMatcherKind::String(matcher), Some(value)) => matcher.matches(value),
    };
    matched != matcher.invert
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']).parse().ok()
}
