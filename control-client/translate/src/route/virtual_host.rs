//! `config.route.v3.VirtualHost`.

use std::sync::Arc;

use millrace_config::{RequireTls, RouteFilterFields, VirtualCluster, VirtualHost};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;

use super::{Scope, policies, retry, route};
use crate::context::Context;
use crate::error::Rejection;
use crate::{headers, http, matcher, metadata, per_filter};

pub(super) fn virtual_host(
    host: &pb::VirtualHost,
    table: &Scope<'_>,
    path: &Path,
    cx: &mut Context,
) -> Result<VirtualHost, Rejection> {
    use pb::virtual_host::TlsRequirementType;
    let retry_policy = match &host.retry_policy {
        Some(policy) => Some(Arc::new(retry::policy(policy, &path.join("retry_policy"), cx)?)),
        None => None,
    };
    let validate_clusters = table.validate_clusters;
    let at_most = host.per_request_buffer_limit_bytes.as_ref();
    let scope = Scope {
        validate_clusters,
        body_bytes_max: table.body_bytes_max,
        virtual_host: &host.name,
        retry_policy: retry_policy.clone(),
        mirrors: policies::mirrors(
            &host.request_mirror_policies,
            &table.mirrors,
            validate_clusters,
            path,
            cx,
        )?,
        hedges: host.hedge_policy.as_ref().is_some_and(|policy| policy.hedge_on_per_try_timeout),
        body_buffer_limit: policies::body_buffer_limit(
            at_most,
            host.request_body_buffer_limit.as_ref(),
            path,
        )?,
    };
    let routes_path = path.join("routes");
    let mut routes = Vec::with_capacity(host.routes.len());
    for (i, entry) in host.routes.iter().enumerate() {
        routes.push(Arc::new(route(entry, &scope, &routes_path.at(i), cx)?));
    }
    Ok(VirtualHost {
        name: host.name.as_str().into(),
        domains: host.domains.iter().map(|domain| Arc::from(domain.to_ascii_lowercase())).collect(),
        routes,
        require_tls: match host.require_tls() {
            TlsRequirementType::None => RequireTls::None,
            TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
            TlsRequirementType::All => RequireTls::All,
        },
        request_headers: headers::mutations(
            &host.request_headers_to_add,
            &host.request_headers_to_remove,
            "request",
            path,
        )?,
        response_headers: headers::mutations(
            &host.response_headers_to_add,
            &host.response_headers_to_remove,
            "response",
            path,
        )?,
        include_request_attempt_count: host.include_request_attempt_count,
        include_attempt_count_in_response: host.include_attempt_count_in_response,
        include_is_timeout_retry: host.include_is_timeout_retry_header,
        retry_policy,
        per_filter: per_filter::configs(&host.typed_per_filter_config, path, cx)?,
        for_filters: RouteFilterFields {
            rate_limits: http::rate_limits(&host.rate_limits, path)?,
            include_virtual_host_rate_limits: false,
            cors: http::cors_policy(host.cors.as_ref(), path, cx)?,
        },
        metadata: metadata::configured(host.metadata.as_ref()),
        virtual_clusters: virtual_clusters(host, path, cx)?,
    })
}

/// `virtual_clusters`, and the one of all other requests.
fn virtual_clusters(
    host: &pb::VirtualHost,
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<VirtualCluster>, Rejection> {
    let path = path.join("virtual_clusters");
    let mut clusters = Vec::with_capacity(host.virtual_clusters.len() + 1);
    let scope = |name: &str| cx.scope(ScopeKind::Route, &format!("{}.vcluster.{name}", host.name));
    for (i, cluster) in host.virtual_clusters.iter().enumerate() {
        if cluster.headers.is_empty() {
            return Err(Rejection::new(&path.at(i), "virtual clusters must define 'headers'"));
        }
        let headers = matcher::headers(&cluster.headers, &path.at(i).join("headers"))?;
        clusters.push(VirtualCluster { headers, scope: scope(&cluster.name) });
    }
    if !clusters.is_empty() {
        clusters.push(VirtualCluster { headers: Vec::new(), scope: scope("other") });
    }
    Ok(clusters)
}
