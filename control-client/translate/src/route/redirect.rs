//! `config.route.v3.RedirectAction`.

use millrace_config::{Redirect, RedirectPath};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3::RedirectAction;
use millrace_proto::pb::envoy::config::route::v3::redirect_action as by;

use crate::error::Rejection;
use crate::{regex_util, value};

pub(crate) fn redirect(to: &RedirectAction, path: &Path) -> Result<Redirect, Rejection> {
    use by::RedirectResponseCode as Code;
    let scheme = match &to.scheme_rewrite_specifier {
        Some(by::SchemeRewriteSpecifier::HttpsRedirect(on)) => on.then(|| value::bytes("https")),
        Some(by::SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(value::bytes(scheme)),
        None => None,
    };
    let new_path = match &to.path_rewrite_specifier {
        None => RedirectPath::Keep,
        Some(by::PathRewriteSpecifier::PathRedirect(text)) => RedirectPath::Replace(value::bytes(text)),
        Some(by::PathRewriteSpecifier::PrefixRewrite(text)) => RedirectPath::Prefix(value::bytes(text)),
        Some(by::PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            let (pattern, substitution) = regex_util::substitution(rewrite, &path.join("regex_rewrite"))?;
            RedirectPath::Regex { pattern, substitution }
        }
        Some(_) => {
            return Err(Rejection::not_served(
                path,
                "this way of rewriting the path is not served by this build",
            ));
        }
    };
    let port = u16::try_from(to.port_redirect).map_err(|_| {
        Rejection::new(&path.join("port_redirect"), "value must be less than or equal to 65535")
    })?;
    Ok(Redirect {
        status: match to.response_code() {
            Code::MovedPermanently => 301,
            Code::Found => 302,
            Code::SeeOther => 303,
            Code::TemporaryRedirect => 307,
            Code::PermanentRedirect => 308,
        },
        scheme,
        host: Some(&to.host_redirect).filter(|h| !h.is_empty()).map(|h| value::bytes(h)),
        port: Some(port).filter(|p| *p != 0),
        path: new_path,
        strip_query: to.strip_query,
    })
}
