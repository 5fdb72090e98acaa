//! Active health checks.

use super::Status::{NoEffect, Refused, Served};
use super::Table;

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.core.v3.HealthCheck",
        fields: &[
            (
                Served,
                "timeout interval initial_jitter interval_jitter interval_jitter_percent unhealthy_threshold \
                 healthy_threshold reuse_connection http_health_check tcp_health_check grpc_health_check \
                 no_traffic_interval no_traffic_healthy_interval unhealthy_interval unhealthy_edge_interval \
                 healthy_edge_interval event_log_path event_logger always_log_health_check_failures \
                 always_log_health_check_success tls_options transport_socket_match_criteria",
            ),
            (
                Refused("health checkers for Redis and Thrift, and other extensions, are not in this build"),
                "custom_health_check",
            ),
            (NoEffect("Envoy does not implement it either"), "alt_port event_service"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.HealthCheck.HttpHealthCheck",
        fields: &[(
            Served,
            "host path send receive response_buffer_size request_headers_to_add request_headers_to_remove \
             expected_statuses retriable_statuses codec_client_type service_name_matcher method",
        )],
    },
    Table {
        message: "envoy.config.core.v3.HealthCheck.TcpHealthCheck",
        fields: &[(Served, "send receive proxy_protocol_config")],
    },
    Table {
        message: "envoy.config.core.v3.HealthCheck.GrpcHealthCheck",
        fields: &[(Served, "service_name authority initial_metadata")],
    },
    Table { message: "envoy.config.core.v3.HealthCheck.Payload", fields: &[(Served, "text binary")] },
    Table { message: "envoy.config.core.v3.HealthCheck.TlsOptions", fields: &[(Served, "alpn_protocols")] },
    Table {
        message: "envoy.extensions.filters.http.health_check.v3.HealthCheck",
        fields: &[(Served, "pass_through_mode cache_time cluster_min_healthy_percentages headers")],
    },
    Table {
        message: "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig",
        fields: &[(Served, "port_value hostname address disable_active_health_check")],
    },
    Table {
        message: "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
        fields: &[(Served, "event_log_path")],
    },
    Table {
        message: "envoy.service.health.v3.HealthCheckSpecifier",
        fields: &[(Served, "cluster_health_checks interval")],
    },
    Table {
        message: "envoy.service.health.v3.ClusterHealthCheck",
        fields: &[(
            Served,
            "cluster_name health_checks locality_endpoints transport_socket_matches upstream_bind_config",
        )],
    },
    Table { message: "envoy.service.health.v3.LocalityEndpoints", fields: &[(Served, "locality endpoints")] },
];
