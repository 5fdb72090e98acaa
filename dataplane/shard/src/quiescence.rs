//! What tests ask of a shard: that nothing is left once every peer has gone.

use millrace_base::Time;

use crate::downstream::Protocol;
use crate::shard::Shard;
use crate::upstream::Carries;

impl Shard {
    /// Asserts that nothing is left of any connection; for tests, after every peer has gone.
    #[doc(hidden)]
    pub fn assert_quiescent(&self) {
        assert!(self.downstreams.is_empty(), "downstream connections left");
        assert!(self.streams.is_empty(), "streams left");
        assert_eq!(self.io.pool().outstanding(), 0, "buffers not home");
        assert_eq!(self.io.plain_pool().outstanding(), 0, "buffers of plaintext not home");
        assert_eq!(self.io.held.sum(), 0, "bytes counted that nobody keeps");
        assert!(self.io.held.starved.is_empty(), "starved connections left");
        assert!(self.inspections.is_empty() && self.racers.is_empty(), "inspections or connects left");
        assert!(self.named_hosts.is_quiet(), "requests wait for a host and are gone");
        assert!(self.farewells.is_empty(), "sockets of past connections left");
        assert!(self.runnable.is_empty() && self.actions.is_empty() && self.io.dirty.is_empty());
        self.listeners.assert_quiescent();
        assert_eq!(self.shared.doors()[self.index].draining_connections(), 0, "draining connections left");
        let owned = self.health_checks.connections() + self.load_reports.connections();
        assert_eq!(self.own_connections.len(), owned, "connections of checks or load reports are left");
        // Idle connections to endpoints may have PINGs to send, and an end.
        let mut timers = 1 + self.health_checks.timers() + self.load_reports.timers();
        for (_, upstream) in self.upstreams.iter() {
            if let Carries::Http2(h2) = &upstream.carries {
                timers += usize::from(h2.deadline().is_some());
                assert_eq!(h2.codec.open_streams(), 0, "streams to an endpoint are left");
                assert!(h2.waiting.is_empty(), "streams wait for an endpoint and are gone");
                assert_eq!(h2.codec.unreleased(), 0, "credit of an endpoint was not given back");
            }
        }
        assert!(self.wheel.len() <= timers, "{} timers left, not {timers}", self.wheel.len());
        for state in self.clusters.ids().into_iter().filter_map(|id| self.clusters.get(id)) {
            state.check_invariants();
            assert_eq!(state.pending_requests(), 0, "requests wait for a connection");
            assert!(state.hosts().all(|(_, host)| host.active_requests == 0), "requests of a host left");
        }
    }

    /// Asserts that HTTP/2 connections of clients without streams since `since` or before have nothing waiting and owe no
    /// flow-control credit; for tests.
    #[doc(hidden)]
    pub fn assert_http2_idle(&self, since: Time) {
        for (key, downstream) in self.downstreams.iter() {
            if let Protocol::Http(http) = &downstream.protocol
                && let Some(h2) = http.h2.as_deref().filter(|_| http.is_open() && http.idle_since <= since)
                && h2.codec.open_streams() == 0
                && self.streams.iter().all(|(_, stream)| stream.downstream != key)
            {
                assert!(h2.waiting.is_empty(), "streams wait for a client and are gone");
                assert_eq!(h2.codec.unreleased(), 0, "credit of a client was not given back");
            }
        }
    }

    /// Connections that the pools keep, for tests.
    #[doc(hidden)]
    pub fn upstream_connections(&self) -> usize {
        self.upstreams.len()
    }
}
