//! What a connection's filter state and dynamic metadata say of its TCP session.

use std::time::Duration;

use millrace_base::{Key, StateObject};
use millrace_config::MetadataMatch;
use millrace_filter::network::tcp_proxy::Target;

use super::TcpSession;
use crate::downstream::{Downstream, Protocol};
use crate::shard::Shard;

/// The cluster that the session goes to.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
/// Its idle timeout; 0 for none.
const IDLE_TIMEOUT: &str = "envoy.tcp_proxy.per_connection_idle_timeout_ms";

/// The TCP session of a connection.
pub(super) fn session(downstream: &mut Box<Downstream>) -> Option<&mut TcpSession> {
    match &mut downstream.protocol {
        Protocol::Tcp(session) => Some(session),
        Protocol::Http(_) | Protocol::Securing(_) | Protocol::Refused(_) => None,
    }
}

impl Shard {
    /// Takes what filters have written about the connection instead of what the proxy is configured with.
    pub(super) fn tcp_heed_state(&mut self, key: Key) {
        let Some(state) = self.downstreams.get(key).and_then(|client| client.filter_state()) else { return };
        let text = |key| state.get(key).map(StateObject::text);
        let cluster = text(CLUSTER).map(|name| self.snapshot.cluster_by_name(name).map(|cluster| cluster.id));
        let idle = state.get(IDLE_TIMEOUT).and_then(StateObject::number).map(Duration::from_millis);
        let Some(session) = self.tcp_session(key) else { return };
        if let Some(cluster) = cluster {
            session.target = cluster.map(|cluster| Target { cluster, weighted: None });
        }
        if let Some(idle) = idle {
            session.idle_timeout = Some(idle).filter(|idle| !idle.is_zero());
        }
    }

    /// What the connection's dynamic metadata ask of its endpoint, together with what the proxy does.
    pub(super) fn tcp_asked(&self, key: Key, proxy: Option<&MetadataMatch>) -> Option<MetadataMatch> {
        let metadata = self.downstreams.get(key)?.metadata()?;
        let own = metadata.namespace(MetadataMatch::NAMESPACE)?;
        Some(MetadataMatch::merged(proxy, own))
    }
}
