//! The upstream's response head as the filters before the router get it.

use std::time::Duration;

use millrace_http::{HeaderId, RequestHead, ResponseHead};

use super::Render;
use super::mutation::{self, Levels};
use super::request::RouterOptions;
use crate::http::connection_manager::request::set_number;

/// What the router knows when a response head arrives, or when it makes one itself.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFacts {
    /// Tries so far, at least 1 once the upstream was asked; 0 for a local reply that is not `by_router`.
    pub attempts: u32,
    /// Time since the request was complete; `None` for an early response and for local replies.
    pub service_time: Option<Duration>,
}

/// Adds what the router adds to the final (not 1xx) head of an upstream, or to a local reply of a request that
/// had a route (then from [`crate::http::LocalReply::write`]'s `modify`). `scratch` is cleared and used.
pub fn finalize(
    levels: &Levels<'_>,
    options: RouterOptions,
    facts: ResponseFacts,
    render: &impl Render,
    sent: &RequestHead,
    head: &mut ResponseHead,
    scratch: &mut Vec<u8>,
) {
    if let Some(time) = facts.service_time.filter(|_| !options.suppress_envoy_headers) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        set_number(&mut head.headers, HeaderId::XEnvoyUpstreamServiceTime, ms);
    }
    mutation::response(levels, render, sent, head, scratch);
    if levels.selected.virtual_host.include_attempt_count_in_response && facts.attempts > 0 {
        set_number(&mut head.headers, HeaderId::XEnvoyAttemptCount, u64::from(facts.attempts));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::{AppendAction, RouteConfiguration, VirtualHost};
    use millrace_route::Selected;

    use super::*;
    use crate::http::test::{Literal, fields, head as request_head, lines, option, route, virtual_host};

    #[test]
    fn fields_stand_where_envoy_1_40_put_them() {
        let mut config = RouteConfiguration::default();
        config.response_headers.add.push(option("x-m", "rc", AppendAction::OverwriteIfExistsOrAdd));
        let host = Arc::new(VirtualHost { include_attempt_count_in_response: true, ..virtual_host() });
        let route = Arc::new(route());
        let selected = Selected { virtual_host: &host, route: &route };
        let levels = Levels { config: &config, selected, weighted: None };
        let finalized = |options, attempts, service_time| {
            let mut head = ResponseHead::new();
            fields(
                &mut head.headers,
                &[("content-length", "0"), ("x-m", "up"), ("x-envoy-upstream-service-time", "77")],
            );
            let facts = ResponseFacts { attempts, service_time };
            let sent = request_head("/", &[]);
            finalize(&levels, options, facts, &Literal, &sent, &mut head, &mut Vec::new());
            lines(&head.headers)
        };
        let on = RouterOptions::default();
        let expected =
            "content-length: 0 | x-envoy-upstream-service-time: 3 | x-m: rc | x-envoy-attempt-count: 2";
        assert_eq!(finalized(on, 2, Some(Duration::from_micros(3999))), expected);
        let quiet = RouterOptions { suppress_envoy_headers: true, ..on };
        let expected = "content-length: 0 | x-envoy-upstream-service-time: 77 | x-m: rc";
        assert_eq!(finalized(quiet, 0, Some(Duration::from_millis(3))), expected);
    }
}
