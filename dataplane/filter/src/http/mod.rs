//! HTTP: the connection manager around the filter chain, and the filters.

pub mod chain;
mod compression;
pub mod connection_manager;
pub mod custom_response;
pub mod forward_proxy;
pub mod grpc;
mod grpc_http1_bridge;
mod grpc_stats;
mod grpc_web;
pub mod health_check;
pub mod istio_alpn;
pub mod local_reply;
pub mod metadata;
mod report;
pub mod router;
mod shaping;
pub mod stream_filters;
#[cfg(test)]
mod test;

pub use local_reply::LocalReply;
pub use stream_filters::{BodyUse, StreamFilters};
