//! The HTTP connection manager and its filters.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const ECDS: &str = "filters whose configuration comes on its own (ECDS) are not served by this build";
const STREAM_ERROR: &str =
    "an invalid message resets its HTTP/2 stream only, and always closes an HTTP/1.1 connection";
const METADATA: &str = "METADATA frames are passed over";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        fields: &[
            (
                Served,
                "codec_type stat_prefix route_config rds scoped_routes http_filters add_user_agent append_local_overload common_http_protocol_options \
                 http_protocol_options server_name server_header_transformation max_request_headers_kb \
                 stream_idle_timeout stream_flush_timeout request_timeout request_headers_timeout drain_timeout delayed_close_timeout \
                 access_log use_remote_address xff_num_trusted_hops internal_address_config skip_xff_append via \
                 generate_request_id preserve_external_request_id always_set_request_id_in_response \
                 forward_client_cert_details set_current_client_cert_details proxy_100_continue \
                 represent_ipv4_remote_address_as_ipv4_mapped_ipv6 upgrade_configs normalize_path merge_slashes \
                 path_with_escaped_slashes_action strip_matching_host_port strip_any_host_port \
                 strip_trailing_host_dot append_x_forwarded_port http2_protocol_options local_reply_config",
            ),
            (
                Refused("the peer's address comes from x-forwarded-for or the connection only"),
                "original_ip_detection_extensions",
            ),
            (
                Refused("early header mutation is not served by this build"),
                "early_header_mutation_extensions",
            ),
            (
                Refused("the scheme comes from the connection or x-forwarded-proto"),
                "scheme_header_transformation forward_proto_config",
            ),
            (
                Refused("one rule for client certificates applies to all requests"),
                "forward_client_cert_matcher",
            ),
            (Refused("paths are normalised by the fields of their own"), "path_normalization_options"),
            (Reported("HTTP/3 is not spoken"), "http3_protocol_options"),
            (Reported("nothing is traced"), "tracing"),
            (Reported("request ids are version 4 UUIDs"), "request_id_extension"),
            (Reported(STREAM_ERROR), "stream_error_on_invalid_http_message"),
            (
                Reported("one line is written, at the end"),
                "access_log_flush_interval flush_access_log_on_new_request access_log_options",
            ),
            (Reported("the header proxy-status is not written"), "proxy_status_config"),
            (Reported("headers are checked by the built-in rules"), "typed_header_validation_config"),
            (Served, "drain_timeout_jitter http1_safe_max_connection_duration"),
            (NoEffect("the PROXY protocol is not written"), "add_proxy_protocol_connection_state"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig",
        fields: &[(Served, "mappers body_format")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper",
        fields: &[(Served, "filter status_code body body_format_override headers_to_add")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
        fields: &[
            (Served, "subject cert chain dns uri"),
            (Reported("the issuer is not written"), "issuer"),
            (Refused("the header is written as text"), "format"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
        fields: &[(Served, "unix_sockets cidr_ranges")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
        fields: &[
            (Served, "upgrade_type enabled"),
            (Refused("upgrades use the filters of the connection manager"), "filters"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        fields: &[(Served, "name typed_config is_optional disabled"), (Refused(ECDS), "config_discovery")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes",
        fields: &[(
            Served,
            "name scope_key_builder rds_config_source scoped_route_configurations_list scoped_rds",
        )],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder",
        fields: &[(Served, "fragments")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder",
        fields: &[(Served, "header_value_extractor")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor",
        fields: &[(Served, "name element_separator index element")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor.KvElement",
        fields: &[(Served, "separator key")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRouteConfigurationsList",
        fields: &[(Served, "scoped_route_configurations")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRds",
        fields: &[
            (Served, "scoped_rds_config_source"),
            (Refused("xdstp: names are not served by this build"), "srds_resources_locator"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.router.v3.Router",
        fields: &[
            (
                Served,
                "suppress_envoy_headers respect_expected_rq_timeout strict_check_headers \
                 suppress_grpc_request_failure_code_stats dynamic_stats",
            ),
            (Refused("filters on the upstream side are not served by this build"), "upstream_http_filters"),
            (Reported("one line is written per request, at its end"), "upstream_log upstream_log_options"),
            (NoEffect("nothing is traced"), "start_child_span"),
            (NoEffect("data after CONNECT waits for the answer"), "reject_connect_request_early_data"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
        fields: &[
            (
                Served,
                "individual_method_stats_allowlist stats_for_all_methods enable_upstream_stats \
                 replace_dots_in_grpc_service_name",
            ),
            (Reported("nothing is written to the filter state"), "emit_filter_state"),
        ],
    },
    Table { message: "envoy.config.core.v3.GrpcMethodList", fields: &[(Served, "services")] },
    Table {
        message: "envoy.config.core.v3.GrpcMethodList.Service",
        fields: &[(Served, "name method_names")],
    },
    Table { message: "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", fields: &[] },
    Table { message: "envoy.extensions.filters.http.peak_ewma.v3alpha.PeakEwmaConfig", fields: &[] },
    Table {
        message: "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
        fields: &[(Served, "alpn_override")],
    },
    Table {
        message: "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig.AlpnOverride",
        fields: &[(Served, "upstream_protocol alpn_override")],
    },
    Table {
        message: "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
        fields: &[(Served, "upgrade_protobuf_to_grpc ignore_query_parameters")],
    },
    Table {
        message: "envoy.config.core.v3.HttpProtocolOptions",
        fields: &[
            (
                Served,
                "idle_timeout max_connection_duration max_headers_count max_response_headers_kb max_stream_duration \
                 headers_with_underscores_action max_requests_per_connection",
            ),
            // Of clients' connections: clusters report it.
            (Served, "max_connection_duration_jitter"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.Http1ProtocolOptions",
        fields: &[
            (
                Served,
                "allow_absolute_url accept_http_10 default_host_for_http_10 header_key_format enable_trailers",
            ),
            (Refused("a message with both lengths is request smuggling"), "allow_chunked_length"),
            (Refused("requests are written with a path"), "send_fully_qualified_url"),
            (
                Reported("an invalid message always closes the connection"),
                "override_stream_error_on_invalid_http_message",
            ),
            (Reported("methods are checked by the built-in rules"), "allow_custom_methods"),
            (Reported("upgrades that are not configured are ignored anyway"), "ignore_http_11_upgrade"),
            (NoEffect("there is one parser"), "use_balsa_parser"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.Http2ProtocolOptions",
        fields: &[
            (
                Served,
                "hpack_table_size max_concurrent_streams initial_stream_window_size \
                 initial_connection_window_size allow_connect max_outbound_frames max_outbound_control_frames \
                 max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream \
                 max_inbound_window_update_frames_per_data_frame_sent connection_keepalive",
            ),
            (
                Reported(STREAM_ERROR),
                "stream_error_on_invalid_http_messaging override_stream_error_on_invalid_http_message",
            ),
            (Reported(METADATA), "allow_metadata"),
            (NoEffect(METADATA), "max_metadata_size"),
            (
                Reported("only the settings that have fields of their own are sent"),
                "custom_settings_parameters",
            ),
            (
                Reported("resets have a budget of their own, see limits.md"),
                "stream_reset_burst stream_reset_rate",
            ),
            (NoEffect("one field may be as long as the whole head"), "max_header_field_size_kb"),
            (NoEffect("a string is Huffman-coded where that makes it shorter"), "enable_huffman_encoding"),
            (NoEffect("there is one codec"), "use_oghttp2_codec disallow_obs_text"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.KeepaliveSettings",
        fields: &[
            (Served, "interval timeout interval_jitter"),
            (Reported("an idle connection is used without a PING before"), "connection_idle_interval"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat",
        fields: &[(Served, "proper_case_words stateful_formatter")],
    },
    Table {
        message: "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords",
        fields: &[],
    },
    Table {
        message: "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        fields: &[(
            Reported("only names that were received keep their case"),
            "forward_reason_phrase formatter_type_on_envoy_headers",
        )],
    },
];
