//! TCP connections to the host that filter state or their TLS names (`envoy.filters.network.sni_dynamic_forward_proxy`).

use std::sync::Arc;

use millrace_base::{Key, Written};
use millrace_config::{ConnectionGate, SniForwardProxy};
use millrace_filter::http::forward_proxy::{self, Asked};
use millrace_observe::stats::dns_cache as metric;

use crate::downstream::Downstream;
use crate::named_hosts::Waiter;
use crate::shard::Shard;

/// The filter of a connection's chain, if it has one.
pub(super) fn of_chain(downstream: &Downstream) -> Option<&Arc<SniForwardProxy>> {
    downstream.origin.chain.gates.iter().find_map(|gate| match gate {
        ConnectionGate::SniForwardProxy(own) => Some(own),
        ConnectionGate::RateLimit(_) | ConnectionGate::Limit(_) | ConnectionGate::SetFilterState(_) => None,
    })
}

impl Shard {
    /// Has a connection wait until the host that its TLS names is resolved. False when it has to, or is closed.
    pub(super) fn tcp_passes_naming(&mut self, key: Key) -> bool {
        let Some(downstream) = self.downstreams.get(key) else { return false };
        let Some(own) = of_chain(downstream) else { return true };
        let own = Arc::clone(own);
        let written = Written { connection: downstream.filter_state(), ..Written::default() };
        let (name, port) = forward_proxy::dynamic(&written);
        let name = name.or_else(|| downstream.requested_server_name()).unwrap_or_default();
        if name.is_empty() {
            return true;
        }
        let cache = &own.cache;
        let asked = match cache.is_busy() {
            true => Asked::Busy,
            false => {
                let host = (name.as_bytes(), port.unwrap_or(own.port));
                self.named_hosts.ask(cache, host, (Waiter::Connection(key), false), &self.shared)
            }
        };
        let counter = match asked {
            // As in Envoy the balancer says what becomes of a host without an address.
            Asked::Known(_) => return true,
            Asked::Waits => return false,
            Asked::Full => metric::HOST_OVERFLOW,
            Asked::Busy => metric::DNS_RQ_PENDING_OVERFLOW,
        };
        self.stats.inc(cache.scope, counter);
        self.tcp_close(key, false);
        false
    }

    /// The host that a connection waited for was resolved, or was not.
    pub(crate) fn tcp_host_resolved(&mut self, key: Key) {
        self.tcp_connect(key);
    }
}
