//! `config.listener.v3.ListenerFilter`: what looks at a connection before its filter chain is chosen.

use std::sync::Arc;

use millrace_config::{
    ConnectionPredicate, ListenerFilter, ListenerFilterKind, ProxyProtocolFilter, TlvRule,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use millrace_proto::pb::envoy::config::listener::v3 as pb;
use millrace_proto::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use millrace_proto::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate as predicate;
use millrace_proto::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as proxy;
use millrace_proto::pb::envoy::extensions::filters::listener::proxy_protocol::v3::proxy_protocol::key_value_pair::ValueStringEncoding;
use millrace_proto::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use millrace_proto::pb::google::protobuf::Any;

use crate::error::Rejection;
use crate::{extension, transport_socket, value};

const ORIGINAL_DST: &str = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
const TLS_INSPECTOR: &str = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const HTTP_INSPECTOR: &str = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
const PROXY_PROTOCOL: &str = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
/// Default and most of `max_client_hello_size`.
const CLIENT_HELLO: u32 = 16 * 1024;
const TLV_NAMESPACE: &str = "envoy.filters.listener.proxy_protocol";

/// The filters in their order; the one that the deprecated `use_proxy_proto` asks for comes last, as in Envoy.
pub(crate) fn listener_filters(
    listener: &pb::Listener,
    path: &Path,
) -> Result<Vec<ListenerFilter>, Rejection> {
    let filters_path = path.join("listener_filters");
    let mut out = Vec::with_capacity(listener.listener_filters.len());
    for (i, filter) in listener.listener_filters.iter().enumerate() {
        let path = filters_path.at(i);
        let kind = kind(filter, &path)?;
        let disabled = filter.filter_disabled.as_ref();
        let disabled = disabled.map(|by| predicate(by, &path.join("filter_disabled"))).transpose()?;
        out.push(ListenerFilter { kind, disabled });
    }
    let first = listener.filter_chains.first().or(listener.default_filter_chain.as_ref());
    if first.is_some_and(|chain| value::flag(chain.use_proxy_proto.as_ref(), false)) {
        let kind = ListenerFilterKind::ProxyProtocol(Arc::default());
        out.push(ListenerFilter { kind, disabled: None });
    }
    Ok(out)
}

fn kind(filter: &pb::ListenerFilter, path: &Path) -> Result<ListenerFilterKind, Rejection> {
    let any = match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            let why = "filters whose configuration comes on its own (ECDS) are not served by this build";
            return Err(Rejection::not_served(&path.join("config_discovery"), why));
        }
        None => return Err(extension::not_served("listener filter", &filter.name, None, path)),
    };
    let config = path.join("typed_config");
    match extension::type_of(any).as_str() {
        ORIGINAL_DST => Ok(ListenerFilterKind::OriginalDst),
        HTTP_INSPECTOR => Ok(ListenerFilterKind::HttpInspector),
        TLS_INSPECTOR => {
            let inspector: TlsInspector = extension::open(any, &config)?;
            let most = value::number(inspector.max_client_hello_size.as_ref(), CLIENT_HELLO);
            Ok(ListenerFilterKind::TlsInspector {
                close_on_error: inspector.close_connection_on_client_hello_parsing_errors,
                client_hello_bytes_max: most.min(CLIENT_HELLO),
            })
        }
        PROXY_PROTOCOL => proxy_protocol(any, &config),
        _ => Err(extension::not_served("listener filter", &filter.name, Some(any), path)),
    }
}

fn proxy_protocol(any: &Any, path: &Path) -> Result<ListenerFilterKind, Rejection> {
    let from: proxy::ProxyProtocol = extension::open(any, path)?;
    let refuses = |version: Version| from.disallowed_versions().any(|refused| refused == version);
    let (refuse_v1, refuse_v2) = (refuses(Version::V1), refuses(Version::V2));
    if refuse_v1 && refuse_v2 {
        let why = "Proxy Protocol filter is misconfigured: all proxy protocol versions are disallowed.";
        return Err(Rejection::new(&path.join("disallowed_versions"), why));
    }
    let (pass_all_tlvs, pass_tlvs) = transport_socket::pass_through(from.pass_through_tlvs.as_ref());
    // A rule that says nothing of what to do does nothing.
    let rules = from.rules.iter().filter_map(|rule| {
        let pair = rule.on_tlv_present.as_ref()?;
        let namespace = match pair.metadata_namespace.as_str() {
            "" => TLV_NAMESPACE,
            namespace => namespace,
        };
        Some(TlvRule {
            tlv_type: u8::try_from(rule.tlv_type).ok()?,
            namespace: namespace.into(),
            key: pair.key.as_str().into(),
            base64: pair.value_string_encoding() == ValueStringEncoding::Base64,
        })
    });
    Ok(ListenerFilterKind::ProxyProtocol(Arc::new(ProxyProtocolFilter {
        allow_without: from.allow_requests_without_proxy_protocol,
        refuse_v1,
        refuse_v2,
        stat_prefix: value::text(&from.stat_prefix),
        pass_all_tlvs,
        pass_tlvs,
        rules: rules.collect(),
    })))
}

fn predicate(
    from: &pb::ListenerFilterChainMatchPredicate,
    path: &Path,
) -> Result<ConnectionPredicate, Rejection> {
    use predicate::Rule;
    let all = |set: &predicate::MatchSet, path: Path| -> Result<Vec<ConnectionPredicate>, Rejection> {
        let path = path.join("rules");
        set.rules.iter().enumerate().map(|(i, rule)| predicate(rule, &path.at(i))).collect()
    };
    match &from.rule {
        Some(Rule::OrMatch(set)) => Ok(ConnectionPredicate::Or(all(set, path.join("or_match"))?)),
        Some(Rule::AndMatch(set)) => Ok(ConnectionPredicate::And(all(set, path.join("and_match"))?)),
        Some(Rule::NotMatch(inner)) => {
            Ok(ConnectionPredicate::Not(Box::new(predicate(inner, &path.join("not_match"))?)))
        }
        Some(Rule::AnyMatch(_)) => Ok(ConnectionPredicate::Any),
        Some(Rule::DestinationPortRange(range)) => Ok(ports(range.start, range.end)),
        None => Err(Rejection::new(&path.join("rule"), "is required")),
    }
}

/// A range that holds no port of TCP matches nothing, which Envoy allows.
fn ports(start: i32, end: i32) -> ConnectionPredicate {
    let end = u32::try_from(end).unwrap_or(0).min(1 << 16);
    match u16::try_from(start.max(0)) {
        Ok(start) => ConnectionPredicate::DestinationPort { start, end },
        Err(_) => ConnectionPredicate::DestinationPort { start: 0, end: 0 },
    }
}
