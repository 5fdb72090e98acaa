//! `envoy.filters.network.set_filter_state`: what is written about a connection before its terminal filter sees it.

use millrace_base::{FilterState, Key, Written};
use millrace_config::{ConnectionGate, ConnectionState, StateValue};
use millrace_filter::http::metadata::connection_state;
use millrace_observe::access_log::StreamInfo;
use millrace_observe::format::{Missing, render};

use crate::shard::Shard;

impl Shard {
    /// The connection is there: `on_new_connection`.
    pub(crate) fn write_new_connection_state(&mut self, key: Key) {
        self.write_connection_state(key, |config| &config.on_new);
    }

    /// Its TLS handshake is through: `on_downstream_tls_handshake`.
    pub(crate) fn write_handshake_state(&mut self, key: Key) {
        self.write_connection_state(key, |config| &config.on_handshake);
    }

    fn write_connection_state(&mut self, key: Key, values: impl Fn(&ConnectionState) -> &[StateValue]) {
        let Some(downstream) = self.downstreams.get(key) else { return };
        if downstream.origin.chain.gates.is_empty() {
            return;
        }
        let origin = downstream.origin.clone();
        let mut state = downstream.filter_state().cloned().unwrap_or_default();
        for gate in &origin.chain.gates {
            let ConnectionGate::SetFilterState(config) = gate else { continue };
            let info = downstream.info(self.wall_at(downstream.opened), self.io.now, &self.names.hostname);
            connection_state(values(config), &mut state, |value, written, out| {
                let written = Written { metadata: downstream.metadata(), ..*written };
                let info = StreamInfo { written, ..info };
                render(&value.value, &info, Missing::Dash, out);
            });
        }
        self.keep_connection_state(key, state);
    }

    fn keep_connection_state(&mut self, key: Key, state: FilterState) {
        if let Some(downstream) = self.downstreams.get_mut(key)
            && !state.is_empty()
        {
            downstream.notes.get_or_insert_default().filter_state = state;
        }
    }
}
