//! `core.v3.TransportSocket`: clear text, TLS, and the PROXY protocol in front of either.

mod certificate;
mod common;
mod data;
mod downstream;
mod matches;
mod params;
mod proxy_protocol;
mod secret;
mod secret_ref;
mod shared;
mod spiffe;
mod suites;
mod validation;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use millrace_config::{DownstreamTls, UpstreamTls, UpstreamTransport};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, value};

pub(crate) use matches::{metadata, transport_matches};
pub(crate) use proxy_protocol::pass_through;
pub(crate) use secret::secret;
pub(crate) use shared::SharedCredentials;
pub use validation::check as check_validation;

use certificate::{certificate, ticket_keys};
use validation::validation;

const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const DOWNSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const PROXY_PROTOCOL: &str =
    "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";

/// Of a filter chain; `None` for clear text.
pub(crate) fn downstream(
    socket: Option<&TransportSocket>,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<Arc<DownstreamTls>>, Rejection> {
    let Some(socket) = socket else { return Ok(None) };
    let any = any_of(socket);
    match any.map(|any| (any, extension::type_of(any))) {
        Some((_, kind)) if kind == RAW_BUFFER => Ok(None),
        Some((any, kind)) if kind == DOWNSTREAM => {
            let path = path.join("typed_config");
            let context: pb::DownstreamTlsContext = extension::open(any, &path)?;
            downstream::downstream(&context, &path, cx).map(|tls| Some(Arc::new(tls)))
        }
        Some((_, kind)) if kind == UPSTREAM => Err(wrong_side(socket, &kind, path)),
        _ => Err(extension::not_served("transport socket", &socket.name, any, path)),
    }
}

/// Of a cluster.
pub(crate) fn upstream(
    socket: Option<&TransportSocket>,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamTransport, Rejection> {
    let Some(socket) = socket else { return Ok(UpstreamTransport::default()) };
    let any = any_of(socket);
    match any.map(|any| (any, extension::type_of(any))) {
        Some((_, kind)) if kind == RAW_BUFFER => Ok(UpstreamTransport::default()),
        Some((any, kind)) if kind == UPSTREAM => {
            let path = path.join("typed_config");
            let context: pb::UpstreamTlsContext = extension::open(any, &path)?;
            let tls = upstream_tls(&context, &path, cx)?;
            Ok(UpstreamTransport { tls: Some(Arc::new(tls)), proxy_protocol: None })
        }
        Some((any, kind)) if kind == PROXY_PROTOCOL => {
            proxy_protocol::upstream(any, &path.join("typed_config"), cx)
        }
        Some((_, kind)) if kind == DOWNSTREAM => Err(wrong_side(socket, &kind, path)),
        _ => Err(extension::not_served("transport socket", &socket.name, any, path)),
    }
}

/// Clear text, for whoever reads encryption elsewhere.
pub(crate) fn plain(socket: Option<&TransportSocket>, path: &Path) -> Result<(), Rejection> {
    let Some(socket) = socket else { return Ok(()) };
    match any_of(socket) {
        Some(any) if extension::type_of(any) == RAW_BUFFER => Ok(()),
        any => Err(extension::not_served("transport socket", &socket.name, any, path)),
    }
}

fn any_of(socket: &TransportSocket) -> Option<&Any> {
    socket.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any)
}

fn wrong_side(socket: &TransportSocket, kind: &str, path: &Path) -> Rejection {
    let name = &socket.name;
    let why = format!("Didn't find a registered implementation for '{name}' with type URL: '{kind}'");
    Rejection::new(path, why)
}

fn upstream_tls(
    context: &pb::UpstreamTlsContext,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamTls, Rejection> {
    if context.sni.contains('\0') {
        return Err(Rejection::new(&path.join("sni"), "SNI names containing NULL-byte are not allowed"));
    }
    let empty = pb::CommonTlsContext::default();
    let from = context.common_tls_context.as_ref().unwrap_or(&empty);
    let common_path = path.join("common_tls_context");
    if from.tls_certificates.len() + from.tls_certificate_sds_secret_configs.len() > 1 {
        let why = "Multiple TLS certificates are not supported for client contexts";
        return Err(Rejection::new(&common_path, why));
    }
    let common = common::common(from, common::Side::Client, &common_path, cx)?;
    if context.auto_sni_san_validation {
        common::check_auto_validation(&common, &path.join("auto_sni_san_validation"))?;
    }
    Ok(UpstreamTls {
        common,
        sni: value::text(&context.sni),
        auto_host_sni: context.auto_host_sni,
        auto_sni_san_validation: context.auto_sni_san_validation,
        max_session_keys: value::number(context.max_session_keys.as_ref(), 1),
    })
}
