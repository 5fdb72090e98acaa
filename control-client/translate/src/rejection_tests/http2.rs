//! HTTP/2 options that Envoy refuses too.

use super::Case;
use super::Kind::{Cluster as C, Listener as L};

/// What Envoy 1.40 refuses too, tried on it.
pub(super) const INVALID: &[Case] = &[
    (
        C,
        "{name: c, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': t/HTTP, auto_config: {}}}}",
        "transport_socket",
        "ALPN configured for cluster c which has a non-ALPN transport socket",
    ),
    (
        C,
        "{name: c, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': t/HTTP, auto_config: {http2_protocol_options: {}}}}}",
        "transport_socket",
        "non-ALPN transport socket",
    ),
    (
        C,
        "{name: c, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': t/HTTP, explicit_http_config: {http2_protocol_options: {initial_stream_window_size: 65534}}}}}",
        "typed_extension_protocol_options.value.explicit_http_config.http2_protocol_options.initial_stream_window_size",
        "65535",
    ),
    (
        C,
        "{name: c, http_protocol_options: {}, http2_protocol_options: {}}",
        "protocol_selection",
        "Both HTTP1 and HTTP2 options may only be configured",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {max_concurrent_streams: 0}}",
        "http2_protocol_options.max_concurrent_streams",
        "greater than or equal to 1",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {max_concurrent_streams: 2147483648}}",
        "http2_protocol_options.max_concurrent_streams",
        "less than or equal to 2147483647",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {initial_connection_window_size: 1}}",
        "http2_protocol_options.initial_connection_window_size",
        "greater than or equal to 65535",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {max_outbound_control_frames: 0}}",
        "http2_protocol_options.max_outbound_control_frames",
        "greater than or equal to 1",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {max_inbound_window_update_frames_per_data_frame_sent: 0}}",
        "http2_protocol_options.max_inbound_window_update_frames_per_data_frame_sent",
        "greater than or equal to 1",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {max_header_field_size_kb: 63}}",
        "http2_protocol_options.max_header_field_size_kb",
        "greater than or equal to 64",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {connection_keepalive: {interval: 1s}}}",
        "http2_protocol_options.connection_keepalive.timeout",
        "required",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {connection_keepalive: {interval: 0s, timeout: 1s}}}",
        "http2_protocol_options.connection_keepalive.interval",
        "greater than or equal to",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {connection_keepalive: {timeout: 1s, interval_jitter: {value: 101}}}}",
        "http2_protocol_options.connection_keepalive.interval_jitter.value",
        "100",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {custom_settings_parameters: [{identifier: 2, value: 1}]}}",
        "http2_protocol_options.custom_settings_parameters[0]",
        "server push",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {custom_settings_parameters: [{identifier: 8, value: 1}]}}",
        "http2_protocol_options.custom_settings_parameters[0]",
        "named field",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {custom_settings_parameters: [{identifier: 99, value: 1}, {identifier: 99, value: 2}]}}",
        "http2_protocol_options.custom_settings_parameters",
        "identifiers = {0x63}",
    ),
    (
        C,
        "{name: c, http2_protocol_options: {hpack_table_size: 1, custom_settings_parameters: [{identifier: 1, value: 3}]}}",
        "http2_protocol_options.custom_settings_parameters",
        "the {hpack_table_size} HTTP/2 SETTINGS",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {}, http2_protocol_options: {max_outbound_frames: 0}}}]}]}",
        "filter_chains[0].filters[0].typed_config.http2_protocol_options.max_outbound_frames",
        "greater than or equal to 1",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {}, http2_protocol_options: {max_header_field_size_kb: 64}}}]}]}",
        "filter_chains[0].filters[0].typed_config.http2_protocol_options.max_header_field_size_kb",
        "must not exceed max_request_headers_kb",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {}, http2_protocol_options: {max_concurrent_streams: 4, custom_settings_parameters: [{identifier: 3, value: 1}]}}}]}]}",
        "filter_chains[0].filters[0].typed_config.http2_protocol_options.custom_settings_parameters",
        "{max_concurrent_streams}",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {}, codec_type: HTTP3}}]}]}",
        "filter_chains[0].filters[0].typed_config.codec_type",
        "HTTP/3",
    ),
];
