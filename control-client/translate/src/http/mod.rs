//! The HTTP connection manager and its filters.

mod connection_manager;
mod filters;
mod grpc;
mod health_check;
mod http1;
pub(crate) mod http2;
mod istio_alpn;
mod router;
mod scoped_routes;
mod shaping;

pub(crate) use connection_manager::{TYPE, connection_manager};
pub(crate) use grpc::WITHOUT_ROUTE_CONFIGURATION;
pub(crate) use http1::header_case;
pub(crate) use shaping::{cors_policy, mutation_steps, of_route, rate_limits};
