//! The HTTP connection manager and its filters.

mod connection_manager;
mod filters;
mod grpc;
mod health_check;
mod http1;
pub(crate) mod http2;
mod istio_alpn;
mod local_reply;
mod router;
mod scoped_routes;
mod shaping;
mod written;

pub(crate) use connection_manager::{TYPE, connection_manager};
pub(crate) use grpc::WITHOUT_ROUTE_CONFIGURATION;
pub(crate) use http1::header_case;
pub(crate) use shaping::{cors_policy, mutation_steps, rate_limits};
pub(crate) use written::set_filter_state::values as state_values;

use millrace_config::PerFilterConfig;
use millrace_proto::Path;
use millrace_proto::pb::google::protobuf::Any;

use crate::context::Context;
use crate::error::Rejection;

/// A route's configuration of an HTTP filter; `None` for types that are none.
pub(crate) fn of_route(
    any: &Any,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<PerFilterConfig>, Rejection> {
    match shaping::of_route(any, path, cx)? {
        None => written::of_route(any, path, cx),
        served => Ok(served),
    }
}
