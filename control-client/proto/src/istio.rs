//! Messages of Istio's own filters, which the `envoy-types` package lacks (`proto/istio` has their descriptors).

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AlpnFilterConfig {
    /// The offers by the protocol that the cluster speaks.
    #[prost(message, repeated, tag = "1")]
    pub alpn_override: Vec<AlpnOverride>,
}

/// `FilterConfig.AlpnOverride`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AlpnOverride {
    /// The protocol that the cluster speaks.
    #[prost(enumeration = "AlpnProtocol", tag = "1")]
    pub upstream_protocol: i32,
    /// What is offered then.
    #[prost(string, repeated, tag = "2")]
    pub alpn_override: Vec<String>,
}

/// `FilterConfig.Protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum AlpnProtocol {
    Http10 = 0,
    Http11 = 1,
    Http2 = 2,
}
