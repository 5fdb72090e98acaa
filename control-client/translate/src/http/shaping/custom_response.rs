//! `extensions.filters.http.custom_response.v3` and its policies.

use std::sync::Arc;

use millrace_config::{
    AbsoluteUrl, CustomRedirectTo, CustomResponse, HeaderMutations, HttpFilterKind, LocalResponsePolicy,
    PerFilterConfig, RedirectPolicy, ResponseDetails, ResponsePolicy, ScopeId,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3::{RedirectAction, redirect_action};
use millrace_proto::pb::envoy::extensions::filters::http::custom_response::v3 as pb;
use millrace_proto::pb::envoy::extensions::http::custom_response::local_response_policy::v3 as local;
use millrace_proto::pb::envoy::extensions::http::custom_response::redirect_policy::v3 as redirect;
use millrace_proto::pb::xds::core::v3::TypedExtensionConfig;

use crate::access_log::substitution_format;
use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, headers, match_tree, route, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.custom_response.v3.CustomResponse";
const LOCAL: &str = "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy";
const REDIRECT: &str = "envoy.extensions.http.custom_response.redirect_policy.v3.RedirectPolicy";

pub(super) fn filter(
    config: &pb::CustomResponse,
    stat_prefix: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<HttpFilterKind, Rejection> {
    Ok(HttpFilterKind::CustomResponse(policies(config, &format!("http.{stat_prefix}"), path, cx)?))
}

pub(super) fn of_route(
    config: &pb::CustomResponse,
    path: &Path,
    cx: &mut Context,
) -> Result<PerFilterConfig, Rejection> {
    Ok(PerFilterConfig::CustomResponse(policies(config, "", path, cx)?))
}

fn policies(
    config: &pb::CustomResponse,
    scope: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<Arc<CustomResponse>, Rejection> {
    let path = path.join("custom_response_matcher");
    // Envoy has the statistics of a redirect wherever one is configured.
    let mut action = |action: &TypedExtensionConfig, path: &Path| policy(action, scope, path, cx);
    let matcher = config.custom_response_matcher.as_ref();
    let policies = matcher.map(|matcher| match_tree::tree(matcher, &path, &mut action)).transpose()?;
    Ok(Arc::new(CustomResponse { policies }))
}

fn policy(
    action: &TypedExtensionConfig,
    scope: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<ResponsePolicy, Rejection> {
    let inside = path.join("typed_config");
    let any = action.typed_config.as_ref();
    match any.map(|any| (any, extension::type_of(any))) {
        Some((any, kind)) if kind == LOCAL => {
            Ok(ResponsePolicy::Local(Arc::new(local_policy(&extension::open(any, &inside)?, &inside, cx)?)))
        }
        Some((any, kind)) if kind == REDIRECT => {
            let scope = cx.scope(ScopeKind::CustomResponse, scope);
            let policy = redirect_policy(&extension::open(any, &inside)?, scope, &inside)?;
            Ok(ResponsePolicy::Redirect(Arc::new(policy)))
        }
        _ => Err(match_tree::unknown("custom response policy", action, path)),
    }
}

fn local_policy(
    config: &local::LocalResponsePolicy,
    path: &Path,
    cx: &mut Context,
) -> Result<LocalResponsePolicy, Rejection> {
    use local::local_response_policy::ResponseCodeDetailsAction as Details;
    let body = config.body.as_ref().map(|source| value::data_source(source, &path.join("body")));
    let format_path = path.join("body_format");
    let format = config.body_format.as_ref();
    if format.is_some_and(|format| !format.content_type.is_empty()) {
        cx.report(&format_path.join("content_type"), "the content type is text/plain, as in Envoy");
    }
    Ok(LocalResponsePolicy {
        body: body.transpose()?.map(Arc::from),
        body_format: format.map(|format| substitution_format(format, &format_path, cx)).transpose()?,
        status: status(config.status_code.as_ref().map(|status| status.value), path)?,
        headers: headers::mutations(&config.response_headers_to_add, &[], "response", path)?,
        details: match &config.response_code_details_action {
            None => ResponseDetails::Clear,
            Some(Details::PreserveResponseCodeDetails(_)) => ResponseDetails::Preserve,
            Some(Details::ResponseCodeDetails(text)) => ResponseDetails::Set(text.as_str().into()),
        },
    })
}

fn redirect_policy(
    config: &redirect::RedirectPolicy,
    scope: ScopeId,
    path: &Path,
) -> Result<RedirectPolicy, Rejection> {
    use redirect::redirect_policy::RedirectActionSpecifier as To;
    let to = match &config.redirect_action_specifier {
        Some(To::Uri(uri)) if AbsoluteUrl::parse(uri.as_bytes()).is_none() => {
            let why = format!("Invalid uri specified for redirection for custom response: {uri}");
            return Err(Rejection::new(&path.join("uri"), why));
        }
        Some(To::Uri(uri)) => CustomRedirectTo::Uri(value::bytes(uri)),
        Some(To::RedirectAction(action)) => {
            let path = path.join("redirect_action");
            check(action, &path)?;
            CustomRedirectTo::Action(route::redirect(action, &path)?)
        }
        None => return Err(Rejection::new(&path.join("redirect_action_specifier"), "is required")),
    };
    if let Some(action) = &config.modify_request_headers_action {
        let path = path.join("modify_request_headers_action");
        let any = action.typed_config.as_ref();
        return Err(extension::not_served("change of a redirected request", &action.name, any, &path));
    }
    let request: HeaderMutations = headers::mutations(&config.request_headers_to_add, &[], "request", path)?;
    Ok(RedirectPolicy {
        to,
        status: status(config.status_code.as_ref().map(|status| status.value), path)?,
        response_headers: headers::mutations(&config.response_headers_to_add, &[], "response", path)?,
        request_headers: request,
        scope,
    })
}

/// What Envoy does not do for custom responses.
fn check(action: &RedirectAction, path: &Path) -> Result<(), Rejection> {
    use redirect_action::PathRewriteSpecifier as New;
    match &action.path_rewrite_specifier {
        Some(New::PrefixRewrite(_)) => Err(Rejection::new(
            &path.join("prefix_rewrite"),
            "prefix_rewrite is not supported for Custom Response",
        )),
        Some(New::RegexRewrite(_)) => Err(Rejection::new(
            &path.join("regex_rewrite"),
            "regex_rewrite is not supported for Custom Response",
        )),
        Some(New::PathRedirect(to)) if to.contains('#') => {
            let why =
                format!("#fragment is not supported for custom response. Specified path_redirect is {to}");
            Err(Rejection::new(&path.join("path_redirect"), why))
        }
        _ => Ok(()),
    }
}

/// The numbers are bounded by the rules of their fields.
fn status(value: Option<u32>, path: &Path) -> Result<Option<u16>, Rejection> {
    let status = value.map(u16::try_from).transpose();
    status.map_err(|_| Rejection::new(&path.join("status_code"), "value must be inside range [200, 1000)"))
}
