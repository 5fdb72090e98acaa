//! Filter chains and the order in which Envoy chooses one of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Cidr, HttpConnectionManager, TcpProxy};

/// The terminal network filter of a chain.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// `envoy.filters.network.tcp_proxy`.
    TcpProxy(Arc<TcpProxy>),
    /// `envoy.filters.network.http_connection_manager`.
    HttpConnectionManager(Arc<HttpConnectionManager>),
}

/// One filter chain.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// `name`, empty when not given.
    pub name: Arc<str>,
    /// The network filters in order; the last one is terminal.
    pub filters: Vec<NetworkFilter>,
    /// `transport_socket_connect_timeout`.
    pub transport_socket_connect_timeout: Option<Duration>,
}

/// `FilterChainMatch.source_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceType {
    /// Any source.
    #[default]
    Any,
    /// The peer has the same address as we, or a loopback one.
    SameIpOrLoopback,
    /// Everything else.
    External,
}

/// `FilterChainMatch.transport_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportProtocol {
    /// `raw_buffer`.
    RawBuffer,
    /// `tls`, as the TLS inspector found it.
    Tls,
}

/// What one chain asks for; an empty list or `None` asks for nothing (`FilterChainMatch`).
#[derive(Clone, Debug, Default)]
pub struct FilterChainCriteria {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges` (destination).
    pub prefix_ranges: Vec<Cidr>,
    /// `server_names`; `*.example.com` is stored as `.example.com`.
    pub server_names: Vec<Arc<str>>,
    /// `transport_protocol`; an unknown name never matches and is dropped with its chain by the compiler.
    pub transport_protocol: Option<TransportProtocol>,
    /// `application_protocols`.
    pub application_protocols: Vec<Arc<str>>,
    /// `direct_source_prefix_ranges`.
    pub direct_source_prefix_ranges: Vec<Cidr>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`.
    pub source_prefix_ranges: Vec<Cidr>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// What is known of a connection when its chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// Destination after original-destination restoring.
    pub destination: (IpAddr, u16),
    /// The peer as restored by PROXY protocol or the like.
    pub source: (IpAddr, u16),
    /// The peer of the TCP connection itself.
    pub direct_source: IpAddr,
    /// SNI, lower case, when an inspector found one.
    pub server_name: Option<&'a str>,
    /// What the inspectors detected.
    pub transport_protocol: TransportProtocol,
    /// ALPN offered or HTTP version sniffed.
    pub application_protocols: &'a [&'a str],
}

/// All criteria of a listener. Matching narrows the set of chains criterion by criterion, most specific
/// value first, exactly in the order that `FilterChainMatch` documents; it never back-tracks.
#[derive(Clone, Debug, Default)]
pub struct FilterChainMatch {
    criteria: Vec<FilterChainCriteria>,
}
