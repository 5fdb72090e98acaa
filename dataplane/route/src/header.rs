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

/// Several fields of one name are tried one by one: one that matches is enough.
fn matches_fields(matcher: &HeaderMatcher, headers: &HeaderMap, name: &[u8]) -> bool {
    let mut values = headers.values_name(name);
    let Some(first) = values.next() else { return holds(matcher, None) };
    (matches_value(matcher, first) || values.any(|value| matches_value(matcher, value))) != matcher.invert
}

/// Whether a matcher takes a value that may be missing. A missing value never matches, inverted or not, unless
/// it counts as empty or the matcher asks for presence.
fn holds(matcher: &HeaderMatcher, value: Option<&[u8]>) -> bool {
    match (value, &matcher.kind) {
        (Some(value), _) => matches_value(matcher, value) != matcher.invert,
        (None, _) if matcher.missing_as_empty => matches_value(matcher, b"") != matcher.invert,
        (None, HeaderMatcherKind::Present(present)) => *present == matcher.invert,
        (None, _) => false,
    }
}

/// Before inversion.
fn matches_value(matcher: &HeaderMatcher, value: &[u8]) -> bool {
    match &matcher.kind {
        HeaderMatcherKind::Present(present) => *present,
        HeaderMatcherKind::Range { start, end } => number(value).is_some_and(|n| (*start..*end).contains(&n)),
        HeaderMatcherKind::String(string) => string.matches(value),
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']).parse().ok()
}
