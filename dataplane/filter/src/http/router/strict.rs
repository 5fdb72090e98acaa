//! `strict_check_headers`: requests whose x-envoy fields make no sense are refused.

use std::borrow::Cow;

use millrace_base::ResponseFlag;
use millrace_config::{RetryConditions, StrictHeader, StrictHeaders};
use millrace_http::{HeaderId, HeaderMap};

use super::retry::GRPC;
use crate::http::LocalReply;

/// The answer to a request with a bad value in one of the fields, the first in their order.
pub fn check(fields: &StrictHeaders, headers: &HeaderMap) -> Option<LocalReply> {
    let (id, value) = fields.iter().map_while(|field| *field).find_map(|field| bad_value(field, headers))?;
    let value = String::from_utf8_lossy(value);
    let body = format!("invalid header '{}' with value '{value}'", id.name());
    let details = format!("request_headers_failed_strict_check{{{}}}", id.name());
    let reply = LocalReply {
        body: Cow::Owned(body.into_bytes()),
        details: Cow::Owned(details),
        ..LocalReply::new(400, "", "")
    };
    Some(reply.flagged(ResponseFlag::InvalidEnvoyRequestHeaders).closing())
}

fn bad_value(field: StrictHeader, headers: &HeaderMap) -> Option<(HeaderId, &[u8])> {
    let id = match field {
        StrictHeader::RqTimeoutMs => HeaderId::XEnvoyUpstreamRqTimeoutMs,
        StrictHeader::RqPerTryTimeoutMs => HeaderId::XEnvoyUpstreamRqPerTryTimeoutMs,
        StrictHeader::MaxRetries => HeaderId::XEnvoyMaxRetries,
        StrictHeader::RetryGrpcOn => HeaderId::XEnvoyRetryGrpcOn,
        StrictHeader::RetryOn => HeaderId::XEnvoyRetryOn,
    };
    let value = headers.get(id)?;
    let text = std::str::from_utf8(value).ok();
    let good = text.is_some_and(|text| match field {
        StrictHeader::RetryGrpcOn => is_list_of(text, GRPC.0),
        StrictHeader::RetryOn => is_list_of(text, !GRPC.0),
        _ => text.trim().parse::<u64>().is_ok(),
    });
    (!good).then_some((id, value))
}

fn is_list_of(text: &str, vocabulary: u32) -> bool {
    let (found, all_known) = RetryConditions::parse(text);
    all_known && found.0 & !vocabulary == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{head, text};

    const ALL: StrictHeaders = [
        Some(StrictHeader::RqTimeoutMs),
        Some(StrictHeader::RqPerTryTimeoutMs),
        Some(StrictHeader::MaxRetries),
        Some(StrictHeader::RetryOn),
        Some(StrictHeader::RetryGrpcOn),
    ];

    #[test]
    fn values_as_envoy_1_40_takes_them() {
        for (name, value, good) in [
            ("x-envoy-upstream-rq-timeout-ms", "5000", true),
            ("x-envoy-upstream-rq-timeout-ms", "x", false),
            ("x-envoy-upstream-rq-timeout-ms", "", false),
            ("x-envoy-upstream-rq-timeout-ms", "-1", false),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "1.5", false),
            ("x-envoy-max-retries", "two", false),
            ("x-envoy-max-retries", "5000000000", true),
            ("x-envoy-retry-on", "5xx,nonsense", false),
            ("x-envoy-retry-on", "5xx, reset", true),
            ("x-envoy-retry-on", "cancelled", false),
            ("x-envoy-retry-on", "", true),
            ("x-envoy-retry-grpc-on", "cancelled", true),
            ("x-envoy-retry-grpc-on", "5xx", false),
        ] {
            let head = head("/", &[(name, value)]);
            assert_eq!(check(&ALL, &head.headers).is_none(), good, "{name}: {value}");
            assert!(check(&[None; 5], &head.headers).is_none());
        }
    }

    #[test]
    fn the_first_field_in_their_order_is_told() {
        let head = head("/", &[("x-envoy-retry-on", "y"), ("x-envoy-max-retries", "x")]);
        let reply = check(&ALL, &head.headers).unwrap_or_else(|| LocalReply::new(0, "", ""));
        assert_eq!(text(&reply.body), "invalid header 'x-envoy-max-retries' with value 'x'");
        assert_eq!(reply.details, "request_headers_failed_strict_check{x-envoy-max-retries}");
        assert_eq!((reply.status, reply.flag), (400, Some(ResponseFlag::InvalidEnvoyRequestHeaders)));
    }
}
