//! What a request asks of the connection that it goes on: names, protocols, and what its client said of itself.

use std::net::IpAddr;
use std::sync::Arc;

use millrace_config::{Cluster, HttpFilter, HttpFilterKind};
use millrace_filter::http::istio_alpn;
use millrace_filter::http::stream_filters::Start;
use millrace_upstream::{ClusterState, Transport, TransportKey};

use super::HttpOptions;
use super::stream::Stream;
use crate::address::inet;
use crate::downstream::Downstream;

/// What the request asks of the handshake: `auto_sni`, and protocols to offer. `None` when the cluster has too many
/// different demands at a time.
pub(super) fn transport_key(
    state: &mut ClusterState,
    stream: &Stream,
    client: Option<&Downstream>,
) -> Option<TransportKey> {
    let own = &state.config().transport;
    let config = state.config();
    let alone = client.filter(|_| config.pool_per_downstream).map(|_| stream.downstream);
    if own.tls.is_none() && own.proxy_protocol.is_none() && config.transport_matches.is_empty() {
        return match alone {
            None => Some(TransportKey::DEFAULT),
            client => state.transport_key(&Transport { client, ..Transport::default() }),
        };
    }
    let transports = config.transport_matches.iter().map(|one| &one.transport).chain([own]);
    let told = transports.into_iter().any(|transport| transport.proxy_protocol.is_some());
    let client = client.filter(|_| told);
    let proxy = client.map(|client| &client.addresses);
    let proxy = proxy.and_then(|client| Some((inet(&client.peer)?, inet(&client.local)?)));
    let tlvs = client.and_then(Downstream::passed_tlvs);
    let names = config.http.auto_sni || config.http.auto_san_validation;
    let server_name = names.then(|| automatic_server_name(config, stream)).flatten();
    let alpn = stream.options.as_deref().and_then(|options| istio_offer(stream, options, config));
    state.transport_key(&Transport { server_name, alpn, proxy, tlvs, client: alone })
}

/// What Istio's filter has the handshake offer.
fn istio_offer<'o>(
    stream: &Stream,
    options: &'o HttpOptions,
    cluster: &Cluster,
) -> Option<&'o Arc<[Arc<[u8]>]>> {
    let has = |filter: &HttpFilter| matches!(filter.kind, HttpFilterKind::IstioAlpn(_));
    if !options.hcm.http_filters.iter().any(has) {
        return None;
    }
    let plan = stream.facts.plan?;
    let config = options.routes.as_deref();
    let selected = plan.selected(config?);
    let start = Start { selected, ..Start::of(&options.hcm, config) };
    istio_alpn::offer(&start, cluster, stream.request.version)
}

/// The host of a request without its port, or what `override_auto_sni_header` has.
fn automatic_server_name<'s>(config: &Cluster, stream: &'s Stream) -> Option<&'s str> {
    let header = Some(&*config.http.auto_sni_header).filter(|name| !name.is_empty());
    let named = header.and_then(|name| stream.request.headers.get_name(name.as_bytes()));
    let host = named.unwrap_or(stream.request.authority());
    let host = std::str::from_utf8(host).ok()?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    // An address is no server name (RFC 6066 section 3), but certificates may be held to it.
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(_) => Some(bare).filter(|_| config.http.auto_san_validation),
        Err(_) => Some(name).filter(|name| !name.is_empty()),
    }
}
