//! What a forwarding route does besides forwarding: mirrors, internal redirects, hedging, and how much of a body is kept.

use std::sync::Arc;

use millrace_config::{BodyBufferLimit, InternalRedirects, MirrorPolicy, MirrorTarget, RedirectPredicate};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use millrace_proto::pb::envoy::config::route::v3::route_action as act;
use millrace_proto::pb::envoy::extensions::internal_redirect as predicates;
use millrace_proto::pb::google::protobuf::{UInt32Value, UInt64Value};

use super::Scope;
use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, headers, http, value};

const ALLOW_LISTED: &str =
    "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig";
const PREVIOUS: &str = "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig";
const SAFE_CROSS_SCHEME: &str =
    "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig";

/// `request_mirror_policies` of one level; an empty list inherits.
pub(crate) fn mirrors(
    policies: &[act::RequestMirrorPolicy],
    inherited: &Arc<[MirrorPolicy]>,
    validate_clusters: bool,
    path: &Path,
    cx: &mut Context,
) -> Result<Arc<[MirrorPolicy]>, Rejection> {
    if policies.is_empty() {
        return Ok(Arc::clone(inherited));
    }
    let path = path.join("request_mirror_policies");
    let mut out = Vec::with_capacity(policies.len());
    for (i, policy) in policies.iter().enumerate() {
        out.push(mirror(policy, validate_clusters, &path.at(i), cx)?);
    }
    Ok(out.into())
}

fn mirror(
    policy: &act::RequestMirrorPolicy,
    validate_clusters: bool,
    path: &Path,
    cx: &mut Context,
) -> Result<MirrorPolicy, Rejection> {
    let target = match (policy.cluster.as_str(), policy.cluster_header.as_str()) {
        ("", "") => {
            return Err(Rejection::new(
                path,
                "Exactly one of cluster or cluster_header in request mirror policy need to be specified",
            ));
        }
        (name, "") => {
            let path = path.join("cluster");
            MirrorTarget::Cluster(match validate_clusters {
                true => cx.existing_cluster(name, "shadow cluster", &path)?,
                false => cx.target_cluster(name, &path)?,
            })
        }
        ("", header) => MirrorTarget::Header(value::lower_bytes(header)),
        (name, header) => {
            let why = format!(
                "Only one of cluster '{name}' or cluster_header '{header}' in request mirror policy can be specified"
            );
            return Err(Rejection::new(path, why));
        }
    };
    let mutations = path.join("request_headers_mutations");
    let host_rewrite = Some(&policy.host_rewrite_literal).filter(|host| !host.is_empty());
    Ok(MirrorPolicy {
        target,
        fraction: policy.runtime_fraction.as_ref().map(|fraction| cx.runtime.fraction(fraction)),
        marks_host: !policy.disable_shadow_host_suffix_append,
        mutations: http::mutation_steps(&policy.request_headers_mutations, &mutations)?,
        host_rewrite: host_rewrite.map(|host| value::bytes(host)),
    })
}

/// `internal_redirect_policy`, else what the deprecated fields say.
pub(super) fn internal_redirects(
    action: &pb::RouteAction,
    path: &Path,
) -> Result<Option<Arc<InternalRedirects>>, Rejection> {
    let (follows, max) = (
        action.internal_redirect_action() == act::InternalRedirectAction::HandleInternalRedirect,
        action.max_internal_redirects.as_ref(),
    );
    let Some(policy) = &action.internal_redirect_policy else {
        return Ok(follows.then(|| {
            Arc::new(InternalRedirects {
                max: value::number(max, 1),
                statuses: vec![302],
                predicates: Vec::new(),
                allow_cross_scheme: false,
                copied_headers: Vec::new(),
            })
        }));
    };
    let path = path.join("internal_redirect_policy");
    let known = |status: &u32| matches!(status, 301 | 302 | 303 | 307 | 308);
    let statuses = policy.redirect_response_codes.iter().filter(|status| known(status));
    let statuses: Vec<u16> = statuses.filter_map(|status| u16::try_from(*status).ok()).collect();
    let predicates_path = path.join("predicates");
    let listed = policy.predicates.iter().enumerate();
    let copied_path = path.join("response_headers_to_copy");
    let mut copied_headers = Vec::with_capacity(policy.response_headers_to_copy.len());
    for (i, name) in policy.response_headers_to_copy.iter().enumerate() {
        if headers::is_protected(name) {
            let why = ":-prefixed headers or Hosts may not be specified here.";
            return Err(Rejection::new(&copied_path.at(i), why));
        }
        copied_headers.push(value::lower_bytes(name));
    }
    Ok(Some(Arc::new(InternalRedirects {
        max: value::number(policy.max_internal_redirects.as_ref(), 1),
        statuses: if policy.redirect_response_codes.is_empty() { vec![302] } else { statuses },
        predicates: listed
            .map(|(i, one)| predicate(one, &predicates_path.at(i)))
            .collect::<Result<_, _>>()?,
        allow_cross_scheme: policy.allow_cross_scheme_redirect,
        copied_headers,
    })))
}

fn predicate(config: &TypedExtensionConfig, path: &Path) -> Result<RedirectPredicate, Rejection> {
    let Some(any) = &config.typed_config else {
        return Err(extension::not_served("internal redirect predicate", &config.name, None, path));
    };
    Ok(match extension::type_of(any).as_str() {
        ALLOW_LISTED => {
            let routes: predicates::allow_listed_routes::v3::AllowListedRoutesConfig =
                extension::open(any, path)?;
            let names = routes.allowed_route_names.iter();
            RedirectPredicate::AllowListedRoutes(names.map(|name| Arc::from(name.as_str())).collect())
        }
        PREVIOUS => RedirectPredicate::PreviousRoutes,
        SAFE_CROSS_SCHEME => RedirectPredicate::SafeCrossScheme,
        _ => return Err(extension::not_served("internal redirect predicate", &config.name, Some(any), path)),
    })
}

/// `hedge_policy` of a route, else of its virtual host.
pub(super) fn hedges(policy: Option<&pb::HedgePolicy>, scope: &Scope<'_>) -> bool {
    policy.map_or(scope.hedges, |policy| policy.hedge_on_per_try_timeout)
}

/// The two ways to bound what is kept of a body; `None` inherits.
pub(super) fn body_buffer_limit(
    at_most: Option<&UInt32Value>,
    exact: Option<&UInt64Value>,
    path: &Path,
) -> Result<Option<BodyBufferLimit>, Rejection> {
    match (at_most, exact) {
        (Some(_), Some(_)) => Err(Rejection::new(
            path,
            "Only one of per_request_buffer_limit_bytes and request_body_buffer_limit could be set.",
        )),
        (_, Some(exact)) => Ok(Some(BodyBufferLimit::Exact(exact.value))),
        (Some(most), None) => Ok(Some(BodyBufferLimit::AtMost(most.value))),
        (None, None) => Ok(None),
    }
}
