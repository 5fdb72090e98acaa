//! `config.listener.v3.FilterChain` and `FilterChainMatch`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use millrace_config::{
    ConnectionGate, FilterChain, FilterChainCriteria, NetworkFilter, SourceType, TransportProtocol,
};
use millrace_proto::pb::envoy::config::listener::v3 as pb;
use millrace_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use millrace_proto::{Message, Path};

use crate::context::Context;
use crate::error::Rejection;
use crate::{address, connection_gate, extension, http, tcp_proxy, transport_socket, value};

/// One chain; `listener` is the name under which the listener counts.
pub(crate) fn filter_chain(
    chain: &pb::FilterChain,
    listener: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<FilterChain, Rejection> {
    let socket_path = path.join("transport_socket");
    let tls = transport_socket::downstream(chain.transport_socket.as_ref(), &socket_path, cx)?;
    let filters_path = path.join("filters");
    let (mut filters, mut gates) = (Vec::with_capacity(1), Vec::new());
    for (i, filter) in chain.filters.iter().enumerate() {
        let (last, path) = (i + 1 == chain.filters.len(), filters_path.at(i));
        match gate(filter, last, &path, cx)? {
            Some(gate) => {
                check_terminal(&gate, chain, &path)?;
                gates.push(gate);
            }
            None => filters.push(network_filter(filter, last, listener, &path, cx)?),
        }
    }
    Ok(FilterChain {
        name: chain.name.as_str().into(),
        filters,
        gates,
        tls,
        transport_socket_connect_timeout: value::limit(chain.transport_socket_connect_timeout.as_ref()),
        fingerprint: fingerprint(chain, listener),
    })
}

/// Equal for chains that would be translated alike: what the chain says and the listener's name in statistics, which
/// its filters count under. Metadata has no effect and is left out; values of the runtime too, so that a chain that
/// stays keeps those it was made with.
pub(crate) fn fingerprint(chain: &pb::FilterChain, listener: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    listener.hash(&mut hasher);
    match &chain.metadata {
        // A map is encoded in any order.
        Some(_) => pb::FilterChain { metadata: None, ..chain.clone() }.encode_to_vec(),
        None => chain.encode_to_vec(),
    }
    .hash(&mut hasher);
    hasher.finish()
}

/// What has a connection wait is the TCP proxy's alone.
fn check_terminal(gate: &ConnectionGate, chain: &pb::FilterChain, path: &Path) -> Result<(), Rejection> {
    let config = chain.filters.last().and_then(|filter| filter.config_type.as_ref());
    let is_tcp =
        matches!(config, Some(ConfigType::TypedConfig(any)) if extension::type_of(any) == tcp_proxy::TYPE);
    match gate {
        ConnectionGate::SniForwardProxy(_) if !is_tcp => {
            Err(Rejection::not_served(path, "this filter is served in front of a TCP proxy only"))
        }
        _ => Ok(()),
    }
}

fn gate(
    filter: &pb::Filter,
    last: bool,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<ConnectionGate>, Rejection> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { return Ok(None) };
    let gate = connection_gate::gate(any, &path.join("typed_config"), cx)?;
    if gate.is_some() && last {
        let why = format!(
            "Error: non-terminal filter named {} of type {} is the last filter in a network filter chain.",
            filter.name,
            extension::type_of(any)
        );
        return Err(Rejection::new(path, why));
    }
    Ok(gate)
}

fn network_filter(
    filter: &pb::Filter,
    last: bool,
    listener: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<NetworkFilter, Rejection> {
    let any = match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            let path = path.join("config_discovery");
            return Err(Rejection::not_served(
                &path,
                "filters whose configuration comes on its own (ECDS) are not served by this build",
            ));
        }
        None => return Err(extension::not_served("network filter", &filter.name, None, path)),
    };
    let config = path.join("typed_config");
    let (kind, built) = match extension::type_of(any).as_str() {
        tcp_proxy::TYPE => {
            let proxy = tcp_proxy::tcp_proxy(&extension::open(any, &config)?, &config, cx)?;
            ("envoy.filters.network.tcp_proxy", NetworkFilter::TcpProxy(Arc::new(proxy)))
        }
        http::TYPE => {
            let manager = http::connection_manager(&extension::open(any, &config)?, listener, &config, cx)?;
            let kind = "envoy.filters.network.http_connection_manager";
            (kind, NetworkFilter::HttpConnectionManager(Arc::new(manager)))
        }
        _ => return Err(extension::not_served("network filter", &filter.name, Some(any), path)),
    };
    if !last {
        let why = format!(
            "Error: terminal filter named {} of type {kind} must be the last filter in a network filter chain.",
            filter.name
        );
        return Err(Rejection::new(path, why));
    }
    Ok(built)
}

/// What a chain asks for; `None` when it can never match, because nothing detects its transport protocol.
pub(crate) fn criteria(
    by: Option<&pb::FilterChainMatch>,
    path: &Path,
) -> Result<Option<FilterChainCriteria>, Rejection> {
    use pb::filter_chain_match::ConnectionSourceType;
    let Some(by) = by else {
        return Ok(Some(FilterChainCriteria::default()));
    };
    let transport_protocol = match by.transport_protocol.as_str() {
        "" => None,
        "raw_buffer" => Some(TransportProtocol::RawBuffer),
        "tls" => Some(TransportProtocol::Tls),
        _ => return Ok(None),
    };
    let port = |port: u32, path: &Path| {
        u16::try_from(port).map_err(|_| Rejection::new(path, "value must be inside range [1, 65535]"))
    };
    let ports_path = path.join("source_ports");
    let destination = by.destination_port.as_ref();
    Ok(Some(FilterChainCriteria {
        destination_port: destination.map(|p| port(p.value, &path.join("destination_port"))).transpose()?,
        prefix_ranges: address::cidrs(&by.prefix_ranges, &path.join("prefix_ranges"))?,
        server_names: server_names(&by.server_names, &path.join("server_names"))?,
        transport_protocol,
        application_protocols: by.application_protocols.iter().map(|name| Arc::from(name.as_str())).collect(),
        direct_source_prefix_ranges: address::cidrs(
            &by.direct_source_prefix_ranges,
            &path.join("direct_source_prefix_ranges"),
        )?,
        source_type: match by.source_type() {
            ConnectionSourceType::Any => SourceType::Any,
            ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
            ConnectionSourceType::External => SourceType::External,
        },
        source_prefix_ranges: address::cidrs(&by.source_prefix_ranges, &path.join("source_prefix_ranges"))?,
        source_ports: by
            .source_ports
            .iter()
            .enumerate()
            .map(|(i, p)| port(*p, &ports_path.at(i)))
            .collect::<Result<_, _>>()?,
    }))
}

/// `*.example.com` becomes `.example.com`; any other star is refused.
fn server_names(names: &[String], path: &Path) -> Result<Vec<Arc<str>>, Rejection> {
    let one = |(i, name): (usize, &String)| {
        let lower = name.to_ascii_lowercase();
        let stripped = lower.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let stored = stripped.unwrap_or(&lower);
        if stored.contains('*') {
            let why = "partial wildcards are not supported in \"server_names\"";
            return Err(Rejection::new(&path.at(i), why));
        }
        Ok(Arc::from(stored))
    };
    names.iter().enumerate().map(one).collect()
}
