//! Transport sockets and secrets.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const PROVIDERS: &str = "certificate providers are not served by this build";

pub(super) const TABLES: &[Table] = &[
    Table { message: "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", fields: &[] },
    Table {
        message: "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
        fields: &[(Served, "name match transport_socket")],
    },
    Table {
        message: "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        fields: &[
            (Served, "config transport_socket"),
            (
                Reported("an address that is not known is written as UNKNOWN or LOCAL"),
                "allow_unspecified_address",
            ),
            (NoEffect("connections with different TLVs are never shared"), "tlv_as_pool_key"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.ProxyProtocolConfig",
        fields: &[(Served, "version pass_through_tlvs added_tlvs")],
    },
    Table {
        message: "envoy.config.core.v3.TlvEntry",
        fields: &[(Served, "type value"), (Refused("TLVs have fixed values"), "format_string")],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        fields: &[
            (
                Served,
                "common_tls_context require_client_certificate session_ticket_keys \
                 session_ticket_keys_sds_secret_config disable_stateless_session_resumption session_timeout \
                 full_scan_certs_on_sni_mismatch prefer_client_ciphers",
            ),
            (NoEffect("Envoy does not implement it either"), "require_sni"),
            (NoEffect("sessions are resumed by tickets only"), "disable_stateful_session_resumption"),
            (
                Refused("a staple is sent when there is one, and its absence ends no handshake"),
                "ocsp_staple_policy",
            ),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        fields: &[
            (Served, "common_tls_context sni auto_host_sni auto_sni_san_validation max_session_keys"),
            (
                NoEffect("a server's key has to be one that may sign, as in Envoy 1.40"),
                "enforce_rsa_key_usage",
            ),
            (Reported("a server that asks for renegotiation is refused"), "allow_renegotiation"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        fields: &[
            (
                Served,
                "tls_params tls_certificates tls_certificate_sds_secret_configs validation_context \
                 validation_context_sds_secret_config combined_validation_context alpn_protocols",
            ),
            (
                Refused(PROVIDERS),
                "tls_certificate_provider_instance tls_certificate_certificate_provider \
                 tls_certificate_certificate_provider_instance validation_context_certificate_provider \
                 validation_context_certificate_provider_instance custom_tls_certificate_selector",
            ),
            (Refused("other handshakers are not served by this build"), "custom_handshaker"),
            (Reported("off by design: keys of sessions are never written to a file"), "key_log"),
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
            (
                Served,
                "tls_minimum_protocol_version tls_maximum_protocol_version cipher_suites ecdh_curves \
                 signature_algorithms",
            ),
            (Refused("compliance policies are not served by this build"), "compliance_policies"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        fields: &[
            (Served, "certificate_chain private_key password ocsp_staple watched_directory"),
            (NoEffect("Envoy does not implement it either"), "signed_certificate_timestamp"),
            (Refused("PKCS#12 is not read by this build"), "pkcs12"),
            (
                Refused("private keys are read from data sources; providers are not served by this build"),
                "private_key_provider",
            ),
            (Refused("parameters belong to the context"), "tls_params"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys",
        fields: &[(Served, "keys")],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        fields: &[
            (
                Served,
                "trusted_ca system_root_certs verify_certificate_spki verify_certificate_hash \
                 match_typed_subject_alt_names match_subject_alt_names crl allow_expired_certificate \
                 trust_chain_verification custom_validator_config only_verify_leaf_cert_crl max_verify_depth \
                 watched_directory",
            ),
            (Refused(PROVIDERS), "ca_certificate_provider_instance"),
            (NoEffect("Envoy does not implement it either"), "require_signed_certificate_timestamp"),
            (Reported("clients are told whom we believe"), "suppress_client_ca_list"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts",
        fields: &[],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
        fields: &[(Served, "san_type matcher oid")],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
        fields: &[
            (Served, "trust_domains"),
            (Refused("bundles of SPIFFE in JSON are not read by this build"), "trust_bundles"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig.TrustDomain",
        fields: &[
            (Served, "name trust_bundle"),
            (Refused("a trust domain has one bundle"), "workload_trust_domain"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.Secret",
        fields: &[
            (Served, "name tls_certificate session_ticket_keys validation_context"),
            (NoEffect("only filters that are not served read it"), "generic_secret"),
        ],
    },
    Table {
        message: "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
        fields: &[(Served, "name sds_config")],
    },
];
