//! The filter `custom_response` of a simulated proxy: failures become replies of its own, and redirects are followed where the
//! request has no body.

use std::sync::Arc;

use millrace_config::{
    CustomRedirectTo, CustomResponse, FilterConfigId, HeaderMutations, HttpFilter, HttpFilterKind,
    LocalResponsePolicy, MatchInput, MatchKind, MatchPredicate, MatchTree, OnMatch, Redirect, RedirectPath,
    RedirectPolicy, ResponseDetails, ResponsePolicy, StringMatcher,
};
use millrace_observe::stats::{Registry, ScopeKind};

fn is(input: MatchInput, value: &str) -> MatchPredicate {
    let value = value.as_bytes().into();
    MatchPredicate::Single(input, StringMatcher::Exact { value, ignore_case: false })
}

fn reply() -> ResponsePolicy {
    ResponsePolicy::Local(Arc::new(LocalResponsePolicy {
        body: Some(b"an answer instead"[..].into()),
        body_format: None,
        status: None,
        headers: HeaderMutations::default(),
        details: ResponseDetails::Clear,
    }))
}

/// To where the request went.
fn again(registry: &Registry) -> ResponsePolicy {
    let same = Redirect {
        status: 301,
        scheme: None,
        host: None,
        port: None,
        path: RedirectPath::Keep,
        strip_query: false,
    };
    ResponsePolicy::Redirect(Arc::new(RedirectPolicy {
        to: CustomRedirectTo::Action(same),
        status: None,
        response_headers: HeaderMutations::default(),
        request_headers: HeaderMutations::default(),
        scope: registry.scope(ScopeKind::CustomResponse, ""),
    }))
}

/// The filter.
pub fn filter(registry: &Registry) -> HttpFilter {
    let method = |method| is(MatchInput::RequestHeader(b":method"[..].into()), method);
    let bodiless = MatchPredicate::Any(vec![method("GET"), method("HEAD")]);
    let redirect = MatchPredicate::All(vec![is(MatchInput::ResponseStatus, "302"), bodiless]);
    let entries = vec![
        (is(MatchInput::ResponseStatus, "503"), OnMatch::Action(reply())),
        (redirect, OnMatch::Action(again(registry))),
    ];
    let policies = MatchTree { kind: MatchKind::List(entries), on_no_match: None };
    HttpFilter {
        name: "envoy.filters.http.custom_response".into(),
        id: FilterConfigId(1),
        disabled: false,
        kind: HttpFilterKind::CustomResponse(Arc::new(CustomResponse { policies: Some(policies) })),
    }
}
