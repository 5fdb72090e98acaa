//! The log lines of a TCP session, written once at its end.

use millrace_base::Key;
use millrace_observe::access_log::{AccessLogType, Bytes, StreamInfo, Times};

use crate::downstream::Protocol;
use crate::shard::Shard;

impl Shard {
    pub(super) fn tcp_log(&mut self, key: Key) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get(key) else { return };
        let Protocol::Tcp(session) = &downstream.protocol else { return };
        let listener_logs = &downstream.origin.listener.access_logs;
        if session.proxy.access_logs.is_empty() && listener_logs.is_empty() {
            return;
        }
        let cluster =
            session.target.and_then(|target| self.clusters.get(target.cluster)).map(|state| state.config());
        let times = Times { end: Some(now), ..session.times };
        let info = StreamInfo {
            log_type: AccessLogType::TcpConnectionEnd,
            flags: session.flags,
            times,
            bytes: Bytes {
                received: session.received,
                sent: session.sent,
                downstream_wire_received: session.received,
                downstream_wire_sent: session.sent,
                upstream_wire_received: session.sent,
                upstream_wire_sent: session.received,
                ..Bytes::default()
            },
            downstream_remote: Some(&downstream.addresses.peer),
            downstream_direct_remote: Some(downstream.direct_peer()),
            downstream_local: Some(&downstream.addresses.local),
            downstream_direct_local: Some(downstream.direct_local()),
            upstream_local: session.upstream_local.as_ref(),
            upstream_remote: (session.raced.as_ref().or(session.host.as_ref()))
                .filter(|_| session.upstream_local.is_some()),
            upstream_host: session.host.as_ref(),
            upstream_cluster: cluster.map(|c| &*c.stat_name),
            upstream_cluster_raw: cluster.map(|c| &*c.name),
            upstream_transport_failure: session.transport_failure.as_deref(),
            requested_server_name: downstream.requested_server_name(),
            written: downstream.written(),
            downstream_tls: downstream.tls().map(|tls| &**tls),
            downstream_transport_failure: downstream.transport_failure(),
            upstream_tls: session.upstream_tls.as_deref(),
            upstream_attempts: session.attempts.count() + u32::from(session.upstream_local.is_some()),
            connection_id: Some(downstream.id),
            filter_chain_name: Some(&*downstream.origin.chain.name).filter(|n| !n.is_empty()),
            hostname: &self.names.hostname,
            unique: (u128::from(self.rng.next_u64()) << 64) | u128::from(self.rng.next_u64()),
            ..StreamInfo::default()
        };
        let random = self.rng.next_u64();
        self.logs.write(&session.proxy.access_logs, &info, random, now);
        let info = StreamInfo { log_type: AccessLogType::NotSet, ..info };
        self.logs.write(listener_logs, &info, random, now);
    }
}
