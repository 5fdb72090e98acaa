//! The HTTP filters that delay, refuse and rewrite, with what routes say of them.

mod admission;
mod bandwidth;
mod buffer;
mod compression;
mod compression_library;
mod concurrency;
mod cors;
mod csrf;
mod custom_response;
mod fault;
mod forward_proxy;
mod header_mutation;
mod rate_limit;
mod rate_limit_actions;
mod stateful_session;

use millrace_config::{HttpFilterKind, PerFilterConfig};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::RuntimeFeatureFlag;
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::Rejection;
use crate::extension::{open, type_of};
use crate::value;

pub(super) use admission::TYPE as ADMISSION_CONTROL;
pub(super) use compression::DECOMPRESSOR;
pub(super) use concurrency::TYPE as ADAPTIVE_CONCURRENCY;
pub(crate) use cors::deprecated as cors_policy;
pub(crate) use header_mutation::steps as mutation_steps;
pub(crate) use rate_limit_actions::policies as rate_limits;

/// The filter of a type of this folder; `stat_prefix` is the connection manager's. `None` for other types.
pub(super) fn filter(
    any: &Any,
    stat_prefix: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<HttpFilterKind>, Rejection> {
    Ok(Some(match type_of(any).as_str() {
        fault::TYPE => fault::filter(&open(any, path)?, stat_prefix, path, cx)?,
        rate_limit::TYPE => rate_limit::filter(&open(any, path)?, path, cx)?,
        header_mutation::TYPE => header_mutation::filter(&open(any, path)?, path)?,
        cors::TYPE => cors::filter(stat_prefix, cx),
        csrf::TYPE => csrf::filter(&open(any, path)?, stat_prefix, path, cx)?,
        custom_response::TYPE => custom_response::filter(&open(any, path)?, stat_prefix, path, cx)?,
        buffer::TYPE => buffer::filter(&open(any, path)?),
        stateful_session::TYPE => stateful_session::filter(&open(any, path)?, stat_prefix, path, cx)?,
        compression::COMPRESSOR => compression::compressor(&open(any, path)?, stat_prefix, path, cx)?,
        compression::DECOMPRESSOR => compression::decompressor(&open(any, path)?, stat_prefix, path, cx)?,
        bandwidth::TYPE => bandwidth::filter(&open(any, path)?, cx),
        admission::TYPE => admission::filter(&open(any, path)?, stat_prefix, path, cx)?,
        concurrency::TYPE => concurrency::filter(&open(any, path)?, stat_prefix, path, cx)?,
        forward_proxy::TYPE => forward_proxy::filter(&open(any, path)?, path, cx)?,
        _ => return Ok(None),
    }))
}

/// A route's configuration of a filter of this folder; `None` for other types.
pub(super) fn of_route(
    any: &Any,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<PerFilterConfig>, Rejection> {
    Ok(Some(match type_of(any).as_str() {
        fault::TYPE => fault::of_route(&open(any, path)?, path, cx)?,
        rate_limit::TYPE => rate_limit::of_route(&open(any, path)?, path, cx)?,
        header_mutation::PER_ROUTE => header_mutation::of_route(&open(any, path)?, path)?,
        cors::POLICY => cors::of_route(&open(any, path)?, path, cx)?,
        csrf::TYPE => csrf::of_route(&open(any, path)?, path, cx)?,
        custom_response::TYPE => custom_response::of_route(&open(any, path)?, path, cx)?,
        buffer::PER_ROUTE => buffer::of_route(&open(any, path)?, path)?,
        stateful_session::PER_ROUTE => stateful_session::of_route(&open(any, path)?, path)?,
        bandwidth::TYPE => bandwidth::of_route(&open(any, path)?, path, cx)?,
        forward_proxy::PER_ROUTE => forward_proxy::of_route(&open(any, path)?, path)?,
        compression::PER_ROUTE => compression::of_route(&open(any, path)?, path)?,
        _ => return Ok(None),
    }))
}

/// Filters that are configured are on unless this says otherwise.
fn enabled(flag: Option<&RuntimeFeatureFlag>, cx: &Context) -> bool {
    let Some(flag) = flag else { return true };
    cx.runtime.boolean(&flag.runtime_key, value::flag(flag.default_value.as_ref(), true))
}

#[cfg(test)]
mod tests;
