//! `envoy.filters.http.cors`: preflight requests are answered here, and answers to allowed origins say so.

use std::borrow::Cow;

use millrace_config::{CorsFilter, CorsPolicy, PerFilterConfig, RouteAction};
use millrace_http::{HeaderId, HeaderMap, Method, RequestHead};
use millrace_observe::stats::cors as metric;

use super::sampled;
use crate::http::LocalReply;
use crate::http::stream_filters::{Env, Start, Verdict};

const REQUEST_PRIVATE: &[u8] = b"access-control-request-private-network";
const ALLOW_PRIVATE: &[u8] = b"access-control-allow-private-network";

/// A request of an allowed origin: what its answer gets.
#[derive(Debug)]
pub(crate) struct CorsActive {
    origin: Box<[u8]>,
    credentials: bool,
    expose_headers: Box<[u8]>,
}

impl CorsActive {
    /// `None` for requests that have nothing to do with CORS.
    pub(crate) fn begin(
        filter: CorsFilter,
        name: &str,
        start: &Start<'_>,
        env: &mut Env<'_>,
        head: &RequestHead,
    ) -> (Option<Self>, Verdict) {
        let nothing = (None, Verdict::Continue);
        // Cheaper to know than the policies.
        let Some(origin) = head.headers.get(HeaderId::Origin).filter(|origin| !origin.is_empty()) else {
            return nothing;
        };
        let policies = Policies::of(name, start);
        let Some(first) = policies.0.iter().flatten().next() else { return nothing };
        let (enabled, shadow) = (sampled(first.enabled, env.rng), sampled(first.shadow, env.rng));
        if !enabled && !shadow {
            return nothing;
        }
        let origins = policies.find(|policy| Some(&policy.allow_origins).filter(|list| !list.is_empty()));
        let allowed = origins.into_iter().flatten().any(|one| one.matches(b"*") || one.matches(origin));
        env.stats.inc(filter.scope, if allowed { metric::ORIGIN_VALID } else { metric::ORIGIN_INVALID });
        if !enabled {
            return nothing;
        }
        let active = allowed.then(|| Self {
            origin: origin.into(),
            credentials: policies.find(|policy| policy.allow_credentials).unwrap_or(false),
            expose_headers: policies.text(|policy| &policy.expose_headers).into(),
        });
        let method = head.headers.get(HeaderId::AccessControlRequestMethod).unwrap_or_default();
        let preflight = head.method_kind() == Method::Options && !method.is_empty();
        let forwards = policies.find(|policy| policy.forward_not_matching).unwrap_or(true);
        if !preflight || (!allowed && forwards) {
            return (active, Verdict::Continue);
        }
        let reply = policies.preflight(head, method, allowed.then_some(origin));
        (active, Verdict::Reply(reply.into()))
    }

    pub(crate) fn response_head(&self, headers: &mut HeaderMap) {
        headers.set_id(HeaderId::AccessControlAllowOrigin, &self.origin);
        if self.credentials {
            headers.set_id(HeaderId::AccessControlAllowCredentials, b"true");
        }
        if !self.expose_headers.is_empty() {
            headers.set_id(HeaderId::AccessControlExposeHeaders, &self.expose_headers);
        }
    }
}

/// The policies of a request, the most specific first: weighted cluster, route, virtual host, route configuration; or the
/// deprecated fields of route and virtual host where none of them has one.
struct Policies<'c>([Option<&'c CorsPolicy>; 4]);

impl<'c> Policies<'c> {
    /// None for a route that does not forward, as in Envoy.
    fn of(name: &str, start: &Start<'c>) -> Self {
        let Some(selected) = start.selected else { return Self([None; 4]) };
        let RouteAction::Forward(forward) = &selected.route.action else { return Self([None; 4]) };
        let mut policies = [None; 4];
        let typed = start.levels(name).filter_map(|config| match config {
            PerFilterConfig::Cors(policy) => Some(&**policy),
            _ => None,
        });
        for (slot, policy) in policies.iter_mut().zip(typed) {
            *slot = Some(policy);
        }
        if policies[0].is_none() {
            let of_host = selected.virtual_host.for_filters.cors.as_deref();
            let of_route = forward.for_filters.cors.as_deref();
            policies = match of_route {
                Some(_) => [of_route, of_host, None, None],
                None => [of_host, None, None, None],
            };
        }
        Self(policies)
    }

    fn find<T>(&self, setting: impl Fn(&'c CorsPolicy) -> Option<T>) -> Option<T> {
        self.0.iter().flatten().find_map(|policy| setting(policy))
    }

    fn text(&self, setting: impl Fn(&'c CorsPolicy) -> &'c [u8]) -> &'c [u8] {
        self.find(|policy| Some(setting(policy)).filter(|text| !text.is_empty())).unwrap_or_default()
    }

    fn preflight(&self, head: &RequestHead, method: &[u8], origin: Option<&[u8]>) -> LocalReply {
        let mut headers = Vec::new();
        let mut set = |name: &'static [u8], value: &[u8]| headers.push((Cow::Borrowed(name), value.to_vec()));
        if let Some(origin) = origin {
            set(b"access-control-allow-origin", origin);
        }
        if self.find(|policy| policy.allow_credentials) == Some(true) {
            set(b"access-control-allow-credentials", b"true");
        }
        let asked_headers = head.headers.get(HeaderId::AccessControlRequestHeaders).unwrap_or_default();
        for (name, allowed, asked) in [
            (&b"access-control-allow-methods"[..], self.text(|policy| &policy.allow_methods), method),
            (b"access-control-allow-headers", self.text(|policy| &policy.allow_headers), asked_headers),
        ] {
            match allowed {
                b"" => {}
                b"*" => set(name, asked),
                allowed => set(name, allowed),
            }
        }
        match self.text(|policy| &policy.max_age) {
            b"" => {}
            age => set(b"access-control-max-age", age),
        }
        let private = self.find(|policy| policy.allow_private_network) == Some(true);
        if private && head.headers.get_name(REQUEST_PRIVATE) == Some(b"true") {
            set(ALLOW_PRIVATE, b"true");
        }
        LocalReply { headers: headers.into(), as_is: true, ..LocalReply::new(200, "", "cors_response") }
    }
}
