//! Istio's filter `istio.alpn`: which protocols the handshake of a request's upstream connection offers, by the version
//! of HTTP that the cluster speaks.

use std::sync::Arc;

use millrace_config::{Cluster, HttpFilterKind, IstioAlpn, UpstreamProtocol};
use millrace_http::Version;

use super::stream_filters::{Start, runs};

/// What is offered instead of `alpn_protocols` by a request to `cluster`, whose client speaks `downstream`; `None` without
/// the filter, where it is disabled, and for clusters with the metadata `istio: {alpn_override: "false"}`.
pub fn offer<'c>(start: &Start<'c>, cluster: &Cluster, downstream: Version) -> Option<&'c Arc<[Arc<[u8]>]>> {
    if !cluster.istio_alpn_override {
        return None;
    }
    let mut found = None;
    for filter in &start.hcm.http_filters {
        if let HttpFilterKind::IstioAlpn(config) = &filter.kind
            && runs(start, filter)
        {
            // The last one has its way, if it has a list.
            found = Some(list(config, cluster.http.protocol, downstream)).filter(|l| !l.is_empty()).or(found);
        }
    }
    found
}

fn list(config: &IstioAlpn, upstream: UpstreamProtocol, downstream: Version) -> &Arc<[Arc<[u8]>]> {
    match (upstream, downstream) {
        // An automatic cluster hopes for HTTP/2.
        (UpstreamProtocol::Http2 | UpstreamProtocol::Auto, _) => &config.http2,
        (UpstreamProtocol::Http1, _) => &config.http11,
        (UpstreamProtocol::UseDownstream, Version::Http10) => &config.http10,
        (UpstreamProtocol::UseDownstream, Version::Http11) => &config.http11,
        (UpstreamProtocol::UseDownstream, Version::Http2) => &config.http2,
    }
}

#[cfg(test)]
mod tests;
