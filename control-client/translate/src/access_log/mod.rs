//! Access loggers: `config.accesslog.v3.AccessLog` with the file, stdout and stderr sinks.

mod filter;
mod format;

use std::sync::Arc;

use millrace_config::{AccessLog, AccessLogFormat, AccessLogSink};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::accesslog::v3 as pb;
use millrace_proto::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use millrace_proto::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::{Rejection, RejectionKind};
use crate::extension;

pub(crate) use filter::filter as log_filter;
pub(crate) use format::{substitution as substitution_format, text_alone};

/// All loggers of one owner; a sink that this build lacks is reported and left out.
pub(crate) fn access_logs(
    logs: &[pb::AccessLog],
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<Arc<AccessLog>>, Rejection> {
    let mut out = Vec::with_capacity(logs.len());
    for (i, log) in logs.iter().enumerate() {
        out.extend(access_log(log, &path.at(i), cx)?.map(Arc::new));
    }
    Ok(out)
}

/// A file logger in the default format (`admin.access_log_path`).
pub(crate) fn default_file(file: &str, path: &Path) -> Result<AccessLog, Rejection> {
    let sink = AccessLogSink::File(file.into());
    Ok(AccessLog { sink, format: format::default(path)?, filter: None })
}

fn access_log(log: &pb::AccessLog, path: &Path, cx: &mut Context) -> Result<Option<AccessLog>, Rejection> {
    let Some(pb::access_log::ConfigType::TypedConfig(any)) = &log.config_type else {
        return Err(extension::not_served("access logger", &log.name, None, path));
    };
    let filter = log.filter.as_ref().map(|f| filter::filter(f, &path.join("filter"), cx)).transpose()?;
    let config_path = path.join("typed_config");
    let Some((sink, format)) = sink(any, &config_path, cx)? else {
        let refusal = extension::not_served("access logger", &log.name, Some(any), &config_path);
        if refusal.kind == RejectionKind::Invalid {
            return Err(refusal);
        }
        cx.report(&config_path, format!("{}; its lines are not written", refusal.reason));
        return Ok(None);
    };
    Ok(Some(AccessLog { sink, format, filter }))
}

fn sink(
    any: &Any,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<(AccessLogSink, AccessLogFormat)>, Rejection> {
    let log_format = path.join("log_format");
    Ok(Some(match extension::type_of(any).as_str() {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
            let file: FileAccessLog = extension::open(any, path)?;
            (AccessLogSink::File(file.path.as_str().into()), file_format(&file, path, cx)?)
        }
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let log: StdoutAccessLog = extension::open(any, path)?;
            let format = match &log.access_log_format {
                Some(stdout_access_log::AccessLogFormat::LogFormat(by)) => {
                    format::substitution(by, &log_format, cx)?
                }
                None => format::default(path)?,
            };
            (AccessLogSink::Stdout, format)
        }
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let log: StderrAccessLog = extension::open(any, path)?;
            let format = match &log.access_log_format {
                Some(stderr_access_log::AccessLogFormat::LogFormat(by)) => {
                    format::substitution(by, &log_format, cx)?
                }
                None => format::default(path)?,
            };
            (AccessLogSink::Stderr, format)
        }
        _ => return Ok(None),
    }))
}

fn file_format(file: &FileAccessLog, path: &Path, cx: &mut Context) -> Result<AccessLogFormat, Rejection> {
    use file_access_log::AccessLogFormat as By;
    match &file.access_log_format {
        None => format::default(path),
        // An empty text means the default one.
        Some(By::Format(text)) if text.is_empty() => format::default(path),
        Some(By::Format(text)) => format::text(text, &path.join("format")),
        Some(By::JsonFormat(json)) => format::json(json, false, &path.join("json_format")),
        Some(By::TypedJsonFormat(json)) => format::json(json, false, &path.join("typed_json_format")),
        Some(By::LogFormat(by)) => format::substitution(by, &path.join("log_format"), cx),
    }
}
