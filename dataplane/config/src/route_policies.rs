//! What a forwarding route does besides forwarding: copies of requests, redirects that it follows itself.

use std::sync::Arc;

use crate::{ClusterId, Fraction, HeaderMutationStep, RetryPolicy};

/// Who gets the copy of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorTarget {
    /// `cluster`.
    Cluster(ClusterId),
    /// `cluster_header`, lower case: the request names the cluster; without it there is no copy.
    Header(Arc<[u8]>),
}

/// `RouteAction.RequestMirrorPolicy`.
#[derive(Clone, Debug)]
pub struct MirrorPolicy {
    /// Where the copy goes.
    pub target: MirrorTarget,
    /// `runtime_fraction`; `None` copies every request.
    pub fraction: Option<Fraction>,
    /// Not `disable_shadow_host_suffix_append`: `-shadow` is appended to the host.
    pub marks_host: bool,
    /// `request_headers_mutations`, in order.
    pub mutations: Vec<HeaderMutationStep>,
    /// `host_rewrite_literal`: the host instead of a marked one.
    pub host_rewrite: Option<Arc<[u8]>>,
}

/// One of `InternalRedirectPolicy.predicates`: each may refuse a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPredicate {
    /// `AllowListedRoutesConfig`: only to routes of these names.
    AllowListedRoutes(Vec<Arc<str>>),
    /// `PreviousRoutesConfig`: never twice from one route to the same other one.
    PreviousRoutes,
    /// `SafeCrossSchemeConfig`: from `https` to `http`, or within a scheme.
    SafeCrossScheme,
}

/// `InternalRedirectPolicy`: redirects of the upstream that are followed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalRedirects {
    /// `max_internal_redirects`, default 1.
    pub max: u32,
    /// `redirect_response_codes`, default 302.
    pub statuses: Vec<u16>,
    /// `predicates`, in order.
    pub predicates: Vec<RedirectPredicate>,
    /// `allow_cross_scheme_redirect`.
    pub allow_cross_scheme: bool,
    /// `response_headers_to_copy`, lower case: fields of the redirect that replace those of the request.
    pub copied_headers: Vec<Arc<[u8]>>,
}

/// Policies of a cluster (`HttpProtocolOptions`), which take the place of its routes' own.
#[derive(Clone, Debug, Default)]
pub struct ClusterPolicies {
    /// `retry_policy`: its timeouts of tries do not count, those of the route do, as in Envoy.
    pub retry: Option<RetryPolicy>,
    /// `request_mirror_policies`; empty for the route's.
    pub mirrors: Vec<MirrorPolicy>,
}
