//! Active health checks (`envoy.config.core.v3.HealthCheck`).

use std::sync::Arc;
use std::time::Duration;

use crate::{
    AccessLogSink, Address, HeaderMutations, ProxyProtocolVersion, StringMatcher, TransportMetadata,
};

/// How the endpoints of a cluster are checked, and what the cluster says besides of endpoints that are checked.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Equal for configurations whose checks may go on where the others' were.
    pub fingerprint: u64,
    /// `timeout`: an answer that takes longer is a failure.
    pub timeout: Duration,
    /// The time from the end of one check to the next.
    pub intervals: HealthCheckIntervals,
    /// `unhealthy_threshold`: failures in a row; 0 is never reached.
    pub unhealthy_threshold: u32,
    /// `healthy_threshold`: successes in a row; 0 is never reached.
    pub healthy_threshold: u32,
    /// `reuse_connection`, default true.
    pub reuse_connection: bool,
    /// `always_log_health_check_failures`.
    pub always_log_failures: bool,
    /// `always_log_health_check_success`.
    pub always_log_success: bool,
    /// `event_log_path` and the file sinks of `event_logger`.
    pub event_logs: Vec<AccessLogSink>,
    /// `tls_options.alpn_protocols`; `None` without `tls_options`.
    pub alpn: Option<Vec<Arc<[u8]>>>,
    /// `transport_socket_match_criteria`: stands in for the metadata of the endpoint.
    pub transport_match: Option<TransportMetadata>,
    /// What is said and what is expected.
    pub kind: HealthCheckKind,
    /// `Cluster.ignore_health_on_host_removal`: endpoints that pass leave with the discovery, too.
    pub ignore_health_on_removal: bool,
    /// `common_lb_config.ignore_new_hosts_until_first_hc`.
    pub ignore_new_hosts: bool,
}

/// The intervals of [`HealthCheck`]; those that are not configured have their defaults here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheckIntervals {
    /// `interval`.
    pub interval: Duration,
    /// `no_traffic_interval`, default 60 s: while the cluster has never had a connection.
    pub no_traffic: Duration,
    /// `no_traffic_healthy_interval`: the same of endpoints that pass.
    pub no_traffic_healthy: Duration,
    /// `unhealthy_interval`: after a failure.
    pub unhealthy: Duration,
    /// `unhealthy_edge_interval`: after a failure that is not enough to change anything.
    pub unhealthy_edge: Duration,
    /// `healthy_edge_interval`: after a success that is not enough.
    pub healthy_edge: Duration,
    /// `initial_jitter`: the first check waits less than this.
    pub initial_jitter: Duration,
    /// `interval_jitter`: less than this is added.
    pub jitter: Duration,
    /// `interval_jitter_percent` of the interval, likewise.
    pub jitter_percent: u32,
}

/// `HealthCheck.health_checker`.
#[derive(Clone, Debug)]
pub enum HealthCheckKind {
    /// `http_health_check`.
    Http(Box<HttpHealthCheck>),
    /// `tcp_health_check`.
    Tcp(TcpHealthCheck),
    /// `grpc_health_check`.
    Grpc(Box<GrpcHealthCheck>),
}

/// `HttpHealthCheck`.
#[derive(Clone, Debug)]
pub struct HttpHealthCheck {
    /// `host`; empty for the cluster's name.
    pub host: Arc<str>,
    /// `path`.
    pub path: Arc<str>,
    /// `method`, default GET.
    pub method: &'static str,
    /// `send`: the request's body.
    pub send: Vec<u8>,
    /// `receive`: to be found in the answer's body, one behind the other.
    pub receive: Vec<Vec<u8>>,
    /// `response_buffer_size`: octets of the body that are looked at, default 1024; `None` (0) for all.
    pub response_bytes: Option<u64>,
    /// `request_headers_to_add` and `request_headers_to_remove`.
    pub headers: HeaderMutations,
    /// `expected_statuses`, half-open; 200 alone when there are none.
    pub expected: Vec<(u16, u16)>,
    /// `retriable_statuses`, half-open: these failures count towards the threshold.
    pub retriable: Vec<(u16, u16)>,
    /// `codec_client_type` is HTTP2.
    pub http2: bool,
    /// `service_name_matcher`: `x-envoy-upstream-healthchecked-cluster` must match.
    pub service_name: Option<StringMatcher>,
}

/// `TcpHealthCheck`.
#[derive(Clone, Debug, Default)]
pub struct TcpHealthCheck {
    /// `proxy_protocol_config.version`.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// `send`.
    pub send: Vec<u8>,
    /// `receive`; without any the connection itself is the answer.
    pub receive: Vec<Vec<u8>>,
}

/// `GrpcHealthCheck`.
#[derive(Clone, Debug, Default)]
pub struct GrpcHealthCheck {
    /// `service_name`.
    pub service: Arc<str>,
    /// `authority`; empty for the cluster's name.
    pub authority: Arc<str>,
    /// `initial_metadata`.
    pub metadata: HeaderMutations,
}

/// `Endpoint.HealthCheckConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointHealthCheck {
    /// `address`: where it is checked, if not where it serves.
    pub address: Option<Address>,
    /// `port_value`: takes the place of the address's own; 0 for none.
    pub port: u16,
    /// `hostname`; empty for what the health check says.
    pub hostname: Arc<str>,
    /// `disable_active_health_check`.
    pub disabled: bool,
}
