//! What the codecs counted becomes Envoy's `http2.*` and `cluster.<name>.http2.*` statistics.

use millrace_base::Key;
use millrace_config::ScopeId;
use millrace_http::h2::Counts;
use millrace_observe::stats::{Counter, ShardStats, cluster, http2};

use super::super::request::http;
use crate::shard::Shard;
use crate::upstream::Carries;

fn add(stats: &mut ShardStats, scope: ScopeId, rows: &[(Counter, u32)]) {
    for (counter, count) in rows.iter().filter(|(_, count)| *count > 0) {
        stats.add(scope, *counter, u64::from(*count));
    }
}

fn of_listener(counts: &Counts) -> [(Counter, u32); 14] {
    [
        (http2::RX_RESET, counts.rx_reset),
        (http2::TX_RESET, counts.tx_reset),
        (http2::RX_MESSAGING_ERROR, counts.rx_messaging_error),
        (http2::HEADERS_CB_NO_STREAM, counts.headers_cb_no_stream),
        (http2::TRAILERS, counts.trailers),
        (http2::DROPPED_HEADERS_WITH_UNDERSCORES, counts.dropped_headers_with_underscores),
        (
            http2::REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS,
            counts.requests_rejected_with_underscores_in_headers,
        ),
        (http2::HEADER_OVERFLOW, counts.header_overflow),
        // Envoy has no rows for floods of SETTINGS, PING and CONTINUATION frames of their own.
        (http2::INBOUND_EMPTY_FRAMES_FLOOD, counts.inbound_empty_frames_flood),
        (http2::INBOUND_PRIORITY_FRAMES_FLOOD, counts.inbound_priority_frames_flood),
        (http2::INBOUND_WINDOW_UPDATE_FRAMES_FLOOD, counts.inbound_window_update_frames_flood),
        (http2::OUTBOUND_CONTROL_FLOOD, counts.outbound_control_flood),
        (http2::GOAWAY_SENT, counts.goaway_sent),
        (http2::STREAM_REFUSED_ERRORS, counts.refused_streams),
    ]
}

/// Trailers of endpoints do not count, as in Envoy.
fn of_cluster(counts: &Counts) -> [(Counter, u32); 12] {
    [
        // A head that is no head; not a body of another length than it said.
        (cluster::UPSTREAM_CX_PROTOCOL_ERROR, counts.rx_messaging_error + counts.header_overflow),
        (cluster::HTTP2_RX_RESET, counts.rx_reset),
        (cluster::HTTP2_TX_RESET, counts.tx_reset),
        (cluster::HTTP2_RX_MESSAGING_ERROR, counts.rx_messaging_error),
        (cluster::HTTP2_HEADERS_CB_NO_STREAM, counts.headers_cb_no_stream),
        (cluster::HTTP2_HEADER_OVERFLOW, counts.header_overflow),
        (cluster::HTTP2_INBOUND_EMPTY_FRAMES_FLOOD, counts.inbound_empty_frames_flood),
        (cluster::HTTP2_INBOUND_PRIORITY_FRAMES_FLOOD, counts.inbound_priority_frames_flood),
        (cluster::HTTP2_INBOUND_WINDOW_UPDATE_FRAMES_FLOOD, counts.inbound_window_update_frames_flood),
        (cluster::HTTP2_OUTBOUND_CONTROL_FLOOD, counts.outbound_control_flood),
        (cluster::HTTP2_GOAWAY_SENT, counts.goaway_sent),
        (cluster::HTTP2_STREAM_REFUSED_ERRORS, counts.refused_streams),
    ]
}

impl Shard {
    /// Counts what a client's codec has seen since the last time.
    pub(crate) fn h2_count_client(&mut self, key: Key) {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        let scope = http.hcm.http2_scope;
        let Some(h2) = http.h2.as_deref_mut() else { return };
        let counts = h2.codec.take_counts();
        if !counts.is_zero() {
            add(&mut self.stats, scope, &of_listener(&counts));
        }
    }

    /// Counts what an endpoint's codec has seen since the last time.
    pub(crate) fn h2_count_upstream(&mut self, conn: Key) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http2(h2) = &mut upstream.carries else { return };
        let counts = h2.codec.take_counts();
        if !counts.is_zero() {
            add(&mut self.stats, upstream.scope, &of_cluster(&counts));
        }
    }
}
