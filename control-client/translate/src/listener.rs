//! `config.listener.v3.Listener`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Address, ChainConflict, DrainType, FilterChain, FilterChainCriteria, FilterChainMatch, Listener,
    ListenerFilter, ListenerFilterKind, TrafficDirection, TransportProtocol,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::TrafficDirection as PbDirection;
use millrace_proto::pb::envoy::config::listener::v3 as pb;

use crate::access_log::access_logs;
use crate::context::Context;
use crate::error::Rejection;
use crate::listener_filter::listener_filters;
use crate::{address, filter_chain, value};

const LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
const BUFFER_LIMIT: u32 = 1024 * 1024;

/// Translates a listener whose fields have been checked. Filter chains that `previous` has in the same form are the
/// very same ones.
pub(crate) fn listener(
    listener: &pb::Listener,
    previous: Option<&Listener>,
    path: &Path,
    cx: &mut Context,
) -> Result<Listener, Rejection> {
    let addresses = addresses(listener, path)?;
    let first = addresses.first().map(ToString::to_string).unwrap_or_default();
    let label = if listener.name.is_empty() { first.clone() } else { listener.name.clone() };
    if listener.filter_chains.is_empty() && listener.default_filter_chain.is_none() {
        let why = format!("error adding listener '{first}': no filter chains specified");
        return Err(Rejection::new(&path.join("filter_chains"), why));
    }
    let counted = if listener.stat_prefix.is_empty() { first } else { listener.stat_prefix.clone() };
    let kept = Kept::of(previous);
    let listener_filters = listener_filters(listener, path)?;
    let (filter_chains, chain_match) = chains(listener, &counted, &kept, &listener_filters, path, cx)?;
    let default_filter_chain = match &listener.default_filter_chain {
        Some(chain) => Some(kept.chain(chain, &counted, &path.join("default_filter_chain"), cx)?),
        None => None,
    };
    let deprecated_bind = listener.deprecated_v1.as_ref().and_then(|v1| v1.bind_to_port.as_ref());
    let built = Listener {
        addresses,
        scope: cx.scope(ScopeKind::Listener, &counted),
        bind_to_port: value::flag(listener.bind_to_port.as_ref().or(deprecated_bind), true),
        use_original_dst: value::flag(listener.use_original_dst.as_ref(), false),
        transparent: value::flag(listener.transparent.as_ref(), false),
        freebind: value::flag(listener.freebind.as_ref(), false),
        reuse_port: listener.reuse_port || value::flag(listener.enable_reuse_port.as_ref(), true),
        backlog: listener.tcp_backlog_size.as_ref().map(|n| n.value),
        buffer_limit_bytes: value::number(listener.per_connection_buffer_limit_bytes.as_ref(), BUFFER_LIMIT),
        listener_filters,
        listener_filters_timeout: value::limit_or(
            listener.listener_filters_timeout.as_ref(),
            LISTENER_FILTERS_TIMEOUT,
        ),
        continue_on_listener_filters_timeout: listener.continue_on_listener_filters_timeout,
        filter_chains,
        default_filter_chain,
        chain_match,
        traffic_direction: match listener.traffic_direction() {
            PbDirection::Unspecified => TrafficDirection::Unspecified,
            PbDirection::Inbound => TrafficDirection::Inbound,
            PbDirection::Outbound => TrafficDirection::Outbound,
        },
        drain_type: match listener.drain_type() {
            pb::listener::DrainType::Default => DrainType::Default,
            pb::listener::DrainType::ModifyOnly => DrainType::ModifyOnly,
        },
        connection_limit: cx
            .runtime
            .integer(&format!("envoy.resource_limits.listener.{label}.connection_limit")),
        ignore_global_conn_limit: listener.ignore_global_conn_limit,
        bypass_overload_manager: listener.bypass_overload_manager,
        access_logs: access_logs(&listener.access_log, &path.join("access_log"), cx)?,
        name: label.into(),
    };
    scopes(&built, cx);
    Ok(built)
}

/// Statistics that exist only where something is configured.
fn scopes(listener: &Listener, cx: &Context) {
    for filter in &listener.listener_filters {
        match &filter.kind {
            ListenerFilterKind::TlsInspector { .. } => _ = cx.registry.scope(ScopeKind::TlsInspector, ""),
            ListenerFilterKind::HttpInspector => _ = cx.registry.scope(ScopeKind::HttpInspector, ""),
            ListenerFilterKind::ProxyProtocol(filter) => {
                cx.registry.scope(ScopeKind::ProxyProto, &filter.stat_prefix);
            }
            ListenerFilterKind::OriginalDst => {}
        }
    }
    let mut chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    if chains.any(|chain| chain.tls.is_some()) {
        cx.registry.tls_scopes(listener.scope);
    }
}

fn addresses(listener: &pb::Listener, path: &Path) -> Result<Vec<Address>, Rejection> {
    let Some(first) = &listener.address else {
        let why = format!("error adding listener named '{}': address is necessary", listener.name);
        return Err(Rejection::new(&path.join("address"), why));
    };
    let mut out = vec![address::address(first, &path.join("address"))?];
    let more = path.join("additional_addresses");
    for (i, extra) in listener.additional_addresses.iter().enumerate() {
        let path = more.at(i).join("address");
        match &extra.address {
            Some(extra) => out.push(address::address(extra, &path)?),
            None => return Err(Rejection::new(&path, "address is necessary")),
        }
    }
    Ok(out)
}

/// The filter chains of the version before, by fingerprint.
struct Kept(HashMap<u64, Arc<FilterChain>>);

impl Kept {
    fn of(previous: Option<&Listener>) -> Self {
        let chains = previous.map(|old| old.filter_chains.iter().chain(&old.default_filter_chain));
        Self(chains.into_iter().flatten().map(|chain| (chain.fingerprint, Arc::clone(chain))).collect())
    }

    fn chain(
        &self,
        chain: &pb::FilterChain,
        counted: &str,
        path: &Path,
        cx: &mut Context,
    ) -> Result<Arc<FilterChain>, Rejection> {
        match self.0.get(&filter_chain::fingerprint(chain, counted)) {
            Some(kept) => Ok(Arc::clone(kept)),
            None => Ok(Arc::new(filter_chain::filter_chain(chain, counted, path, cx)?)),
        }
    }
}

type Chains = (Vec<Arc<FilterChain>>, FilterChainMatch);

fn chains(
    listener: &pb::Listener,
    counted: &str,
    kept: &Kept,
    filters: &[ListenerFilter],
    path: &Path,
    cx: &mut Context,
) -> Result<Chains, Rejection> {
    let path = path.join("filter_chains");
    let mut chains = Vec::with_capacity(listener.filter_chains.len());
    let mut criteria = Vec::with_capacity(listener.filter_chains.len());
    for (i, chain) in listener.filter_chains.iter().enumerate() {
        let path = path.at(i);
        let built = kept.chain(chain, counted, &path, cx)?;
        let match_path = path.join("filter_chain_match");
        match filter_chain::criteria(chain.filter_chain_match.as_ref(), &match_path)? {
            Some(wanted) => {
                if let Some(why) = undetectable(&wanted, filters) {
                    cx.report(&match_path, why);
                }
                chains.push(built);
                criteria.push(wanted);
            }
            None => cx.report(
                &match_path.join("transport_protocol"),
                "no inspector detects this protocol; the chain never matches",
            ),
        }
    }
    let compiled = FilterChainMatch::compile(criteria).map_err(|conflict| {
        let why = conflict_text(&conflict, &chains);
        let first = listener.address.as_ref().and_then(|a| address::address(a, &path).ok());
        let first = first.map(|a| a.to_string()).unwrap_or_default();
        Rejection::new(&path, format!("error adding listener '{first}': {why}"))
    })?;
    Ok((chains, compiled))
}

/// Why a chain never matches: nobody looks for what it asks for. Envoy adds no inspector of its own either.
fn undetectable(wanted: &FilterChainCriteria, filters: &[ListenerFilter]) -> Option<&'static str> {
    let has = |is: fn(&ListenerFilterKind) -> bool| filters.iter().any(|filter| is(&filter.kind));
    let has_tls = has(|kind| matches!(kind, ListenerFilterKind::TlsInspector { .. }));
    let has_http = has(|kind| *kind == ListenerFilterKind::HttpInspector);
    let asks_tls =
        wanted.transport_protocol == Some(TransportProtocol::Tls) || !wanted.server_names.is_empty();
    match (asks_tls && !has_tls, !wanted.application_protocols.is_empty() && !has_tls && !has_http) {
        (true, _) => Some("there is no tls_inspector among listener_filters; the chain never matches"),
        (_, true) => Some("there is no inspector among listener_filters; the chain never matches"),
        (false, false) => None,
    }
}

fn conflict_text(conflict: &ChainConflict, chains: &[Arc<FilterChain>]) -> String {
    let name = |at: usize| chains.get(at).map(|chain| chain.name.to_string()).unwrap_or_default();
    let (first, second) = (name(conflict.first), name(conflict.second));
    match conflict.identical {
        true => format!("filter chain '{second}' has the same matching rules defined as '{first}'"),
        false => {
            let why = "multiple filter chains with overlapping matching rules are defined";
            format!("{why} ('{first}' and '{second}')")
        }
    }
}
