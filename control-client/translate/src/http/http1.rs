//! `core.v3.Http1ProtocolOptions`.

use std::sync::Arc;

use millrace_config::Http1Options;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;

use crate::error::Rejection;
use crate::{extension, value};

const PRESERVE_CASE: &str =
    "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig";

/// The downstream side.
pub(super) fn downstream(
    options: Option<&core::Http1ProtocolOptions>,
    path: &Path,
) -> Result<Http1Options, Rejection> {
    let Some(options) = options else {
        return Ok(Http1Options { allow_absolute_url: true, ..Http1Options::default() });
    };
    let (proper_case, preserve_case) = header_case(options, path)?;
    let default_host = options.default_host_for_http_10.as_str();
    Ok(Http1Options {
        accept_http_10: options.accept_http_10,
        default_host_for_http_10: Some(default_host).filter(|host| !host.is_empty()).map(Arc::from),
        allow_absolute_url: value::flag(options.allow_absolute_url.as_ref(), true),
        enable_trailers: options.enable_trailers,
        proper_case,
        preserve_case,
    })
}

/// `(proper_case_words, preserve_case)`.
pub(crate) fn header_case(
    options: &core::Http1ProtocolOptions,
    path: &Path,
) -> Result<(bool, bool), Rejection> {
    let path = path.join("header_key_format");
    match options.header_key_format.as_ref().map(|format| &format.header_format) {
        None => Ok((false, false)),
        Some(Some(HeaderFormat::ProperCaseWords(_))) => Ok((true, false)),
        Some(Some(HeaderFormat::StatefulFormatter(formatter))) => {
            let any = formatter.typed_config.as_ref();
            match any.is_some_and(|any| extension::type_of(any) == PRESERVE_CASE) {
                true => Ok((false, true)),
                false => Err(extension::not_served(
                    "header formatter",
                    &formatter.name,
                    any,
                    &path.join("stateful_formatter"),
                )),
            }
        }
        Some(None) => Err(Rejection::new(&path.join("header_format"), "is required")),
    }
}
