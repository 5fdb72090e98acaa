//! `envoy.filters.http.local_ratelimit`: token buckets of this process, or of one connection.

use std::borrow::Cow;
use std::time::Duration;

use millrace_base::ResponseFlag;
use millrace_config::{
    Hits, HitsAddend, LocalRateLimit, LocalRateLimiter, MatchedLimit, RateLimitHeaders, RateLimitPolicy,
    RateVerdict, RouteAction, VirtualHostRateLimits,
};
use millrace_http::{HeaderMap, RequestHead};
use millrace_observe::stats::http_local_rate_limit as metric;

use super::descriptor::{descriptor, matching};
use super::sampled;
use crate::http::LocalReply;
use crate::http::router::{Render, mutation};
use crate::http::stream_filters::{Env, Start, Verdict};

/// What the client is told of the limit (`x-ratelimit-*`, draft 03).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    limit: u64,
    remaining: u64,
    reset_seconds: u64,
}

impl Told {
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        let mut line = |name: &[u8], value: u64| headers.append(name, value.to_string().as_bytes());
        line(b"x-ratelimit-limit", self.limit);
        line(b"x-ratelimit-remaining", self.remaining);
        line(b"x-ratelimit-reset", self.reset_seconds);
    }
}

/// Asks the buckets; `Some` tells the client of the limit, whatever the verdict.
pub(crate) fn begin(
    limit: &LocalRateLimit,
    start: &Start<'_>,
    env: &mut Env<'_>,
    head: &mut RequestHead,
) -> (Option<Told>, Verdict) {
    if !sampled(limit.enabled, env.rng) {
        return (None, Verdict::Continue);
    }
    env.stats.inc(limit.scope, metric::ENABLED);
    let mut matched = match limit.descriptors.is_empty() {
        true => Vec::new(),
        false => matched(limit, start, head, env),
    };
    let own: &LocalRateLimiter = match limit.per_connection {
        true => env.connection.limiter(limit),
        false => &limit.shared,
    };
    for one in &mut matched {
        let Some(dynamic) = own.dynamic(one.at) else { continue };
        one.bucket = Some(match limit.per_connection {
            // Nobody else has them.
            true => dynamic.bucket(&one.values, env.now),
            false => env.shard.buckets.bucket(dynamic, &one.values, env.now, env.scratch),
        });
    }
    let RateVerdict { allowed, bucket, shadowed, headers } = own.take(limit, &matched, env.now);
    let told = bucket.map(|bucket| Told {
        limit: bucket.0.max_tokens(),
        remaining: bucket.0.remaining(env.now),
        reset_seconds: whole_seconds(bucket.0.next_token(env.now)),
    });
    let tells = match headers {
        RateLimitHeaders::Unspecified => limit.ratelimit_headers,
        RateLimitHeaders::Off => false,
        RateLimitHeaders::Draft03 => true,
    };
    let headers = told.filter(|_| tells);
    if shadowed {
        env.stats.inc(limit.scope, metric::SHADOW_MODE);
    }
    if allowed {
        env.stats.inc(limit.scope, metric::OK);
        return (headers, Verdict::Continue);
    }
    env.stats.inc(limit.scope, metric::RATE_LIMITED);
    if !sampled(limit.enforced, env.rng) {
        mutation::add_all(&limit.request_headers, env.render, head, env.scratch);
        return (headers, Verdict::Continue);
    }
    env.stats.inc(limit.scope, metric::ENFORCED);
    (headers, Verdict::Reply(refusal(limit, told, env, head).into()))
}

fn refusal(limit: &LocalRateLimit, told: Option<Told>, env: &mut Env<'_>, head: &RequestHead) -> LocalReply {
    let mut headers = Vec::new();
    for option in &limit.response_headers {
        let mut value = Vec::new();
        env.render.render(&option.value, head, None, &mut value);
        if !value.is_empty() || option.keep_empty_value {
            headers.push((Cow::Owned(option.name.to_vec()), value));
        }
    }
    if let Some(told) = told.filter(|_| limit.retry_after) {
        headers.push((Cow::Borrowed(&b"retry-after"[..]), told.reset_seconds.to_string().into_bytes()));
    }
    LocalReply {
        headers: headers.into(),
        grpc_status: limit.resource_exhausted.then_some(Cow::Borrowed("8")),
        ..LocalReply::new(limit.status, "local_rate_limited", "local_rate_limited")
    }
    .flagged(ResponseFlag::RateLimited)
}

/// The limits of the descriptors that the request has.
fn matched(
    limit: &LocalRateLimit,
    start: &Start<'_>,
    head: &RequestHead,
    env: &Env<'_>,
) -> Vec<MatchedLimit> {
    let notes = env.state.read();
    let dynamic = notes.as_ref().map(|notes| &notes.metadata);
    let mut found = Vec::new();
    let mut add = |policies: &[RateLimitPolicy], own: bool| {
        let applicable = policies.iter().filter(|policy| match own {
            true => !policy.on_stream_done,
            false => policy.stage == limit.stage && !policy.disable_key,
        });
        let descriptors: Vec<_> = applicable
            .filter_map(|policy| {
                // Of a route's policies Envoy does not look at `hits_addend` here.
                let hits = if own { hits(policy, env.render, head)? } else { Hits::Take(1) };
                Some((descriptor(policy, start, head, dynamic)?, policy, hits))
            })
            .collect();
        found.extend(matching(&limit.descriptors, &descriptors));
    };
    if !limit.rate_limits.is_empty() {
        add(&limit.rate_limits, true);
        return found;
    }
    let Some(selected) = start.selected else { return found };
    let RouteAction::Forward(forward) = &selected.route.action else { return found };
    let (of_route, of_host) = (&forward.for_filters, &selected.virtual_host.for_filters);
    add(&of_route.rate_limits, false);
    let include = match limit.virtual_host {
        _ if of_route.include_virtual_host_rate_limits => true,
        VirtualHostRateLimits::Include => true,
        VirtualHostRateLimits::Ignore => false,
        VirtualHostRateLimits::Override => of_route.rate_limits.is_empty(),
    };
    if include {
        add(&of_host.rate_limits, false);
    }
    found
}

/// Most that one request costs.
const HITS_MAX: f64 = 1e9;

/// What a request costs its descriptor; `None` when that is no number.
fn hits(policy: &RateLimitPolicy, render: &dyn Render, head: &RequestHead) -> Option<Hits> {
    let number = match &policy.hits {
        None => Some(1),
        Some(HitsAddend::Number(number)) => Some(*number),
        Some(HitsAddend::Format(format)) => {
            let mut text = Vec::new();
            render.render(format, head, None, &mut text);
            let number: f64 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
            (0.0..=HITS_MAX).contains(&number).then_some(number as u64)
        }
    };
    number.map(if policy.gives_back { Hits::Give } else { Hits::Take })
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
