//! `LocalReplyConfig`.

use std::sync::Arc;

use millrace_config::{AccessLogFormat, LocalReplyConfig, ReplyBodyFormat, ReplyMapper};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::SubstitutionFormatString;
use millrace_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;

use crate::access_log::{log_filter, substitution_format};
use crate::context::Context;
use crate::error::Rejection;
use crate::{headers, value};

pub(super) fn config(
    config: &pb::LocalReplyConfig,
    path: &Path,
    cx: &mut Context,
) -> Result<LocalReplyConfig, Rejection> {
    let mappers_path = path.join("mappers");
    let mut mappers = Vec::with_capacity(config.mappers.len());
    for (i, one) in config.mappers.iter().enumerate() {
        mappers.push(mapper(one, &mappers_path.at(i), cx)?);
    }
    let body_format = body_format(config.body_format.as_ref(), &path.join("body_format"), cx)?;
    Ok(LocalReplyConfig { mappers, body_format })
}

fn mapper(config: &pb::ResponseMapper, path: &Path, cx: &mut Context) -> Result<ReplyMapper, Rejection> {
    let filter_path = path.join("filter");
    let Some(filter) = &config.filter else { return Err(Rejection::new(&filter_path, "value is required")) };
    let status = config.status_code.as_ref().map(|status| u16::try_from(status.value));
    let status = status
        .transpose()
        .map_err(|_| Rejection::new(&path.join("status_code"), "value must be inside range [200, 600)"))?;
    let body = config.body.as_ref().map(|source| value::data_source(source, &path.join("body")));
    let headers_path = path.join("headers_to_add");
    let headers = config.headers_to_add.iter().enumerate();
    let format = config.body_format_override.as_ref();
    Ok(ReplyMapper {
        filter: log_filter(filter, &filter_path, cx)?,
        status,
        body: body.transpose()?.map(Arc::from),
        body_format: body_format(format, &path.join("body_format_override"), cx)?,
        headers: headers
            .map(|(i, option)| headers::option(option, &headers_path.at(i)))
            .collect::<Result<_, _>>()?,
    })
}

fn body_format(
    format: Option<&SubstitutionFormatString>,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<ReplyBodyFormat>, Rejection> {
    let Some(config) = format else { return Ok(None) };
    let format = substitution_format(config, path, cx)?;
    let content_type = match (config.content_type.as_str(), &format) {
        ("", AccessLogFormat::Json { .. }) => "application/json",
        ("", AccessLogFormat::Text(_)) => "text/plain",
        (configured, _) => configured,
    };
    Ok(Some(ReplyBodyFormat { content_type: content_type.into(), format }))
}
