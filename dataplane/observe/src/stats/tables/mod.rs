//! The metrics of every kind of scope, one declaration each. Names are Envoy's; `docs/metrics.md` is
//! generated from these tables.

use super::metric::metrics;

pub mod cds;
pub mod cluster;
pub mod cluster_manager;
pub mod connection_limit;
pub mod control_plane;
pub mod cors;
pub mod csrf;
pub mod dns;
pub mod fault;
pub mod filesystem;
pub mod grpc;
pub mod host;
pub mod http;
pub mod http1;
pub mod http2;
pub mod http_inspector;
pub mod http_listener;
pub mod http_local_rate_limit;
pub mod lds;
pub mod listener;
pub mod listener_manager;
pub mod load_reporter;
pub mod load_shed_point;
pub mod local_rate_limit;
pub mod overload_action;
pub mod overload_monitor;
pub mod process;
pub mod proxy_proto;
pub mod rds;
pub mod route;
pub mod runtime;
pub mod scoped_rds;
pub mod sds;
pub mod server;
pub mod ssl;
pub mod ssl_secrets;
pub mod tcp;
pub mod tls_inspector;
pub mod vhds;
