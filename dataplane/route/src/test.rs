//! Small builders that the tests of this crate share.

use std::sync::Arc;

use millrace_config::{HeaderMutations, PathMatcher, Redirect, RedirectPath, Route, RouteAction, RouteMatch};
use millrace_http::RequestHead;

pub(crate) fn bytes(text: &str) -> Arc<[u8]> {
    Arc::from(text.as_bytes())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn head(method: &str, authority: &str, path: &str) -> RequestHead {
    let mut head = RequestHead::new();
    head.set_method(method.as_bytes());
    head.set_authority(authority.as_bytes());
    head.set_path(path.as_bytes());
    head.set_scheme(b"http");
    head
}

pub(crate) fn matching(path: PathMatcher) -> RouteMatch {
    RouteMatch { path, ..RouteMatch::any() }
}

pub(crate) fn redirect() -> Redirect {
    Redirect {
        status: 301,
        scheme: None,
        host: None,
        port: None,
        path: RedirectPath::Keep,
        strip_query: false,
    }
}

/// A route with an action that no test looks at.
pub(crate) fn redirect_route() -> Route {
    Route {
        name: "".into(),
        matcher: RouteMatch::any(),
        action: RouteAction::Redirect(Box::new(redirect())),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        per_filter: Vec::new(),
        metadata: None,
        stat_scope: None,
    }
}
