//! Deadlines of HTTP connections and streams, and what happens at each.

use std::time::Duration;

use millrace_base::{Key, ResponseFlag, Time};
use millrace_config::{HttpConnectionManager, ScaledTimer};
use millrace_filter::http::LocalReply;
use millrace_filter::http::connection_manager::reject;
use millrace_filter::http::router::reply;
use millrace_filter::http::router::retry::ResetReason;
use millrace_filter::jitter;
use millrace_http::h2::ErrorCode;
use millrace_observe::stats::{
    cluster as cluster_metric, host as host_metric, http as metric, http2, route as route_metric,
};
use millrace_upstream::TryResult;

use super::finish::tally;
use super::h2::stall_deadline;
use super::request::http;
use super::stream::{Attempt, Stream};
use super::{Closing, HttpDownstream};
use crate::downstream::Protocol;
use crate::overload::Overload;
use crate::shard::Shard;
use crate::upstream::EndedBy;

impl Shard {
    /// The next moment at which [`Shard::http_timer`] has something to do.
    pub(crate) fn http_deadline(&self, key: Key) -> Option<Time> {
        let downstream = self.downstreams.get(key)?;
        let Protocol::Http(http) = &downstream.protocol else { return None };
        let mut next = match &http.h2 {
            Some(_) if http.is_open() => self.h2_deadline(http, downstream.opened + http.outlives),
            _ => connection_deadline(
                http,
                downstream.opened + http.outlives,
                scaled_limits(&self.overload, &http.hcm),
            ),
        };
        if let Some(since) = downstream.link.stalled_since() {
            next = next.min(since + self.limits.write_stall_timeout);
        }
        if let Some(stream) = http.stream.and_then(|s| self.streams.get(s)) {
            next = next.min(stream.deadline());
        }
        Some(next).filter(|next| *next != Time::MAX)
    }

    pub(crate) fn http_timer(&mut self, key: Key) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let opened = downstream.opened;
        let stalled = due_since(downstream.link.stalled_since(), self.limits.write_stall_timeout, now);
        let Some(http) = http(downstream) else { return };
        let opened = opened + http.outlives;
        let scope = http.hcm.scope;
        if stalled {
            return self.client_stalled(key);
        }
        match http.closing {
            Closing::Lingering(until) if until <= now => {
                self.stats.inc(scope, metric::DOWNSTREAM_CX_DELAYED_CLOSE_TIMEOUT);
                return self.http_close(key, true);
            }
            Closing::Lingering(_) | Closing::Flushing => return,
            Closing::No | Closing::AfterResponse => {}
        }
        if http.h2.is_some() {
            return self.h2_timer(key);
        }
        let [_, max] = scaled_limits(&self.overload, &http.hcm);
        if let Some(id) = http.stream {
            if http.closing == Closing::No && !http.drains && due(opened, max, now) {
                // The request may end, and its response says that the connection does.
                http.closing = Closing::AfterResponse;
                self.stats.inc(scope, metric::DOWNSTREAM_CX_MAX_DURATION_REACHED);
            }
            return self.stream_timer(id);
        }
        if connection_deadline(http, opened, scaled_limits(&self.overload, &http.hcm)) > now {
            return;
        }
        if http.head_since.is_some_and(|since| due(since, http.hcm.request_headers_timeout, now)) {
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_HEADER_TIMEOUT);
            return self.refuse_slow_head(key);
        }
        if http.expires != Time::MAX {
            return self.http_close_after_flush(key);
        }
        if http.drains || !due(opened, max, now) {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_IDLE_TIMEOUT);
            return self.http_expires(key);
        }
        self.stats.inc(scope, metric::DOWNSTREAM_CX_MAX_DURATION_REACHED);
        if http.hcm.http1_safe_max_connection_duration {
            http.drains = true;
            return self.rearm_downstream(key);
        }
        self.http_expires(key);
    }

    /// The end of a connection without a request: as in Envoy, one that is on its way already is still taken.
    fn http_expires(&mut self, key: Key) {
        let now = self.io.now;
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        let (whole, percent) = (http.hcm.drain_timeout, http.hcm.drain_jitter_percent);
        if http.undecided || whole.is_zero() {
            return self.http_close_after_flush(key);
        }
        http.expires = now + whole + jitter(whole, percent, self.rng.next_u64());
        self.rearm_downstream(key);
    }

    /// A head that takes too long gets its 408 (RFC 9110 section 15.5.9).
    fn refuse_slow_head(&mut self, key: Key) {
        let now = self.io.now;
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        let since = http.head_since.take().unwrap_or(now);
        http.input.clear();
        http.scanner.reset();
        let mut stream = self.spare_streams.pop().unwrap_or_else(|| Box::new(Stream::new(key)));
        stream.reset(key);
        stream.facts.times.start = since;
        stream.facts.times.start_wall = self.wall_at(since);
        self.start_timed_out(key, stream, reject::request_header_timeout());
    }

    /// A client that did not take one send (at most 128 KiB) within
    /// [`millrace_base::Limits::write_stall_timeout`] is cut off.
    fn client_stalled(&mut self, key: Key) {
        self.h2_end_streams(key, ResponseFlag::StreamIdleTimeout, "downstream_write_stall");
        let stream = self.downstreams.get_mut(key).and_then(http).and_then(|h| h.stream);
        if let Some(id) = stream {
            self.drop_attempt(id, EndedBy::Local);
            if let Some(stream) = self.streams.get_mut(id) {
                stream.flag(ResponseFlag::StreamIdleTimeout);
                stream.facts.details = "downstream_write_stall".into();
            }
            self.end_stream(id);
        }
        self.http_close(key, true);
    }

    pub(super) fn stream_timer(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get(id) else { return };
        let Some(scope) = stream.options.as_ref().map(|o| o.hcm.scope) else { return };
        if let Attempt::BackOff(until) = stream.attempt
            && until <= now
        {
            return self.retry_now(id);
        }
        if stream.filters_resume <= now {
            return self.filters_let_go(id);
        }
        if stream.max_duration_deadline <= now {
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_MAX_DURATION_REACHED);
            // Measured: a route's limit takes the place of the connection manager's and is answered alike.
            let answer = reject::max_stream_duration(stream.request_complete);
            return self.time_out(id, answer);
        }
        if stream.request_deadline <= now {
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_TIMEOUT);
            return self.time_out(id, reject::request_overall_timeout());
        }
        if stream.response_deadline <= now {
            return self.response_timed_out(id);
        }
        if stream.try_deadline <= now && !stream.response_started {
            return self.try_timed_out(id, ResetReason::PerTryTimeout);
        }
        if stream.try_idle_deadline() <= now {
            return self.try_timed_out(id, ResetReason::PerTryIdleTimeout);
        }
        if stream.try_end() <= now {
            return self.try_outlasts(id);
        }
        if stall_deadline(stream) <= now {
            return self.client_gives_no_room(id);
        }
        if stream.idle_deadline() <= now {
            if stream.flow.flush_until.is_some() {
                return self.flush_timed_out(id);
            }
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_IDLE_TIMEOUT);
            let answer = reject::stream_idle_timeout(stream.request_complete);
            self.time_out(id, answer);
        }
    }

    /// The client has not taken the rest of a whole response in time. As in Envoy, its log line says nothing of it.
    fn flush_timed_out(&mut self, id: Key) {
        let Some(stream) = self.streams.get(id) else { return };
        if let Some(http) = self.downstreams.get_mut(stream.downstream).and_then(http) {
            self.stats.inc(http.hcm.http2_scope, http2::TX_FLUSH_TIMEOUT);
        }
        self.judge_end(id, true);
        self.drop_attempt(id, EndedBy::Local);
        self.h2_reset_client(id, ErrorCode::Internal);
        self.end_stream(id);
    }

    /// The route's timeout is over for all tries.
    fn response_timed_out(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let answer = reply::request_timeout(stream.timeout_is_204);
        let awaits_head = !stream.response_started && matches!(stream.attempt, Attempt::Sent(_));
        let waits = matches!(
            stream.attempt,
            Attempt::None | Attempt::Planned | Attempt::Naming | Attempt::BackOff(_)
        );
        if waits {
            // No try, no answer of the cluster that ours stands for.
            stream.facts.cluster_status = Some(0);
        } else {
            self.count_timeout(id, cluster_metric::UPSTREAM_RQ_TIMEOUT);
        }
        if awaits_head {
            self.report_try(id, TryResult::TimedOut(self.timeout_status(id)));
        }
        self.budget_is_used(id, true);
        self.time_out_lates(id);
        self.time_out(id, answer);
    }

    /// The client of an HTTP/2 stream has left no room for its response for long. While buffers are in demand that
    /// ends the stream, else it may take its time.
    fn client_gives_no_room(&mut self, id: Key) {
        let now = self.io.now;
        let tight = self.io.is_tight() || self.io.held.is_pressed();
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !tight {
            stream.flow.awaits_since = now;
            return;
        }
        stream.flag(ResponseFlag::StreamIdleTimeout);
        stream.facts.details = "downstream_write_stall".into();
        self.abort_stream(id, EndedBy::Local);
    }

    pub(super) fn count_timeout(&mut self, id: Key, counter: millrace_observe::stats::Counter) {
        let cluster = self.streams.get(id).and_then(|s| s.facts.plan).and_then(|p| p.cluster);
        if let Some(scope) = cluster.and_then(|c| self.cluster_scope(c)) {
            self.stats.inc(scope, counter);
        }
        if let Some(stream) = self.streams.get(id).filter(|_| counter == cluster_metric::UPSTREAM_RQ_TIMEOUT)
        {
            tally(&mut self.stats, stream, route_metric::UPSTREAM_RQ_TIMEOUT);
        }
        if let Some(host) = self.host_scope(id) {
            self.stats.inc(host, host_metric::RQ_TIMEOUT);
        }
    }

    fn time_out(&mut self, id: Key, answer: LocalReply) {
        self.drop_attempt(id, EndedBy::Local);
        self.abort_or_reply(id, answer);
    }
}

fn due_since(since: Option<Time>, limit: std::time::Duration, now: Time) -> bool {
    since.is_some_and(|since| since + limit <= now)
}

fn due(since: Time, limit: Option<std::time::Duration>, now: Time) -> bool {
    limit.is_some_and(|limit| since + limit <= now)
}

/// `idle_timeout` and `max_connection_duration` as overload has made them.
pub(super) fn scaled_limits(overload: &Overload, hcm: &HttpConnectionManager) -> [Option<Duration>; 2] {
    let idle = overload.scale(ScaledTimer::ConnectionIdle, hcm.idle_timeout);
    [idle, overload.scale(ScaledTimer::ConnectionMax, hcm.max_connection_duration)]
}

/// Deadlines of the connection itself, streams apart.
fn connection_deadline(http: &HttpDownstream, opened: Time, [idle, max]: [Option<Duration>; 2]) -> Time {
    let hcm = &http.hcm;
    let after = |since: Time, limit: Option<std::time::Duration>| limit.map_or(Time::MAX, |l| since + l);
    match http.closing {
        Closing::Lingering(until) => return until,
        Closing::Flushing => return Time::MAX,
        Closing::No | Closing::AfterResponse => {}
    }
    // One that is to end with its next response is not too old once more.
    let ends = http.drains || (http.stream.is_some() && http.closing != Closing::No);
    let age = if ends { Time::MAX } else { after(opened, max) };
    if http.stream.is_some() {
        return age;
    }
    match http.head_since {
        Some(since) => after(since, hcm.request_headers_timeout).min(age),
        None if http.expires != Time::MAX => http.expires,
        None => after(http.idle_since, idle).min(age),
    }
}
