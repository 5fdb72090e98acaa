//! Istio's filter `istio.alpn`.

use std::sync::Arc;

use millrace_config::{HttpFilterKind, IstioAlpn};
use millrace_proto::istio::{AlpnFilterConfig, AlpnProtocol};

/// Type of the configuration.
pub(super) const TYPE: &str = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";

/// A protocol that stands twice keeps its last list, as in Istio's proxy; none and an empty one change nothing.
pub(super) fn alpn(config: &AlpnFilterConfig) -> HttpFilterKind {
    let of = |protocol: AlpnProtocol| -> Arc<[Arc<[u8]>]> {
        let last = config.alpn_override.iter().rev().find(|entry| entry.upstream_protocol() == protocol);
        let names = last.into_iter().flat_map(|entry| &entry.alpn_override);
        names.map(|name| Arc::from(name.as_bytes())).collect()
    };
    HttpFilterKind::IstioAlpn(Arc::new(IstioAlpn {
        http10: of(AlpnProtocol::Http10),
        http11: of(AlpnProtocol::Http11),
        http2: of(AlpnProtocol::Http2),
    }))
}
