//! `config.route.v3.DirectResponseAction`.

use std::sync::Arc;

use millrace_config::{AccessLogFormat, DirectResponse};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3::DirectResponseAction;

use super::Scope;
use crate::access_log::substitution_format;
use crate::context::Context;
use crate::error::Rejection;
use crate::value;

pub(super) fn direct_response(
    response: &DirectResponseAction,
    scope: &Scope<'_>,
    path: &Path,
    cx: &mut Context,
) -> Result<DirectResponse, Rejection> {
    let status = u16::try_from(response.status)
        .map_err(|_| Rejection::new(&path.join("status"), "value must be inside range [200, 600)"))?;
    let body = match &response.body {
        Some(source) => value::data_source(source, &path.join("body"))?,
        None => Vec::new(),
    };
    if body.len() > scope.body_bytes_max {
        let why = format!("response body size is {} bytes; maximum is {}", body.len(), scope.body_bytes_max);
        return Err(Rejection::new(&path.join("body"), why));
    }
    if response.body_format.as_ref().is_some_and(|format| !format.content_type.is_empty()) {
        cx.report(&path.join("body_format").join("content_type"), "the content type is text/plain");
    }
    let body_format = match &response.body_format {
        None => None,
        Some(format) => match substitution_format(format, &path.join("body_format"), cx)? {
            AccessLogFormat::Text(template) => Some(template),
            AccessLogFormat::Json { .. } => {
                let path = path.join("body_format").join("json_format");
                return Err(Rejection::not_served(&path, "JSON bodies are not served by this build"));
            }
        },
    };
    Ok(DirectResponse { status, body: Arc::from(body), body_format })
}
