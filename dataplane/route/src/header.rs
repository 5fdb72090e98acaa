//! Header matchers of routes, retry policies and access-log filters.

use millrace_config::{HeaderMatcher, HeaderMatcherKind, ResponsePredicate};
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

/// Whether a predicate takes a response. As deep as translation lets predicates be nested.
pub fn predicate_takes(predicate: &ResponsePredicate, head: &ResponseHead) -> bool {
    match predicate {
        ResponsePredicate::Any(all) => *all,
        ResponsePredicate::Headers(matchers) => {
            matchers.iter().all(|matcher| matches_response(matcher, head))
        }
        ResponsePredicate::Not(not) => !predicate_takes(not, head),
        ResponsePredicate::All(all) => all.iter().all(|one| predicate_takes(one, head)),
        ResponsePredicate::AnyOf(any) => any.iter().any(|one| predicate_takes(one, head)),
    }
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

#[cfg(test)]
mod tests {
    use millrace_config::StringMatcher;

    use super::*;
    use crate::test::{bytes, head};

    const INPUTS: [&[&str]; 8] = [&[], &["1"], &["1", "2"], &["2", "1"], &["1,2"], &["5x"], &["5"], &[""]];

    fn exact(value: &str) -> HeaderMatcherKind {
        HeaderMatcherKind::String(StringMatcher::Exact { value: bytes(value), ignore_case: false })
    }

    /// One digit per input: 1 where the route was taken.
    fn verdicts(kind: HeaderMatcherKind, invert: bool, missing_as_empty: bool) -> String {
        let matcher = HeaderMatcher { name: bytes("x-a"), kind, invert, missing_as_empty };
        let taken = INPUTS.map(|values| {
            let mut head = head("GET", "h", "/");
            for value in values {
                head.headers.append(b"x-a", value.as_bytes());
            }
            if matches_request(&matcher, &head) { '1' } else { '0' }
        });
        taken.iter().collect()
    }

    #[test]
    fn as_envoy_1_40_decided() {
        use HeaderMatcherKind::{Present, Range};
        assert_eq!(verdicts(exact("1"), false, false), "01110000");
        assert_eq!(verdicts(exact("1,2"), false, false), "00001000");
        assert_eq!(verdicts(exact("1"), true, false), "00001111");
        assert_eq!(verdicts(exact("3"), true, false), "01111111");
        assert_eq!(verdicts(exact("3"), true, true), "11111111");
        assert_eq!(verdicts(exact(""), false, true), "10000001");
        assert_eq!(verdicts(Present(true), true, false), "10000000");
        assert_eq!(verdicts(Present(false), true, false), "01111111");
        assert_eq!(verdicts(Present(true), false, true), "11111111");
        assert_eq!(verdicts(Present(true), true, true), "00000000");
        assert_eq!(verdicts(Present(false), false, true), "00000000");
        assert_eq!(verdicts(Range { start: 1, end: 2 }, false, false), "01110000");
        assert_eq!(verdicts(Range { start: 5, end: 9 }, false, false), "00000010");
    }

    #[test]
    fn pseudo_header_fields_and_the_status() {
        let head = head("GET", "h:80", "/p?q");
        let ask = |name: &str, value: &str| {
            let matcher = HeaderMatcher {
                name: bytes(name),
                kind: exact(value),
                invert: false,
                missing_as_empty: false,
            };
            matches_request(&matcher, &head)
        };
        assert!(ask(":authority", "h:80") && ask("host", "h:80") && ask(":scheme", "http"));
        assert!(ask(":method", "GET") && ask(":path", "/p?q") && !ask(":path", "/p"));
        let mut response = ResponseHead::new();
        response.status = 503;
        let status = |value: &str| HeaderMatcher {
            name: bytes(":status"),
            kind: exact(value),
            invert: false,
            missing_as_empty: false,
        };
        assert!(matches_response(&status("503"), &response) && !matches_response(&status("502"), &response));
    }
}
