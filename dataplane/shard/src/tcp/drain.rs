//! How TCP sessions drain.

use millrace_base::Key;
use millrace_observe::stats::tcp as metric;

use super::TcpSession;
use crate::downstream::Protocol;
use crate::listener::QUIET_TIME;
use crate::shard::Shard;

impl TcpSession {
    /// The kernel may carry its bytes without a look at them.
    #[inline]
    pub(super) fn may_relay(&self) -> bool {
        !self.proxy.check_drain_close
    }
}

impl Shard {
    /// Bytes have come from either side: a session whose proxy asks for it ends if it drains.
    pub(super) fn tcp_check_drain(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        if !session.proxy.check_drain_close || session.leaving || !downstream.origin.is_draining(&self.shared)
        {
            return;
        }
        session.leaving = true;
        self.stats.inc(session.proxy.scope, metric::DOWNSTREAM_CX_DRAIN_CLOSE);
        self.tcp_settle(key);
    }

    /// The drain of the session's filter chain is over. A FIN amid bytes would look like their end.
    pub(crate) fn tcp_drain_over(&mut self, key: Key) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get(key) else { return };
        let Protocol::Tcp(session) = &downstream.protocol else { return };
        let upstream = session.upstream.and_then(|u| self.upstreams.get(u)).and_then(|u| u.link.as_ref());
        let queued = downstream.link.queued() > 0 || upstream.is_some_and(|link| link.queued() > 0);
        let amid = queued || session.active + QUIET_TIME > now;
        self.stats.inc(session.proxy.scope, metric::DOWNSTREAM_CX_DRAIN_CLOSE);
        self.tcp_close(key, amid);
    }
}
