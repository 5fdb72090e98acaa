//! The deadlines of one stream.

use millrace_base::Time;

use super::h2::stall_deadline;
use super::stream::{Attempt, Stream};

impl Stream {
    /// A try is on its connection, and the request is complete or not: its time counts from when both are so.
    #[inline]
    pub(crate) fn begin_try(&mut self, now: Time) {
        let limit = self.timeouts.per_try.filter(|_| self.request_complete && !self.response_started);
        self.try_deadline = limit.map_or(Time::MAX, |limit| now + limit);
        let whole = self.timeouts.try_stream.unwrap_or(self.try_stream);
        self.try_ends = whole.map_or(Time::MAX, |whole| now + whole);
        if self.timeouts.per_try_idle.is_some() {
            (self.try_idles, self.active) = (true, now);
        }
    }

    /// When `per_try_idle_timeout` ends the try.
    #[inline]
    pub(crate) fn try_idle_deadline(&self) -> Time {
        match self.timeouts.per_try_idle.filter(|_| self.try_idles && self.upstream().is_some()) {
            Some(idle) => self.active + idle,
            None => Time::MAX,
        }
    }

    /// When `max_stream_duration` ends the try.
    #[inline]
    pub(crate) fn try_end(&self) -> Time {
        if self.try_ends == Time::MAX || self.upstream().is_none() { Time::MAX } else { self.try_ends }
    }

    /// When `stream_idle_timeout` ends the stream or, once the client is all that it waits for, `stream_flush_timeout`.
    #[inline]
    pub(crate) fn idle_deadline(&self) -> Time {
        let idle = || self.idle_timeout.map_or(Time::MAX, |idle| self.active + idle);
        self.flow.flush_until.unwrap_or_else(idle)
    }

    /// The whole response waits for its HTTP/2 client. As in Envoy, time counts from now whatever the client takes, and
    /// `max_stream_duration` is over. False when that was known.
    pub(crate) fn begin_flush(&mut self, now: Time) -> bool {
        if self.client.is_none() || self.tunnel || self.flow.flush_until.is_some() {
            return false;
        }
        self.flow.flush_until = Some(self.flush_timeout.map_or(Time::MAX, |limit| now + limit));
        self.max_duration_deadline = Time::MAX;
        true
    }

    /// The earliest moment at which something must happen to this stream.
    pub(crate) fn deadline(&self) -> Time {
        let mut next = self.response_deadline.min(self.max_duration_deadline).min(self.request_deadline);
        next = next.min(self.filters_resume);
        if !self.response_started {
            next = next.min(self.try_deadline);
        }
        next = next.min(self.idle_deadline());
        if let Attempt::BackOff(until) = self.attempt {
            next = next.min(until);
        }
        next.min(stall_deadline(self)).min(self.try_idle_deadline()).min(self.try_end())
    }
}
