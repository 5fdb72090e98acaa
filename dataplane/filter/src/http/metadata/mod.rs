//! The filters that write about a stream for later readers: `header_to_metadata`, `json_to_metadata`,
//! `set_metadata`, `set_filter_state`.

pub(super) mod header_to_metadata;
mod json;
pub(super) mod json_to_metadata;
mod protobuf_value;
mod state;

use millrace_base::StreamState;
use millrace_config::SetMetadata;

pub use state::connection_state;
pub(super) use state::stream_state;

/// `envoy.filters.http.set_metadata`: the entries in their order.
pub(super) fn set_metadata(entries: &[SetMetadata], state: &StreamState) {
    state.write(|notes| {
        for entry in entries {
            let known = notes.metadata.namespace(&entry.namespace).is_some();
            if !known || entry.overwrite {
                notes.metadata.namespace_mut(&entry.namespace).merge(&entry.value);
            }
        }
    });
}

#[cfg(test)]
mod tests;
