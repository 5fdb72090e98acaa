//! Transport sockets towards endpoints (`Cluster.transport_socket`, `transport_socket_matches`).

use std::sync::Arc;

use crate::UpstreamTls;

/// How bytes travel to an endpoint.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTransport {
    /// `UpstreamTlsContext`; `None` for clear text.
    pub tls: Option<Arc<UpstreamTls>>,
    /// `ProxyProtocolUpstreamTransport` around it: a header before everything else.
    pub proxy_protocol: Option<Arc<UpstreamProxyProtocol>>,
}

/// One of `transport_socket_matches`.
#[derive(Clone, Debug)]
pub struct TransportMatch {
    /// `name`.
    pub name: Arc<str>,
    /// `match`: every pair must be among the endpoint's; sorted by key, values as their JSON text. Empty matches
    /// every endpoint.
    pub criteria: Vec<(Arc<str>, Arc<str>)>,
    /// `transport_socket`.
    pub transport: UpstreamTransport,
}

/// `core.v3.ProxyProtocolConfig.version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProxyProtocolVersion {
    #[default]
    V1,
    V2,
}

/// `ProxyProtocolUpstreamTransport.config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamProxyProtocol {
    /// `version`.
    pub version: ProxyProtocolVersion,
    /// `pass_through_tlvs` INCLUDE_ALL.
    pub pass_all_tlvs: bool,
    /// `pass_through_tlvs.tlv_type` (INCLUDE).
    pub pass_tlvs: Vec<u8>,
    /// `added_tlvs`.
    pub added_tlvs: Vec<(u8, Vec<u8>)>,
}

impl UpstreamProxyProtocol {
    /// A TLV of the client's header that is told to endpoints. A checksum is not: it would be that of another header.
    pub fn passes(&self, tlv: u8) -> bool {
        const CRC32C: u8 = 0x03;
        tlv != CRC32C && (self.pass_all_tlvs || self.pass_tlvs.contains(&tlv))
    }
}

impl TransportMatch {
    /// True when the endpoint's metadata has all pairs.
    pub fn matches(&self, metadata: &[(Arc<str>, Arc<str>)]) -> bool {
        self.criteria.iter().all(|wanted| metadata.contains(wanted))
    }
}
