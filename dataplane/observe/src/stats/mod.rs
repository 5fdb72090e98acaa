//! Statistics: what exists (`tables`), where it is counted (`shard`), and how it is read.
//!
//! A counter is an index into an array of the shard that counts. The control thread owns the names, adds
//! the shards up and renders text when somebody scrapes; nothing here is locked while traffic flows.

mod cluster_scopes;
mod codes;
mod control;
#[cfg(test)]
mod docs;
mod grpc_scopes;
mod histogram;
mod metric;
mod registry;
mod render;
mod scope;
mod shard;
mod slots;
pub mod tables;

pub use codes::{CodeFamily, UNNAMED_CODE};
pub use control::ControlStats;
pub use grpc_scopes::GrpcProtocol;
pub use metric::{Counter, Gauge, Group, Histogram};
pub use millrace_config::ScopeId;
pub use registry::{Registry, TlsScopes};
pub use render::{
    EndpointStats, HistogramBuckets, Selection, StatType, StatsMatcher, TagRule, TagRules, render_json,
    render_prometheus, render_text,
};
pub use scope::ScopeKind;
pub use shard::ShardStats;
pub use tables::{
    admission_control, bandwidth_limit, cds, cluster, cluster_budgets, cluster_manager, cluster_sizes,
    cluster_zone, compressor, compressor_direction, connection_limit, control_plane, cors, csrf,
    custom_response, decompressor, decompressor_library, dns, dns_cache, fault, filesystem,
    gradient_controller, grpc, hds_delegate, header_to_metadata, health_check, host, http, http_inspector,
    http_listener, http_local_rate_limit, http1, http2, json_to_metadata, lds, listener, listener_manager,
    load_reporter, load_shed_point, local_rate_limit, overload_action, overload_monitor, process,
    proxy_proto, rds, route, runtime, scoped_rds, sds, server, ssl, ssl_secrets, stateful_session, tcp,
    tls_inspector, vhds,
};
