//! `envoy.filters.http.csrf`: requests that change something must come from their own origin, or an allowed one.

use millrace_config::{CsrfFilter, CsrfPolicy};
use millrace_http::{HeaderId, RequestHead};
use millrace_observe::stats::csrf as metric;

use super::sampled;
use crate::http::LocalReply;
use crate::http::stream_filters::{Env, Verdict};

pub(crate) fn begin(
    filter: &CsrfFilter,
    policy: &CsrfPolicy,
    env: &mut Env<'_>,
    head: &RequestHead,
) -> Verdict {
    if !matches!(head.method(), b"POST" | b"PUT" | b"DELETE" | b"PATCH") {
        return Verdict::Continue;
    }
    let (enabled, shadow) = (sampled(policy.enabled, env.rng), sampled(policy.shadow, env.rng));
    if !enabled && !shadow {
        return Verdict::Continue;
    }
    let source = source(head);
    let allowed = source == host_and_port(head.authority())
        || policy.additional_origins.iter().any(|origin| origin.matches(source));
    let (counter, valid) = match source {
        b"" => (metric::MISSING_SOURCE_ORIGIN, false),
        _ if allowed => (metric::REQUEST_VALID, true),
        _ => (metric::REQUEST_INVALID, false),
    };
    env.stats.inc(filter.scope, counter);
    if valid || !enabled {
        return Verdict::Continue;
    }
    Verdict::Reply(LocalReply::new(403, "Invalid origin", "csrf_origin_mismatch").into())
}

/// `origin`, or else `referer`, without its scheme and path; empty when the request says neither, or `null`.
fn source(head: &RequestHead) -> &[u8] {
    match head.headers.get(HeaderId::Origin).unwrap_or_default() {
        b"null" => b"",
        b"" => host_and_port(head.headers.get(HeaderId::Referer).unwrap_or_default()),
        origin => host_and_port(origin),
    }
}

fn host_and_port(value: &[u8]) -> &[u8] {
    let Some(at) = value.windows(3).position(|window| window == b"://") else { return value };
    let rest = &value[at + 3..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{head, text};

    #[test]
    fn the_origin_is_a_host_with_its_port() {
        for (value, host) in [
            ("http://a.test", "a.test"),
            ("https://a.test:8443/x?y", "a.test:8443"),
            ("a.test:80", "a.test:80"),
            ("", ""),
        ] {
            assert_eq!(text(host_and_port(value.as_bytes())), host);
        }
    }

    #[test]
    fn referer_stands_in_for_origin_unless_that_is_null() {
        let of = |fields: &[(&str, &str)]| text(source(&head("/", fields)));
        assert_eq!(of(&[("referer", "http://r.test/x")]), "r.test");
        assert_eq!(of(&[("origin", "http://o.test"), ("referer", "http://r.test/x")]), "o.test");
        assert_eq!(of(&[("origin", "null"), ("referer", "http://r.test/x")]), "");
    }
}
