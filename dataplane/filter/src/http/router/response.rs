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
        set_number(&mut head.headers, HeaderId::XEnvoyUpstreamServiceTime, ms, scratch);
    }
    mutation::response(levels, render, sent, head, scratch);
    if levels.selected.virtual_host.include_attempt_count_in_response && facts.attempts > 0 {
        set_number(&mut head.headers, HeaderId::XEnvoyAttemptCount, u64::from(facts.attempts), scratch);
    }
}
