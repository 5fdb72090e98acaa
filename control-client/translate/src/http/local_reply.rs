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

#[cfg(test)]
mod tests {
    use millrace_config::{AccessLogFilter, Comparison};
    use millrace_observe::stats::Registry;
    use millrace_proto::pb::envoy::config::accesslog::v3 as log;
    use millrace_proto::pb::envoy::config::core::v3::{
        DataSource, RuntimeUInt32, data_source::Specifier, substitution_format_string::Format,
    };
    use millrace_proto::pb::google::protobuf::{Struct, UInt32Value};

    use super::*;
    use crate::Overrides;

    fn status(value: u32) -> log::AccessLogFilter {
        let value = Some(RuntimeUInt32 { default_value: value, runtime_key: String::new() });
        let comparison = Some(log::ComparisonFilter { op: 0, value });
        let filter =
            log::access_log_filter::FilterSpecifier::StatusCodeFilter(log::StatusCodeFilter { comparison });
        log::AccessLogFilter { filter_specifier: Some(filter) }
    }

    #[test]
    fn mappers_and_formats() {
        let mut cx = Context::new(Registry::new(), Overrides::default());
        let path = Path::from("local_reply_config");
        let format = |format| Some(SubstitutionFormatString { format: Some(format), ..Default::default() });
        let mapper = pb::ResponseMapper {
            filter: Some(status(503)),
            status_code: Some(UInt32Value { value: 429 }),
            body: Some(DataSource {
                specifier: Some(Specifier::InlineString("own".into())),
                ..DataSource::default()
            }),
            body_format_override: format(Format::TextFormat("<%LOCAL_REPLY_BODY%>".into())),
            ..Default::default()
        };
        let json = format(Format::JsonFormat(Struct::default()));
        let message = pb::LocalReplyConfig { mappers: vec![mapper.clone()], body_format: json };
        let built = config(&message, &path, &mut cx).unwrap();
        let first = &built.mappers[0];
        assert!(matches!(first.filter, AccessLogFilter::StatusCode(Comparison::Equal(503))));
        assert_eq!((first.status, first.body.as_deref()), (Some(429), Some(&b"own"[..])));
        let kind =
            |format: &Option<ReplyBodyFormat>| format.as_ref().map(|format| format.content_type.to_string());
        assert_eq!(kind(&first.body_format).as_deref(), Some("text/plain"));
        assert_eq!(kind(&built.body_format).as_deref(), Some("application/json"));
        let without = pb::ResponseMapper { filter: None, ..mapper };
        let message = pb::LocalReplyConfig { mappers: vec![without], body_format: None };
        let refused = config(&message, &path, &mut cx).unwrap_err();
        assert_eq!(refused.to_string(), "local_reply_config.mappers[0].filter: value is required");
    }
}
