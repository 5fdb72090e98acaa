//! One timer per connection, moved as rarely as possible.
//!
//! Activity only changes the fields from which the next deadline follows. The wheel is touched when the next
//! deadline comes *before* the armed one, or when the armed one fires; a busy keep-alive connection costs
//! the wheel nothing per request.

use millrace_base::{Key, Time};
use millrace_config::ClusterId;
use millrace_ring::timer::{TimerId, TimerWheel};

use crate::downstream::Protocol;
use crate::shard::Shard;
use crate::token::Kind;

/// The place of a connection in the timer wheel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectionTimer {
    armed: Option<(TimerId, Time)>,
}

impl ConnectionTimer {
    /// The wheel's entry, if there is one, to be cancelled by the caller.
    pub(crate) fn disarm(&mut self) -> Option<TimerId> {
        self.armed.take().map(|(id, _)| id)
    }

    /// Makes sure that `value` fires no later than `next`.
    fn arm(&mut self, wheel: &mut TimerWheel<u64>, next: Time, value: u64) {
        let id = match self.armed {
            Some((_, at)) if at <= next => return,
            Some((id, _)) => {
                wheel.reset(id, next);
                id
            }
            None => wheel.insert(next, value),
        };
        self.armed = Some((id, next));
    }

    /// True when the connection is looked at by this time anyway.
    pub(crate) fn covers(&self, by: Time) -> bool {
        self.armed.is_some_and(|(_, at)| at <= by)
    }
}

impl Shard {
    /// Makes sure that the downstream connection is looked at no later than its next deadline.
    pub(crate) fn rearm_downstream(&mut self, key: Key) {
        let Some(next) = self.downstream_deadline(key) else { return };
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.timer.arm(&mut self.wheel, next, Kind::Downstream.token(key).0);
    }

    /// Makes sure that a stream's connection is looked at no later than the stream's next deadline. Costs the same
    /// however many streams the connection has.
    pub(crate) fn rearm_stream(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let (key, next) = (stream.downstream, stream.deadline());
        if let Some(side) = &mut stream.side {
            if next != Time::MAX {
                side.timer.arm(&mut self.wheel, next, Kind::Side.token(id).0);
            }
            return;
        }
        self.look_by(key, next);
    }

    /// Makes sure that the downstream connection is looked at by this time; `Time::MAX` asks for nothing.
    pub(crate) fn look_by(&mut self, key: Key, at: Time) {
        let Some(downstream) = self.downstreams.get_mut(key).filter(|_| at != Time::MAX) else { return };
        downstream.timer.arm(&mut self.wheel, at, Kind::Downstream.token(key).0);
    }

    /// As [`Shard::rearm_downstream`], for a connection that we opened.
    pub(crate) fn rearm_upstream(&mut self, key: Key) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(next) = upstream.deadline() else { return };
        upstream.timer.arm(&mut self.wheel, next, Kind::Upstream.token(key).0);
    }

    /// A timer fired: act on what is due, then wait for what comes next.
    pub(crate) fn on_timer(&mut self, value: u64) {
        match Kind::parse(value) {
            Some((Kind::Downstream, key)) => {
                let Some(downstream) = self.downstreams.get_mut(key) else { return };
                downstream.timer.armed = None;
                match downstream.protocol {
                    Protocol::Tcp(_) => self.tcp_timer(key),
                    Protocol::Http(_) => self.http_timer(key),
                    Protocol::Securing(_) => self.handshake_timer(key),
                    Protocol::Refused(_) => self.refused_timer(key),
                }
                self.rearm_downstream(key);
            }
            Some((Kind::Upstream, key)) => {
                let Some(upstream) = self.upstreams.get_mut(key) else { return };
                upstream.timer.armed = None;
                self.upstream_timer(key);
                self.rearm_upstream(key);
            }
            Some((Kind::Listener, key)) => self.accept_again(key),
            Some((Kind::Housekeeping, _)) => self.housekeeping(),
            Some((Kind::Drain, _)) => self.end_drains(),
            Some((Kind::Inspection, key)) => self.inspection_timer(key),
            Some((Kind::Farewell, key)) => self.farewell_over(key),
            Some((Kind::HealthCheckTimer, key)) => self.health_check_timer(key),
            Some((Kind::HealthCheckPace, _)) => self.next_pace(),
            // Its deadlines are those of its owner.
            Some((Kind::Own, _)) => {}
            Some((Kind::LoadReportTimer, key)) => self.load_report_timer(key),
            Some((Kind::Side, key)) => {
                if let Some(side) = self.streams.get_mut(key).and_then(|stream| stream.side.as_mut()) {
                    side.timer.armed = None;
                    self.side_timer(key);
                }
            }
            Some((Kind::Outliers, key)) => self.look_at_outliers(ClusterId(key.slot)),
            Some((Kind::Logs, _)) => self.hand_over_lines(),
            Some((Kind::Racer, _)) | None => {}
        }
    }

    fn downstream_deadline(&self, key: Key) -> Option<Time> {
        match &self.downstreams.get(key)?.protocol {
            Protocol::Tcp(_) => self.tcp_deadline(key),
            Protocol::Http(_) => self.http_deadline(key),
            Protocol::Securing(deadline) => Some(*deadline),
            Protocol::Refused(refused) => Some(refused.until),
        }
    }
}

/// The earliest of two deadlines, either of which may be missing.
pub(crate) fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
