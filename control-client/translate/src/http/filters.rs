//! `http_filters`: the chain in order, router last.

use std::sync::Arc;

use millrace_config::{FilterConfigId, HttpFilter, HttpFilterKind};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use millrace_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;

use super::{grpc, health_check, istio_alpn, router, shaping, written};
use crate::context::Context;
use crate::error::Rejection;
use crate::extension;

/// The filter that measures for Envoy's balancer of that name; ours needs none.
const PEAK_EWMA: &str = "envoy.extensions.filters.http.peak_ewma.v3alpha.PeakEwmaConfig";

pub(super) fn filters(
    filters: &[pb::HttpFilter],
    stat_prefix: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<HttpFilter>, Rejection> {
    let mut out: Vec<HttpFilter> = Vec::with_capacity(filters.len());
    for (i, filter) in filters.iter().enumerate() {
        let path = path.at(i);
        let any = match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) => any,
            Some(ConfigType::ConfigDiscovery(_)) => {
                let path = path.join("config_discovery");
                return Err(Rejection::not_served(
                    &path,
                    "filters whose configuration comes on its own (ECDS) are not served by this build",
                ));
            }
            None => return Err(extension::not_served("HTTP filter", &filter.name, None, &path)),
        };
        let inside = path.join("typed_config");
        let kind = match extension::type_of(any).as_str() {
            router::TYPE => router::router(&extension::open(any, &inside)?),
            PEAK_EWMA => HttpFilterKind::PeakEwma,
            istio_alpn::TYPE => istio_alpn::alpn(&extension::open(any, &inside)?),
            grpc::STATS => grpc::stats(&extension::open(any, &inside)?),
            grpc::WEB => extension::open::<GrpcWeb>(any, &inside).map(|_| HttpFilterKind::GrpcWeb)?,
            health_check::TYPE => {
                health_check::filter(&extension::open(any, &inside)?, stat_prefix, &inside, cx)?
            }
            grpc::HTTP1_BRIDGE => grpc::http1_bridge(&extension::open(any, &inside)?),
            _ if let Some(kind) = shaping::filter(any, stat_prefix, &inside, cx)? => kind,
            _ if let Some(kind) = written::filter(any, &inside, cx)? => kind,
            _ => {
                let refusal = extension::not_served("HTTP filter", &filter.name, Some(any), &path);
                if !filter.is_optional {
                    return Err(refusal);
                }
                cx.report(&path, format!("{}; it is optional and left out", refusal.reason));
                continue;
            }
        };
        let terminal = matches!(kind, HttpFilterKind::Router { .. });
        if terminal && i + 1 < filters.len() {
            let why = format!(
                "Error: terminal filter named {} of type envoy.filters.http.router must be the last filter in a http filter chain.",
                filter.name
            );
            return Err(Rejection::new(&path, why));
        }
        if !terminal && i + 1 == filters.len() {
            let why = format!(
                "Error: non-terminal filter named {} of type {} is the last filter in a http filter chain.",
                filter.name,
                extension::type_of(any)
            );
            return Err(Rejection::new(&path, why));
        }
        let id = FilterConfigId(u16::try_from(out.len()).unwrap_or(u16::MAX));
        out.push(HttpFilter { name: Arc::from(filter.name.as_str()), id, disabled: filter.disabled, kind });
    }
    Ok(out)
}
