//! `extensions.filters.http.buffer.v3`.

use millrace_config::{BufferFilter, HttpFilterKind, PerFilterConfig};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::buffer::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::buffer::v3::buffer_per_route::Override;

use crate::error::Rejection;
use crate::value;

pub(super) const TYPE: &str = "envoy.extensions.filters.http.buffer.v3.Buffer";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute";

pub(super) fn filter(config: &pb::Buffer) -> HttpFilterKind {
    HttpFilterKind::Buffer(buffer(config))
}

fn buffer(config: &pb::Buffer) -> BufferFilter {
    BufferFilter::UpTo(value::number(config.max_request_bytes.as_ref(), 0))
}

pub(super) fn of_route(config: &pb::BufferPerRoute, path: &Path) -> Result<PerFilterConfig, Rejection> {
    match &config.r#override {
        Some(Override::Disabled(_)) => Ok(PerFilterConfig::Buffer(BufferFilter::Off)),
        Some(Override::Buffer(config)) => Ok(PerFilterConfig::Buffer(buffer(config))),
        None => Err(Rejection::new(&path.join("override"), "is required")),
    }
}
