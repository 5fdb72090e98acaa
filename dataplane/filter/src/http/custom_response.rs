//! `envoy.filters.http.custom_response`: answers that are replaced, by replies of our own or by what the request is answered
//! elsewhere.

use std::sync::Arc;

use millrace_config::{
    AbsoluteUrl, CustomRedirectTo, CustomResponse, HttpFilterKind, LocalResponsePolicy, PerFilterConfig,
    RedirectPolicy, ResponsePolicy, RouteMatch,
};
use millrace_http::{HeaderId, Method, RequestHead, ResponseHead};
use millrace_observe::stats::custom_response as metric;
use millrace_route::{HttpInputs, redirect};

use super::router::internal_redirect::lead_to;
use super::router::{Render, mutation};
use super::stream_filters::ResponseEnv;

/// What a replaced answer gives way to.
#[derive(Clone, Debug)]
pub enum Instead {
    /// A reply of our own.
    Reply(Arc<LocalResponsePolicy>),
    /// The answer to this request.
    Redirect(Box<RequestHead>, CustomRedirect),
}

/// What the answer to a redirected request is to become.
#[derive(Clone, Debug)]
pub struct CustomRedirect {
    /// The policy that redirected the request.
    pub policy: Arc<RedirectPolicy>,
    /// The status of the answer that was replaced.
    pub status: u16,
}

/// Where requests can be sent anew.
pub trait Restart {
    /// This request can begin anew as `head`: all of it is here, and there is a route.
    fn may_restart(&mut self, head: &RequestHead) -> Restarted;
}

/// Whether a request can begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Restarted {
    Yes,
    NoRoute,
    /// It is not whole yet, or is an upgrade.
    TooEarly,
}

/// The filter at one position of the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CustomActive {
    at: usize,
    /// The request came as far as this filter.
    met: bool,
}

impl CustomActive {
    pub(crate) fn new(at: usize, met: bool) -> Self {
        Self { at, met }
    }

    /// Looks for a policy and says what it wants; nothing if the answer stays. `end`: it has no body.
    pub(crate) fn response_head(
        self,
        head: &mut ResponseHead,
        end: bool,
        env: &mut ResponseEnv<'_>,
    ) -> Option<Instead> {
        if let Some(custom) = env.redirected {
            finish(custom, head, end, env.render, env.request);
            return None;
        }
        match find(self.at, head, env)? {
            ResponsePolicy::Local(policy) => Some(Instead::Reply(Arc::clone(policy))),
            ResponsePolicy::Redirect(policy) if self.met => restart(policy, head, env),
            ResponsePolicy::Redirect(_) => None,
        }
    }
}

/// The policy of the most specific level that has one for this answer.
fn find<'c>(at: usize, head: &ResponseHead, env: &ResponseEnv<'c>) -> Option<&'c ResponsePolicy> {
    let inputs = HttpInputs { request: env.request, response: head, local_reply: env.local_reply };
    let filter = env.start.hcm.http_filters.get(at)?;
    let own = match &filter.kind {
        HttpFilterKind::CustomResponse(config) => Some(&**config),
        _ => None,
    };
    let of_level = |level: &'c PerFilterConfig| match level {
        PerFilterConfig::CustomResponse(config) => Some(&**config),
        _ => None,
    };
    let levels = env.start.levels(&filter.name).filter_map(of_level).chain(own);
    let policy = |config: &'c CustomResponse| config.policies.as_ref()?.find(&inputs);
    levels.filter_map(policy).next()
}

/// The request that a policy wants instead.
fn restart(
    policy: &Arc<RedirectPolicy>,
    answer: &ResponseHead,
    env: &mut ResponseEnv<'_>,
) -> Option<Instead> {
    let mut location = Vec::new();
    let url = match &policy.to {
        CustomRedirectTo::Uri(uri) => AbsoluteUrl::parse(uri),
        CustomRedirectTo::Action(action) => {
            redirect::location(action, &RouteMatch::any(), env.request, &mut location);
            AbsoluteUrl::parse(&location)
        }
    };
    let Some(url) = url else {
        env.stats.inc(policy.scope, metric::INVALID_URI);
        return None;
    };
    let mut head = Box::new(env.request.clone());
    lead_to(&mut head, &url);
    let seen = bare(answer.status);
    mutation::restarted_request(&policy.request_headers, env.render, &seen, &mut head);
    match env.restart.may_restart(&head) {
        Restarted::Yes => {}
        Restarted::TooEarly => return None,
        Restarted::NoRoute => {
            env.stats.inc(policy.scope, metric::REDIRECT_NO_ROUTE);
            return None;
        }
    }
    // Its body is gone. Unlike in Envoy HEAD stays HEAD: nobody would take the body of the answer.
    if head.method_kind() != Method::Head {
        head.set_method(b"GET");
    }
    head.headers.remove_id(HeaderId::ContentLength);
    Some(Instead::Redirect(head, CustomRedirect { policy: Arc::clone(policy), status: answer.status }))
}

/// Makes the answer to a redirected request what the client gets.
fn finish(
    custom: &CustomRedirect,
    head: &mut ResponseHead,
    end: bool,
    render: &dyn Render,
    request: &RequestHead,
) {
    let seen = bare(head.status);
    mutation::own_response(&custom.policy.response_headers, render, request, &seen, head);
    let status = custom.policy.status.unwrap_or(custom.status);
    // Envoy sends bodies behind such heads, where a client looks for its next answer.
    if end || !is_bodiless(status) {
        head.status = status;
    }
}

/// Answers with this status have no body (RFC 9110 section 6.4.1).
pub fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 304)
}

/// Changes the reply of a policy; `status` is that of the answer it replaces.
pub fn change_reply(
    policy: &LocalResponsePolicy,
    status: u16,
    render: &dyn Render,
    request: &RequestHead,
    head: &mut ResponseHead,
) {
    mutation::own_response(&policy.headers, render, request, &bare(status), head);
}

/// What values of a policy's fields see of a response: as in Envoy, its status alone.
fn bare(status: u16) -> ResponseHead {
    let mut head = ResponseHead::new();
    head.status = status;
    head
}

#[cfg(test)]
mod tests;
