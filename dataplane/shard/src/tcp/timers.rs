//! Deadlines of TCP sessions, and what happens at each.

use std::time::Duration;

use millrace_base::{Key, ResponseFlag, Time};
use millrace_observe::stats::tcp as metric;

use crate::downstream::Protocol;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn tcp_deadline(&self, key: Key) -> Option<Time> {
        let downstream = self.downstreams.get(key)?;
        let Protocol::Tcp(session) = &downstream.protocol else { return None };
        let idle = session.idle_timeout.map(|idle| session.active + idle);
        let age = session.longest.map(|longest| downstream.opened + longest);
        let next = crate::timers::earliest(idle, age);
        crate::timers::earliest(next, Some(session.connect_at).filter(|at| *at != Time::MAX))
    }

    pub(crate) fn tcp_timer(&mut self, key: Key) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let opened = downstream.opened;
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        let due = |since: Time, limit: Option<Duration>| limit.is_some_and(|limit| since + limit <= now);
        let scope = session.proxy.scope;
        let connect = session.connect_at <= now;
        if due(opened, session.longest) {
            session.flags.set(ResponseFlag::DurationTimeout);
            self.stats.inc(scope, metric::MAX_DOWNSTREAM_CONNECTION_DURATION);
            self.tcp_close(key, false);
        } else if due(session.active, session.idle_timeout) {
            self.stats.inc(scope, metric::IDLE_TIMEOUT);
            self.tcp_close(key, false);
        } else if connect {
            session.connect_at = Time::MAX;
            self.tcp_connect(key);
        }
    }
}
