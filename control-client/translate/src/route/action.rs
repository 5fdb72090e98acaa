//! `config.route.v3.RouteAction`.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    ClusterSpecifier, GrpcTimeout, HostRewrite, MaxStreamDuration, PathRewrite, RouteFilterFields,
    RouteForward,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::RoutingPriority;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use millrace_proto::pb::envoy::config::route::v3::route_action as act;
use millrace_proto::pb::google::protobuf;

use super::{Scope, policies, retry, weighted};
use crate::context::Context;
use crate::error::Rejection;
use crate::{hash_policy, http, metadata, regex_util, value};

const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn forward(
    action: &pb::RouteAction,
    scope: &Scope<'_>,
    path: &Path,
    cx: &mut Context,
) -> Result<RouteForward, Rejection> {
    let retry_policy = match &action.retry_policy {
        Some(policy) => Some(Arc::new(retry::policy(policy, &path.join("retry_policy"), cx)?)),
        None => scope.retry_policy.clone(),
    };
    Ok(RouteForward {
        cluster: cluster(action, scope, path, cx)?,
        cluster_not_found_status: match action.cluster_not_found_response_code() {
            act::ClusterNotFoundResponseCode::ServiceUnavailable => 503,
            act::ClusterNotFoundResponseCode::NotFound => 404,
            act::ClusterNotFoundResponseCode::InternalServerError => 500,
        },
        path_rewrite: path_rewrite(action, path)?,
        host_rewrite: host_rewrite(action, path)?,
        append_x_forwarded_host: action.append_x_forwarded_host,
        timeout: value::limit_or(action.timeout.as_ref(), TIMEOUT),
        idle_timeout: value::limit_override(action.idle_timeout.as_ref()),
        flush_timeout: value::limit_override(action.flush_timeout.as_ref()),
        max_stream_duration: action.max_stream_duration.as_ref().map(|max| MaxStreamDuration {
            duration: value::limit_override(max.max_stream_duration.as_ref()),
            grpc_timeout: grpc_timeout(
                max.grpc_timeout_header_max.as_ref(),
                max.grpc_timeout_header_offset.as_ref(),
            ),
        }),
        grpc_timeout: grpc_timeout(action.max_grpc_timeout.as_ref(), action.grpc_timeout_offset.as_ref()),
        retry_policy,
        upgrades: upgrades(action, path)?,
        terminates_connect: action.upgrade_configs.iter().any(|u| u.connect_config.is_some()),
        high_priority: action.priority() == RoutingPriority::High,
        hash_policies: hash_policy::policies(&action.hash_policy, &path.join("hash_policy"))?,
        metadata_match: metadata::matching(&[action.metadata_match.as_ref()]),
        mirrors: policies::mirrors(
            &action.request_mirror_policies,
            &scope.mirrors,
            scope.validate_clusters,
            path,
            cx,
        )?,
        internal_redirects: policies::internal_redirects(action, path)?,
        hedges_on_per_try_timeout: policies::hedges(action.hedge_policy.as_ref(), scope),
        body_buffer_limit: None,
        for_filters: RouteFilterFields {
            rate_limits: http::rate_limits(&action.rate_limits, path)?,
            include_virtual_host_rate_limits: value::flag(action.include_vh_rate_limits.as_ref(), false),
            cors: http::cors_policy(action.cors.as_ref(), path, cx)?,
        },
    })
}

/// Without a maximum an offset means nothing.
fn grpc_timeout(
    max: Option<&protobuf::Duration>,
    offset: Option<&protobuf::Duration>,
) -> Option<GrpcTimeout> {
    let max = value::limit_override(max)?;
    Some(GrpcTimeout { max, offset: offset.map_or(Duration::ZERO, value::duration) })
}

fn cluster(
    action: &pb::RouteAction,
    scope: &Scope<'_>,
    path: &Path,
    cx: &mut Context,
) -> Result<ClusterSpecifier, Rejection> {
    match &action.cluster_specifier {
        Some(act::ClusterSpecifier::Cluster(name)) => {
            let path = path.join("cluster");
            Ok(ClusterSpecifier::Cluster(match scope.validate_clusters {
                true => cx.existing_cluster(name, "cluster", &path)?,
                false => cx.target_cluster(name, &path)?,
            }))
        }
        Some(act::ClusterSpecifier::ClusterHeader(name)) => {
            Ok(ClusterSpecifier::Header(value::lower_bytes(name)))
        }
        Some(act::ClusterSpecifier::WeightedClusters(list)) => {
            let metadata = action.metadata_match.as_ref();
            weighted::weighted(list, metadata, scope, &path.join("weighted_clusters"), cx)
        }
        Some(
            act::ClusterSpecifier::ClusterSpecifierPlugin(_)
            | act::ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => Err(Rejection::not_served(path, "cluster specifier plugins are not served by this build")),
        None => Err(Rejection::new(&path.join("cluster_specifier"), "is required")),
    }
}

fn path_rewrite(action: &pb::RouteAction, path: &Path) -> Result<Option<PathRewrite>, Rejection> {
    match (&action.prefix_rewrite, &action.regex_rewrite) {
        (prefix, Some(_)) if !prefix.is_empty() => Err(Rejection::new(
            path,
            "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
        )),
        (_, Some(rewrite)) => {
            let (pattern, substitution) = regex_util::substitution(rewrite, &path.join("regex_rewrite"))?;
            Ok(Some(PathRewrite::Regex { pattern, substitution }))
        }
        (prefix, None) => {
            Ok(Some(prefix).filter(|p| !p.is_empty()).map(|p| PathRewrite::Prefix(value::bytes(p))))
        }
    }
}

fn host_rewrite(action: &pb::RouteAction, path: &Path) -> Result<Option<HostRewrite>, Rejection> {
    use act::HostRewriteSpecifier as By;
    Ok(match &action.host_rewrite_specifier {
        None => None,
        Some(By::HostRewriteLiteral(host)) => Some(HostRewrite::Literal(value::bytes(host))),
        Some(By::AutoHostRewrite(on)) => on.value.then_some(HostRewrite::Auto),
        Some(By::HostRewriteHeader(name)) => Some(HostRewrite::Header(value::lower_bytes(name))),
        Some(By::HostRewritePathRegex(rewrite)) => {
            let (pattern, substitution) =
                regex_util::substitution(rewrite, &path.join("host_rewrite_path_regex"))?;
            Some(HostRewrite::PathRegex { pattern, substitution })
        }
        Some(_) => {
            return Err(Rejection::not_served(
                path,
                "this way of rewriting the host is not served by this build",
            ));
        }
    })
}

fn upgrades(action: &pb::RouteAction, path: &Path) -> Result<Vec<(Arc<str>, bool)>, Rejection> {
    let mut out: Vec<(Arc<str>, bool)> = Vec::new();
    for (i, upgrade) in action.upgrade_configs.iter().enumerate() {
        let kind = upgrade.upgrade_type.to_ascii_lowercase();
        if out.iter().any(|(known, _)| **known == *kind) {
            return Err(Rejection::new(
                &path.join("upgrade_configs").at(i),
                format!("Duplicate upgrade {}", upgrade.upgrade_type),
            ));
        }
        if upgrade.connect_config.is_some() && kind != "connect" {
            return Err(Rejection::new(
                &path.join("upgrade_configs").at(i).join("connect_config"),
                format!("Non-CONNECT upgrade type {} has ConnectConfig", upgrade.upgrade_type),
            ));
        }
        out.push((kind.into(), value::flag(upgrade.enabled.as_ref(), true)));
    }
    Ok(out)
}
