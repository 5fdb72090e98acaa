//! Filters that look at a connection before its filter chain is chosen (`Listener.listener_filters`).

use std::sync::Arc;

/// One entry of `listener_filters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFilter {
    /// What it does.
    pub kind: ListenerFilterKind,
    /// `filter_disabled`: connections that it leaves alone.
    pub disabled: Option<ConnectionPredicate>,
}

/// The listener filters that this build serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerFilterKind {
    /// `envoy.filters.listener.original_dst`: the address before REDIRECT selects the filter chain.
    OriginalDst,
    /// `envoy.filters.listener.tls_inspector`: server name and ALPN that the client offers.
    TlsInspector {
        /// `close_connection_on_client_hello_parsing_errors`.
        close_on_error: bool,
        /// `max_client_hello_size`, bytes; default and most 16 KiB.
        client_hello_bytes_max: u32,
    },
    /// `envoy.filters.listener.http_inspector`: the HTTP version of clear text.
    HttpInspector,
    /// `envoy.filters.listener.proxy_protocol`: addresses from a PROXY protocol header.
    ProxyProtocol(Arc<ProxyProtocolFilter>),
}

/// `listener.v3.ListenerFilterChainMatchPredicate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionPredicate {
    /// `or_match`.
    Or(Vec<Self>),
    /// `and_match`.
    And(Vec<Self>),
    /// `not_match`.
    Not(Box<Self>),
    /// `any_match`.
    Any,
    /// `destination_port_range`: `start..end`.
    DestinationPort {
        /// First port of the range.
        start: u16,
        /// First port behind it; up to 65536.
        end: u32,
    },
}

impl ConnectionPredicate {
    /// Whether a connection to this port (after original-destination restoring) satisfies it.
    pub fn matches(&self, destination_port: u16) -> bool {
        match self {
            Self::Or(any) => any.iter().any(|p| p.matches(destination_port)),
            Self::And(all) => all.iter().all(|p| p.matches(destination_port)),
            Self::Not(inner) => !inner.matches(destination_port),
            Self::Any => true,
            Self::DestinationPort { start, end } => {
                *start <= destination_port && u32::from(destination_port) < *end
            }
        }
    }
}

/// `listener.proxy_protocol.v3.ProxyProtocol`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocolFilter {
    /// `allow_requests_without_proxy_protocol`.
    pub allow_without: bool,
    /// `disallowed_versions`: v1.
    pub refuse_v1: bool,
    /// `disallowed_versions`: v2.
    pub refuse_v2: bool,
    /// `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// `pass_through_tlvs` INCLUDE_ALL, or those types: kept for the upstream PROXY protocol socket.
    pub pass_all_tlvs: bool,
    /// `pass_through_tlvs.tlv_type`.
    pub pass_tlvs: Vec<u8>,
    /// `rules`: TLVs that become dynamic metadata.
    pub rules: Vec<TlvRule>,
}

/// `ProxyProtocol.Rule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlvRule {
    /// `tlv_type`.
    pub tlv_type: u8,
    /// `on_tlv_present.metadata_namespace`, default `envoy.filters.listener.proxy_protocol`.
    pub namespace: Arc<str>,
    /// `on_tlv_present.key`.
    pub key: Arc<str>,
    /// `on_tlv_present.value_string_encoding` BASE64; otherwise text, made UTF-8.
    pub base64: bool,
}
