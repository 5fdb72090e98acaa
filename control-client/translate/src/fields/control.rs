//! Static clusters as the control client reads them, which speaks TLS where traffic does not yet.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const HTTP2: &str = "control planes are spoken to in HTTP/2, over REST in HTTP/1.1";
const ONE: &str = "one stream needs no balancing and no limits";
const HEALTH: &str = "an address that does not answer is tried again later";
const RESOLVER: &str = "names are resolved with the system's settings at every attempt";
const PROVIDERS: &str = "certificate providers are not served by this build";
const STRICTER: &str = "certificates are always checked in full";
const SPEAKS: &str = "the control client offers TLS 1.2 and 1.3 with the suites of its library";
const EACH: &str = "files are read for every connection";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.cluster.v3.Cluster",
        fields: &[
            (
                Served,
                "name type cluster_type connect_timeout load_assignment transport_socket \
                 typed_extension_protocol_options http2_protocol_options upstream_connection_options",
            ),
            (Refused("static clusters alone reach a control plane"), "eds_cluster_config"),
            (
                Refused("filters on the way to a control plane are not served by this build"),
                "filters upstream_config",
            ),
            (
                Refused("one transport socket serves all endpoints"),
                "transport_socket_matches transport_socket_matcher",
            ),
            (NoEffect("the control client has statistics of its own"), "alt_stat_name"),
            (
                NoEffect(ONE),
                "lb_policy lb_subset_config ring_hash_lb_config maglev_lb_config original_dst_lb_config \
                 least_request_lb_config round_robin_lb_config common_lb_config load_balancing_policy circuit_breakers \
                 max_requests_per_connection preconnect_policy connection_pool_per_downstream_connection \
                 queuing_policies per_connection_buffer_limit_bytes \
                 per_connection_buffer_high_watermark_timeout",
            ),
            (
                NoEffect(HTTP2),
                "http_protocol_options common_http_protocol_options upstream_http_protocol_options \
                 protocol_selection",
            ),
            (
                NoEffect(RESOLVER),
                "dns_refresh_rate dns_failure_refresh_rate dns_jitter respect_dns_ttl wait_for_warm_on_init",
            ),
            (
                Reported(RESOLVER),
                "dns_lookup_family dns_resolvers use_tcp_for_dns_lookups dns_resolution_config \
                 typed_dns_resolver_config",
            ),
            (
                Reported(HEALTH),
                "health_checks outlier_detection ignore_health_on_host_removal \
                 close_connections_on_host_health_failure",
            ),
            (Reported("connections leave from any address"), "upstream_bind_config"),
            (
                NoEffect("the load of control planes is not reported"),
                "lrs_server lrs_report_endpoint_metrics",
            ),
            (
                NoEffect("the control client has statistics of its own"),
                "track_timeout_budgets track_cluster_stats stats_matcher",
            ),
            (NoEffect("nothing reads it"), "metadata cleanup_interval"),
        ],
    },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        fields: &[
            (Served, "explicit_http_config use_downstream_protocol_config auto_config"),
            (Refused("filters on the way to a control plane are not served by this build"), "http_filters"),
            (
                NoEffect(HTTP2),
                "common_http_protocol_options upstream_http_protocol_options retry_policy request_mirror_policies \
                 hash_policy header_validation_config",
            ),
            (Reported(HEALTH), "outlier_detection"),
        ],
    },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        fields: &[
            (Served, "http2_protocol_options"),
            (NoEffect(HTTP2), "http_protocol_options"),
            (Refused("HTTP/3 is not served by this build"), "http3_protocol_options"),
        ],
    },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        fields: &[
            (Served, "http2_protocol_options"),
            (NoEffect(HTTP2), "http_protocol_options http3_protocol_options"),
        ],
    },
    Table {
        message: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
        fields: &[
            (Served, "http2_protocol_options"),
            (
                NoEffect(HTTP2),
                "http_protocol_options http3_protocol_options alternate_protocols_cache_options",
            ),
        ],
    },
    Table {
        message: "envoy.config.core.v3.Http2ProtocolOptions",
        fields: &[
            (Served, "connection_keepalive"),
            (
                NoEffect("the stream keeps the library's windows and limits"),
                "hpack_table_size max_concurrent_streams initial_stream_window_size \
                 initial_connection_window_size allow_connect allow_metadata max_outbound_frames \
                 max_outbound_control_frames max_consecutive_inbound_frames_with_empty_payload \
                 max_inbound_priority_frames_per_stream max_inbound_window_update_frames_per_data_frame_sent \
                 stream_error_on_invalid_http_messaging override_stream_error_on_invalid_http_message \
                 custom_settings_parameters use_oghttp2_codec max_metadata_size enable_huffman_encoding \
                 max_header_field_size_kb disallow_obs_text stream_reset_burst stream_reset_rate",
            ),
        ],
    },
    Table {
        message: "envoy.config.core.v3.KeepaliveSettings",
        fields: &[
            (Served, "interval timeout"),
            (NoEffect("pings have no jitter"), "interval_jitter"),
            (Reported("pings are sent at every interval"), "connection_idle_interval"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.DataSource",
        fields: &[
            (Served, "filename inline_bytes inline_string environment_variable"),
            (NoEffect(EACH), "watched_directory"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        fields: &[
            (Served, "common_tls_context sni"),
            (Refused("the name is that of sni"), "auto_host_sni auto_sni_san_validation"),
            (NoEffect("TLS 1.3 has none, and it is never started by us"), "allow_renegotiation"),
            (NoEffect("sessions are not resumed"), "max_session_keys"),
            (NoEffect(STRICTER), "enforce_rsa_key_usage"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        fields: &[
            (
                Served,
                "tls_params tls_certificates tls_certificate_sds_secret_configs validation_context \
                 validation_context_sds_secret_config combined_validation_context",
            ),
            (
                Refused(PROVIDERS),
                "tls_certificate_provider_instance tls_certificate_certificate_provider \
                 tls_certificate_certificate_provider_instance validation_context_certificate_provider \
                 validation_context_certificate_provider_instance custom_tls_certificate_selector",
            ),
            (Refused("extensions of TLS are not served by this build"), "custom_handshaker"),
            (NoEffect(HTTP2), "alpn_protocols"),
            (Reported("keys are never written to a file"), "key_log"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
        fields: &[
            (Served, "default_validation_context validation_context_sds_secret_config"),
            (
                Refused(PROVIDERS),
                "validation_context_certificate_provider validation_context_certificate_provider_instance",
            ),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        fields: &[
            (Served, "tls_minimum_protocol_version tls_maximum_protocol_version"),
            (Reported(SPEAKS), "cipher_suites ecdh_curves signature_algorithms"),
            (Refused(SPEAKS), "compliance_policies"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        fields: &[
            (Served, "certificate_chain private_key"),
            (NoEffect(EACH), "watched_directory"),
            (NoEffect("only servers send it"), "ocsp_staple signed_certificate_timestamp"),
            (Refused("certificates are read as PEM without a password"), "pkcs12 password"),
            (Refused("private keys are read from a data source"), "private_key_provider"),
            (Refused(SPEAKS), "tls_params"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        fields: &[
            (Served, "trusted_ca system_root_certs match_typed_subject_alt_names match_subject_alt_names"),
            (NoEffect(EACH), "watched_directory"),
            (Refused(PROVIDERS), "ca_certificate_provider_instance"),
            (
                Refused("certificates are checked by their authority and names only"),
                "verify_certificate_spki verify_certificate_hash require_signed_certificate_timestamp crl \
                 custom_validator_config",
            ),
            (Refused(STRICTER), "allow_expired_certificate trust_chain_verification"),
            (NoEffect("there are no revocation lists"), "only_verify_leaf_cert_crl"),
            (NoEffect("chains are short by the library's own limit"), "max_verify_depth"),
            (NoEffect("only servers send it"), "suppress_client_ca_list"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts",
        fields: &[],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
        fields: &[(Served, "san_type matcher"), (NoEffect("other names are refused"), "oid")],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.Secret",
        fields: &[
            (Served, "name tls_certificate validation_context"),
            (NoEffect("only servers and filters read it"), "session_ticket_keys generic_secret"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
        fields: &[(Served, "name sds_config")],
    },
];
