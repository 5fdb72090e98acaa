//! `config.accesslog.v3.AccessLogFilter`.

use millrace_base::ResponseFlag;
use millrace_config::{AccessLogFilter, Comparison};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::accesslog::v3 as pb;
use millrace_proto::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier as By;

use crate::context::Context;
use crate::error::Rejection;
use crate::{matcher, value, written_matcher};

/// Deepest nesting of `and_filter` and `or_filter`.
const DEPTH_MAX: usize = 32;

pub(crate) fn filter(
    filter: &pb::AccessLogFilter,
    path: &Path,
    cx: &Context,
) -> Result<AccessLogFilter, Rejection> {
    nested(filter, path, cx, 0)
}

fn nested(
    filter: &pb::AccessLogFilter,
    path: &Path,
    cx: &Context,
    depth: usize,
) -> Result<AccessLogFilter, Rejection> {
    if depth > DEPTH_MAX {
        return Err(Rejection::new(path, "filters are nested too deeply"));
    }
    let list = |filters: &[pb::AccessLogFilter], name: &'static str| -> Result<Vec<_>, Rejection> {
        let path = path.join(name).join("filters");
        filters.iter().enumerate().map(|(i, f)| nested(f, &path.at(i), cx, depth + 1)).collect()
    };
    Ok(match &filter.filter_specifier {
        Some(By::StatusCodeFilter(by)) => AccessLogFilter::StatusCode(comparison(
            by.comparison.as_ref(),
            &path.join("status_code_filter"),
            cx,
        )?),
        Some(By::DurationFilter(by)) => {
            AccessLogFilter::Duration(comparison(by.comparison.as_ref(), &path.join("duration_filter"), cx)?)
        }
        Some(By::NotHealthCheckFilter(_)) => AccessLogFilter::NotHealthCheck,
        Some(By::TraceableFilter(_)) => AccessLogFilter::Traceable,
        Some(By::RuntimeFilter(by)) => {
            let fraction = cx.runtime.percent(&by.runtime_key, by.percent_sampled.as_ref());
            AccessLogFilter::Runtime(fraction, by.use_independent_randomness)
        }
        Some(By::AndFilter(by)) => AccessLogFilter::And(list(&by.filters, "and_filter")?),
        Some(By::OrFilter(by)) => AccessLogFilter::Or(list(&by.filters, "or_filter")?),
        Some(By::HeaderFilter(by)) => match &by.header {
            Some(header) => {
                AccessLogFilter::Header(matcher::header(header, &path.join("header_filter").join("header"))?)
            }
            None => {
                return Err(Rejection::new(&path.join("header_filter").join("header"), "value is required"));
            }
        },
        Some(By::ResponseFlagFilter(by)) => {
            AccessLogFilter::ResponseFlag(flags(&by.flags, &path.join("response_flag_filter").join("flags"))?)
        }
        Some(By::GrpcStatusFilter(_)) => return Err(not_served("grpc_status_filter", path)),
        Some(By::ExtensionFilter(_)) => return Err(not_served("extension_filter", path)),
        Some(By::MetadataFilter(by)) => AccessLogFilter::Metadata {
            matcher: match &by.matcher {
                Some(matcher) => {
                    let path = path.join("metadata_filter").join("matcher");
                    Some(written_matcher::metadata(matcher, &path)?)
                }
                None => None,
            },
            if_missing: value::flag(by.match_if_key_not_found.as_ref(), true),
        },
        Some(By::LogTypeFilter(_)) => return Err(not_served("log_type_filter", path)),
        None => return Err(Rejection::new(&path.join("filter_specifier"), "is required")),
    })
}

fn not_served(name: &'static str, path: &Path) -> Rejection {
    Rejection::not_served(&path.join(name), "this filter is not served by this build")
}

fn comparison(by: Option<&pb::ComparisonFilter>, path: &Path, cx: &Context) -> Result<Comparison, Rejection> {
    use pb::comparison_filter::Op;
    let path = path.join("comparison");
    let by = by.ok_or_else(|| Rejection::new(&path, "value is required"))?;
    let value = by.value.as_ref().ok_or_else(|| Rejection::new(&path.join("value"), "value is required"))?;
    let value = cx.runtime.uint32(value);
    Ok(match by.op() {
        Op::Eq => Comparison::Equal(value),
        Op::Ge => Comparison::GreaterOrEqual(value),
        Op::Le => Comparison::LessOrEqual(value),
        Op::Ne => Comparison::NotEqual(value),
    })
}

fn flags(names: &[String], path: &Path) -> Result<Vec<ResponseFlag>, Rejection> {
    let find = |name: &String| ResponseFlag::ALL.iter().copied().find(|flag| flag.short() == name);
    let known = |(i, name)| {
        find(name).ok_or_else(|| Rejection::new(&path.at(i), format!("unknown response flag: {name}")))
    };
    names.iter().enumerate().map(known).collect()
}
