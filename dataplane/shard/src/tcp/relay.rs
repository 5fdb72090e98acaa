//! Relays of a TCP session: bulk bytes that go from socket to socket inside the kernel.

use millrace_base::Key;
use millrace_observe::stats::{cluster as cluster_metric, tcp as metric};
use millrace_ring::RelayEnd;

use crate::downstream::Protocol;
use crate::link::Link;
use crate::shard::Shard;

impl Shard {
    /// Begins the relays that are wanted and possible now, either way.
    pub(crate) fn tcp_start_relays(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Tcp(session) = &downstream.protocol else { return };
        let upstream = session.upstream.and_then(|u| self.upstreams.get_mut(u));
        let Some(link) = upstream.and_then(|u| u.link.as_mut()) else { return };
        Link::start_relay(&mut downstream.link, link, u64::MAX, &mut self.io);
        Link::start_relay(link, &mut downstream.link, u64::MAX, &mut self.io);
    }

    /// A relay from the endpoint reports.
    pub(crate) fn tcp_downstream_relayed(&mut self, key: Key, bytes: usize, end: Option<RelayEnd>) {
        let now = self.io.now;
        let Some(session) = self.tcp_session(key) else { return };
        session.active = now;
        session.sent += bytes as u64;
        let (scope, upstream) = (session.proxy.scope, session.upstream);
        self.stats.add(scope, metric::DOWNSTREAM_CX_TX_BYTES_TOTAL, bytes as u64);
        if let Some(upstream_key) = upstream
            && let Some(upstream) = self.upstreams.get_mut(upstream_key)
        {
            self.stats.add(upstream.scope, cluster_metric::UPSTREAM_CX_RX_BYTES_TOTAL, bytes as u64);
            if let (Some(end), Some(link)) = (end, &mut upstream.link)
                && let Some(ended) = link.relay_ended(end, &mut self.io)
            {
                return self.tcp_upstream_ended(key, upstream_key, ended);
            }
        }
        match end {
            Some(RelayEnd::To(_)) => self.tcp_broken(key),
            Some(_) => self.tcp_settle(key),
            None => {}
        }
    }

    /// A relay from the client reports.
    pub(crate) fn tcp_upstream_relayed(
        &mut self,
        key: Key,
        upstream: Key,
        bytes: usize,
        end: Option<RelayEnd>,
    ) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        session.active = now;
        session.received += bytes as u64;
        self.stats.add(session.proxy.scope, metric::DOWNSTREAM_CX_RX_BYTES_TOTAL, bytes as u64);
        let Some(end) = end else { return };
        if let Some(ended) = downstream.link.relay_ended(end, &mut self.io) {
            return self.tcp_downstream_ended(key, ended);
        }
        match end {
            RelayEnd::To(error) => self.tcp_upstream_ended(key, upstream, Err(error)),
            _ => self.tcp_settle(key),
        }
    }
}
