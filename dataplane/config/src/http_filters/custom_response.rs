//! `extensions.filters.http.custom_response.v3`, and the policies under `extensions.http.custom_response`.

use std::sync::Arc;

use crate::{AccessLogFormat, HeaderMutations, MatchTree, Redirect, ScopeId};

/// `CustomResponse`, of the filter or of a route, a virtual host and so on.
#[derive(Clone, Debug)]
pub struct CustomResponse {
    /// `custom_response_matcher`.
    pub policies: Option<MatchTree<ResponsePolicy>>,
}

/// What becomes of a response.
#[derive(Clone, Debug)]
pub enum ResponsePolicy {
    /// `LocalResponsePolicy`.
    Local(Arc<LocalResponsePolicy>),
    /// `RedirectPolicy`.
    Redirect(Arc<RedirectPolicy>),
}

/// `LocalResponsePolicy.response_code_details_action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseDetails {
    /// Not given: they become empty.
    Clear,
    /// `preserve_response_code_details`.
    Preserve,
    /// `response_code_details`.
    Set(Arc<str>),
}

/// `LocalResponsePolicy`: the client gets a reply of our own.
#[derive(Clone, Debug)]
pub struct LocalResponsePolicy {
    /// `body`; a reply without one, and without a format, is empty.
    pub body: Option<Arc<[u8]>>,
    /// `body_format`. As in Envoy its `content_type` does not count.
    pub body_format: Option<AccessLogFormat>,
    /// `status_code`; else the status stays.
    pub status: Option<u16>,
    /// `response_headers_to_add`.
    pub headers: HeaderMutations,
    /// `response_code_details_action`.
    pub details: ResponseDetails,
}

/// `RedirectPolicy.redirect_action_specifier`.
#[derive(Clone, Debug)]
pub enum CustomRedirectTo {
    /// `uri`, which is an absolute URL.
    Uri(Arc<[u8]>),
    /// `redirect_action`.
    Action(Redirect),
}

/// `RedirectPolicy`: the request begins anew, and the client gets that answer.
#[derive(Clone, Debug)]
pub struct RedirectPolicy {
    /// Where it leads.
    pub to: CustomRedirectTo,
    /// `status_code`; else the client gets the status of the response that was replaced.
    pub status: Option<u16>,
    /// `response_headers_to_add`.
    pub response_headers: HeaderMutations,
    /// `request_headers_to_add`.
    pub request_headers: HeaderMutations,
    /// Statistics scope `http.<prefix>.` of a filter, or without a prefix.
    pub scope: ScopeId,
}
