//! `extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    ClientCertDetails, Codec, ForwardClientCertDetails, Http2Options, HttpConnectionManager,
    LocalReplyConfig, PathNormalization, PathWithEscapedSlashes, RouteSource, RouteTableId,
    ServerHeaderTransformation, UnderscoresAction,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use millrace_proto::pb::envoy::r#type::v3::Percent;

use super::scoped_routes::scoped_routes;
use super::{filters, http1, http2, local_reply};
use crate::access_log::access_logs;
use crate::context::Context;
use crate::error::Rejection;
use crate::interned::RouteTableInfo;
use crate::route::route_configuration;
use crate::{address, source, value};

/// Type of the configuration.
pub(crate) const TYPE: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const REQUEST_HEADERS_TIMEOUT: Duration = millrace_base::Limits::DEFAULT.request_headers_timeout;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// `listener` is the name under which the listener counts.
pub(crate) fn connection_manager(
    manager: &pb::HttpConnectionManager,
    listener: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<HttpConnectionManager, Rejection> {
    let codec = codec(manager, path)?;
    let common = manager.common_http_protocol_options.unwrap_or_default();
    let kb = |kb: Option<&_>| value::number(kb, 60).saturating_mul(1024);
    let internal = manager.internal_address_config.as_ref();
    let internal_addresses = match internal {
        Some(config) => Some(address::cidrs(
            &config.cidr_ranges,
            &path.join("internal_address_config").join("cidr_ranges"),
        )?),
        None => None,
    };
    Ok(HttpConnectionManager {
        stat_prefix: manager.stat_prefix.as_str().into(),
        scope: cx.scope(ScopeKind::Http, &manager.stat_prefix),
        listener_scope: cx
            .scope(ScopeKind::HttpListener, &format!("{listener}.http.{}", manager.stat_prefix)),
        routes: routes(manager, path, cx)?,
        http_filters: filters::filters(
            &manager.http_filters,
            &manager.stat_prefix,
            &path.join("http_filters"),
            cx,
        )?,
        local_replies: local_replies(manager, path, cx)?,
        access_logs: access_logs(&manager.access_log, &path.join("access_log"), cx)?,
        codec,
        http2: http2(manager, path)?,
        http2_scope: cx.scope(ScopeKind::Http2, ""),
        http1: http1::downstream(
            manager.http_protocol_options.as_ref(),
            &path.join("http_protocol_options"),
        )?,
        server_name: if manager.server_name.is_empty() {
            "envoy".into()
        } else {
            manager.server_name.as_str().into()
        },
        server_header: server_header(manager),
        via: manager.via.as_str().into(),
        append_local_overload: manager.append_local_overload,
        add_user_agent: value::flag(manager.add_user_agent.as_ref(), false),
        use_remote_address: value::flag(manager.use_remote_address.as_ref(), false),
        xff_num_trusted_hops: manager.xff_num_trusted_hops,
        skip_xff_append: manager.skip_xff_append,
        append_x_forwarded_port: manager.append_x_forwarded_port,
        internal_addresses,
        internal_unix_sockets: internal.is_some_and(|config| config.unix_sockets),
        generate_request_id: value::flag(manager.generate_request_id.as_ref(), true),
        preserve_external_request_id: manager.preserve_external_request_id,
        always_set_request_id_in_response: manager.always_set_request_id_in_response,
        proxy_100_continue: manager.proxy_100_continue,
        represent_ipv4_as_mapped_ipv6: manager.represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        forward_client_cert: forward_client_cert(manager),
        client_cert_details: client_cert_details(manager),
        upgrades: upgrades(manager, path)?,
        paths: paths(manager, path, cx)?,
        underscores: underscores(&common),
        head_bytes_max: kb(manager.max_request_headers_kb.as_ref()),
        head_fields_max: u16::try_from(value::number(common.max_headers_count.as_ref(), 100))
            .unwrap_or(u16::MAX),
        idle_timeout: value::limit_or(common.idle_timeout.as_ref(), IDLE_TIMEOUT),
        stream_idle_timeout: value::limit_or(manager.stream_idle_timeout.as_ref(), STREAM_IDLE_TIMEOUT),
        stream_flush_timeout: value::limit_or(
            manager.stream_flush_timeout.as_ref().or(manager.stream_idle_timeout.as_ref()),
            STREAM_IDLE_TIMEOUT,
        ),
        request_timeout: value::limit(manager.request_timeout.as_ref()),
        request_headers_timeout: value::limit_or(
            manager.request_headers_timeout.as_ref(),
            REQUEST_HEADERS_TIMEOUT,
        ),
        drain_timeout: manager.drain_timeout.as_ref().map_or(DRAIN_TIMEOUT, value::duration),
        delayed_close_timeout: manager
            .delayed_close_timeout
            .as_ref()
            .map_or(DELAYED_CLOSE_TIMEOUT, value::duration),
        max_connection_duration: value::limit(common.max_connection_duration.as_ref()),
        max_stream_duration: value::limit(common.max_stream_duration.as_ref()),
        drain_jitter_percent: percent(manager.drain_timeout_jitter.as_ref()),
        duration_jitter_percent: percent(common.max_connection_duration_jitter.as_ref()),
        http1_safe_max_connection_duration: manager.http1_safe_max_connection_duration,
        max_requests_per_connection: common
            .max_requests_per_connection
            .as_ref()
            .map(|n| n.value)
            .filter(|n| *n > 0),
    })
}

fn local_replies(
    manager: &pb::HttpConnectionManager,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<Arc<LocalReplyConfig>>, Rejection> {
    let path = path.join("local_reply_config");
    let config = manager.local_reply_config.as_ref();
    config.map(|config| local_reply::config(config, &path, cx).map(Arc::new)).transpose()
}

fn percent(percent: Option<&Percent>) -> f64 {
    percent.map_or(0.0, |percent| percent.value)
}

fn codec(manager: &pb::HttpConnectionManager, path: &Path) -> Result<Codec, Rejection> {
    match manager.codec_type() {
        hcm::CodecType::Auto => Ok(Codec::Auto),
        hcm::CodecType::Http1 => Ok(Codec::Http1),
        hcm::CodecType::Http2 => Ok(Codec::Http2),
        hcm::CodecType::Http3 => {
            Err(Rejection::new(&path.join("codec_type"), "HTTP/3 codec configured on non-QUIC listener."))
        }
    }
}

fn http2(manager: &pb::HttpConnectionManager, path: &Path) -> Result<Http2Options, Rejection> {
    let path = path.join("http2_protocol_options");
    let options = manager.http2_protocol_options.as_ref();
    let field_kb = options.and_then(|options| options.max_header_field_size_kb.as_ref());
    if value::number(field_kb, 0) > value::number(manager.max_request_headers_kb.as_ref(), 60) {
        let why = "max_header_field_size_kb must not exceed max_request_headers_kb";
        return Err(Rejection::new(&path.join("max_header_field_size_kb"), why));
    }
    http2::options(options, Http2Options::DOWNSTREAM, &path)
}

fn routes(
    manager: &pb::HttpConnectionManager,
    path: &Path,
    cx: &mut Context,
) -> Result<RouteSource, Rejection> {
    match &manager.route_specifier {
        Some(hcm::RouteSpecifier::RouteConfig(config)) => {
            let table = route_configuration(config, true, &path.join("route_config"), cx)?;
            Ok(RouteSource::Inline(Arc::new(table)))
        }
        Some(hcm::RouteSpecifier::Rds(rds)) => table(rds, &path.join("rds"), cx).map(RouteSource::Rds),
        Some(hcm::RouteSpecifier::ScopedRoutes(scoped)) => {
            let scoped = scoped_routes(scoped, &path.join("scoped_routes"), cx)?;
            Ok(RouteSource::Scoped(Arc::new(scoped)))
        }
        None => Err(Rejection::new(&path.join("route_specifier"), "is required")),
    }
}

fn table(rds: &pb::Rds, path: &Path, cx: &mut Context) -> Result<RouteTableId, Rejection> {
    let name_path = path.join("route_config_name");
    if rds.route_config_name.is_empty() {
        return Err(Rejection::new(&name_path, "value length must be at least 1 characters"));
    }
    source::refuse_locator(&rds.route_config_name, &name_path)?;
    let from = source::subscription(rds.config_source.as_ref(), &path.join("config_source"), cx)?;
    Ok(cx.route_tables.intern(RouteTableInfo {
        name: rds.route_config_name.as_str().into(),
        source: from.source,
        initial_fetch_timeout: from.initial_fetch_timeout,
    }))
}

fn server_header(manager: &pb::HttpConnectionManager) -> ServerHeaderTransformation {
    match manager.server_header_transformation() {
        hcm::ServerHeaderTransformation::Overwrite => ServerHeaderTransformation::Overwrite,
        hcm::ServerHeaderTransformation::AppendIfAbsent => ServerHeaderTransformation::AppendIfAbsent,
        hcm::ServerHeaderTransformation::PassThrough => ServerHeaderTransformation::PassThrough,
    }
}

fn forward_client_cert(manager: &pb::HttpConnectionManager) -> ForwardClientCertDetails {
    match manager.forward_client_cert_details() {
        hcm::ForwardClientCertDetails::Sanitize => ForwardClientCertDetails::Sanitize,
        hcm::ForwardClientCertDetails::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        hcm::ForwardClientCertDetails::AppendForward => ForwardClientCertDetails::AppendForward,
        hcm::ForwardClientCertDetails::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        hcm::ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    }
}

fn client_cert_details(manager: &pb::HttpConnectionManager) -> ClientCertDetails {
    let details = manager.set_current_client_cert_details.unwrap_or_default();
    ClientCertDetails {
        subject: value::flag(details.subject.as_ref(), false),
        cert: details.cert,
        chain: details.chain,
        dns: details.dns,
        uri: details.uri,
    }
}

fn underscores(common: &core::HttpProtocolOptions) -> UnderscoresAction {
    use core::http_protocol_options::HeadersWithUnderscoresAction as By;
    match common.headers_with_underscores_action() {
        By::Allow => UnderscoresAction::Allow,
        By::RejectRequest => UnderscoresAction::RejectRequest,
        By::DropHeader => UnderscoresAction::DropHeader,
    }
}

fn upgrades(manager: &pb::HttpConnectionManager, path: &Path) -> Result<Vec<Arc<str>>, Rejection> {
    let mut seen: Vec<String> = Vec::new();
    let mut enabled = Vec::new();
    for (i, upgrade) in manager.upgrade_configs.iter().enumerate() {
        let path = path.join("upgrade_configs").at(i);
        let kind = upgrade.upgrade_type.to_ascii_lowercase();
        if seen.contains(&kind) {
            let why =
                format!("Error: multiple upgrade configs with the same name: '{}'", upgrade.upgrade_type);
            return Err(Rejection::new(&path, why));
        }
        if !upgrade.filters.is_empty() {
            return Err(Rejection::not_served(
                &path.join("filters"),
                "filter chains of upgrades are not served by this build",
            ));
        }
        if value::flag(upgrade.enabled.as_ref(), true) {
            enabled.push(Arc::from(kind.as_str()));
        }
        seen.push(kind);
    }
    Ok(enabled)
}

fn paths(
    manager: &pb::HttpConnectionManager,
    path: &Path,
    cx: &Context,
) -> Result<PathNormalization, Rejection> {
    use hcm::PathWithEscapedSlashesAction as By;
    let any_port = match &manager.strip_port_mode {
        Some(hcm::StripPortMode::StripAnyHostPort(on)) => *on,
        None => false,
    };
    if manager.strip_matching_host_port && any_port {
        let why = "Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.";
        return Err(Rejection::new(path, why));
    }
    Ok(PathNormalization {
        normalize: value::flag(manager.normalize_path.as_ref(), false),
        merge_slashes: manager.merge_slashes,
        escaped_slashes: match manager.path_with_escaped_slashes_action() {
            By::ImplementationSpecificDefault | By::KeepUnchanged => PathWithEscapedSlashes::KeepUnchanged,
            By::RejectRequest => PathWithEscapedSlashes::RejectRequest,
            By::UnescapeAndRedirect => PathWithEscapedSlashes::UnescapeAndRedirect,
            By::UnescapeAndForward => PathWithEscapedSlashes::UnescapeAndForward,
        },
        reject_fragment: cx.runtime.boolean("envoy.reloadable_features.http_reject_path_with_fragment", true),
        strip_matching_host_port: manager.strip_matching_host_port,
        strip_any_host_port: any_port,
        strip_trailing_host_dot: manager.strip_trailing_host_dot,
    })
}
