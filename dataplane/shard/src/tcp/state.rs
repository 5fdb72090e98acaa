//! What a connection's filter state and dynamic metadata say of its TCP session.

use std::time::Duration;

use millrace_base::{Key, StateObject};
use millrace_config::{MetadataMatch, TcpProxy};

use crate::shard::Shard;

/// The cluster that the session goes to.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
/// Its idle timeout; 0 for none.
const IDLE_TIMEOUT: &str = "envoy.tcp_proxy.per_connection_idle_timeout_ms";

impl Shard {
    /// Takes what filters have written about the connection instead of what the proxy is configured with.
    pub(super) fn tcp_heed_state(&mut self, key: Key) {
        let Some(state) = self.downstreams.get(key).and_then(|client| client.filter_state()) else { return };
        let text = |key| state.get(key).map(StateObject::text);
        let cluster = text(CLUSTER).map(|name| self.snapshot.cluster_by_name(name).map(|cluster| cluster.id));
        let idle = state.get(IDLE_TIMEOUT).and_then(StateObject::number).map(Duration::from_millis);
        let Some(session) = self.tcp_session(key) else { return };
        if let Some(cluster) = cluster {
            session.cluster = cluster;
        }
        if let Some(idle) = idle {
            session.idle_timeout = Some(idle).filter(|idle| !idle.is_zero());
        }
    }

    /// What the connection's dynamic metadata ask of its endpoint, together with what the proxy does.
    pub(super) fn tcp_asked(&self, key: Key, proxy: &TcpProxy) -> Option<MetadataMatch> {
        let metadata = self.downstreams.get(key)?.metadata()?;
        let own = metadata.namespace(MetadataMatch::NAMESPACE)?;
        Some(MetadataMatch::merged(proxy.metadata_match.as_deref(), own))
    }
}
