//! Listeners, filter chains, the TCP proxy and access logs.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const ECDS: &str = "filters whose configuration comes on its own (ECDS) are not served by this build";
const SOCKET: &str = "the socket keeps its defaults";
const LOG_FILTER: &str = "this access-log filter is not served by this build";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.listener.v3.Listener",
        fields: &[
            (
                Served,
                "name address additional_addresses stat_prefix filter_chains use_original_dst default_filter_chain \
                 per_connection_buffer_limit_bytes deprecated_v1 drain_type listener_filters listener_filters_timeout \
                 continue_on_listener_filters_timeout transparent freebind traffic_direction reuse_port \
                 enable_reuse_port access_log tcp_backlog_size bind_to_port ignore_global_conn_limit \
                 bypass_overload_manager",
            ),
            (Refused("filter chains come with their listener"), "fcds_config"),
            (
                Refused("listeners of gRPC clients without a proxy are not served by this build"),
                "api_listener",
            ),
            (Refused("matcher trees are not served by this build"), "filter_chain_matcher"),
            (Refused("UDP is not served by this build"), "udp_listener_config"),
            (Refused("internal listeners are not served by this build"), "internal_listener"),
            (Reported(SOCKET), "socket_options tcp_fast_open_queue_length enable_mptcp tcp_keepalive"),
            (Reported("stats_config.stats_matcher applies alone"), "stats_matcher"),
            (
                Reported("a connection whose queue stays full is kept"),
                "per_connection_buffer_high_watermark_timeout",
            ),
            (NoEffect("accepted connections are always spread evenly"), "connection_balance_config"),
            (NoEffect("connections are accepted as they come"), "max_connections_to_accept_per_socket_event"),
            (NoEffect("nothing reads it"), "metadata"),
        ],
    },
    Table { message: "envoy.config.listener.v3.Listener.DeprecatedV1", fields: &[(Served, "bind_to_port")] },
    Table {
        message: "envoy.config.listener.v3.AdditionalAddress",
        fields: &[(Served, "address"), (Reported(SOCKET), "socket_options tcp_keepalive")],
    },
    Table {
        message: "envoy.config.listener.v3.ListenerFilter",
        fields: &[(Served, "name typed_config filter_disabled"), (Refused(ECDS), "config_discovery")],
    },
    Table {
        message: "envoy.config.listener.v3.FilterChain",
        fields: &[
            (
                Served,
                "filter_chain_match filters use_proxy_proto transport_socket transport_socket_connect_timeout name",
            ),
            (NoEffect("nothing reads it"), "metadata"),
        ],
    },
    Table {
        message: "envoy.config.listener.v3.FilterChainMatch",
        fields: &[
            (
                Served,
                "destination_port prefix_ranges direct_source_prefix_ranges source_type source_prefix_ranges \
                 source_ports server_names transport_protocol application_protocols",
            ),
            (NoEffect("Envoy does not implement it either"), "address_suffix suffix_len"),
        ],
    },
    Table {
        message: "envoy.config.listener.v3.Filter",
        fields: &[(Served, "name typed_config"), (Refused(ECDS), "config_discovery")],
    },
    Table {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        fields: &[
            (
                Served,
                "stat_prefix cluster weighted_clusters idle_timeout access_log max_connect_attempts \
                 max_downstream_connection_duration hash_policy metadata_match backoff_options \
                 max_downstream_connection_duration_jitter_percentage check_drain_close",
            ),
            (Refused("clusters come with CDS, not one by one"), "on_demand"),
            (Refused("tunnelling is not served by this build"), "tunneling_config"),
            (NoEffect("Envoy does not serve them either"), "downstream_idle_timeout upstream_idle_timeout"),
            (
                Reported("one line is written, at the end"),
                "access_log_flush_interval flush_access_log_on_connected access_log_options",
            ),
            (
                Reported("the upstream is connected when the connection is accepted"),
                "upstream_connect_mode max_early_data_bytes",
            ),
            (
                Reported("the PROXY header to the upstream has what its transport socket adds"),
                "proxy_protocol_tlvs proxy_protocol_tlv_merge_policy",
            ),
        ],
    },
    Table {
        message: "envoy.config.core.v3.BackoffStrategy",
        fields: &[(Served, "base_interval max_interval")],
    },
    Table {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
        fields: &[(Served, "clusters")],
    },
    Table {
        message: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
        fields: &[(Served, "name weight metadata_match")],
    },
    Table { message: "envoy.type.v3.HashPolicy", fields: &[(Served, "source_ip"), (Served, "filter_state")] },
    Table { message: "envoy.type.v3.HashPolicy.SourceIp", fields: &[] },
    Table { message: "envoy.type.v3.HashPolicy.FilterState", fields: &[(Served, "key")] },
    Table { message: "envoy.config.accesslog.v3.AccessLog", fields: &[(Served, "name filter typed_config")] },
    Table {
        message: "envoy.config.accesslog.v3.AccessLogFilter",
        fields: &[
            (
                Served,
                "status_code_filter duration_filter not_health_check_filter traceable_filter runtime_filter \
                 and_filter or_filter header_filter response_flag_filter metadata_filter",
            ),
            (Refused(LOG_FILTER), "grpc_status_filter extension_filter log_type_filter"),
        ],
    },
    Table { message: "envoy.config.accesslog.v3.StatusCodeFilter", fields: &[(Served, "comparison")] },
    Table { message: "envoy.config.accesslog.v3.DurationFilter", fields: &[(Served, "comparison")] },
    Table { message: "envoy.config.accesslog.v3.ComparisonFilter", fields: &[(Served, "op value")] },
    Table { message: "envoy.config.accesslog.v3.NotHealthCheckFilter", fields: &[] },
    Table { message: "envoy.config.accesslog.v3.TraceableFilter", fields: &[] },
    Table {
        message: "envoy.config.accesslog.v3.RuntimeFilter",
        fields: &[(Served, "runtime_key percent_sampled use_independent_randomness")],
    },
    Table { message: "envoy.config.accesslog.v3.AndFilter", fields: &[(Served, "filters")] },
    Table { message: "envoy.config.accesslog.v3.OrFilter", fields: &[(Served, "filters")] },
    Table { message: "envoy.config.accesslog.v3.HeaderFilter", fields: &[(Served, "header")] },
    Table { message: "envoy.config.accesslog.v3.ResponseFlagFilter", fields: &[(Served, "flags")] },
    Table {
        message: "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        fields: &[(Served, "path format json_format typed_json_format log_format")],
    },
    Table {
        message: "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        fields: &[(Served, "log_format")],
    },
    Table {
        message: "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
        fields: &[(Served, "log_format")],
    },
];
