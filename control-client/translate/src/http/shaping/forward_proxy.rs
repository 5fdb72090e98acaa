//! `extensions.filters.http.dynamic_forward_proxy.v3`.

use std::sync::Arc;

use millrace_config::{ForwardProxyFilter, ForwardProxyHost, HttpFilterKind, PerFilterConfig};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier as By;
use millrace_proto::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::per_route_config::HostRewriteSpecifier as Rewrite;

use crate::context::Context;
use crate::error::Rejection;
use crate::{dns_cache, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig";

pub(super) fn filter(
    config: &pb::FilterConfig,
    path: &Path,
    cx: &mut Context,
) -> Result<HttpFilterKind, Rejection> {
    let cache = match &config.implementation_specifier {
        Some(By::DnsCacheConfig(cache)) => Some(cache),
        // Refused by the table of fields.
        Some(By::SubClusterConfig(_)) | None => None,
    };
    let cache = dns_cache::cache(cache, path, cx)?;
    let reads_state = config.allow_dynamic_host_from_filter_state;
    Ok(HttpFilterKind::ForwardProxy(Arc::new(ForwardProxyFilter { cache, reads_state })))
}

pub(super) fn of_route(config: &pb::PerRouteConfig, path: &Path) -> Result<PerFilterConfig, Rejection> {
    let host = match &config.host_rewrite_specifier {
        Some(Rewrite::HostRewriteLiteral(host)) if !host.is_empty() => {
            if host.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
                return Err(Rejection::new(&path.join("host_rewrite_literal"), "is no host"));
            }
            ForwardProxyHost::Literal(value::bytes(host))
        }
        Some(Rewrite::HostRewriteHeader(name)) if !name.is_empty() => {
            ForwardProxyHost::Header(value::lower_bytes(name))
        }
        Some(_) | None => ForwardProxyHost::Own,
    };
    Ok(PerFilterConfig::ForwardProxy(host))
}
