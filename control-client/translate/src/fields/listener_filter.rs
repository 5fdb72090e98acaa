//! What looks at a connection before its filter chain is chosen.

use super::Status::{NoEffect, Reported, Served};
use super::Table;

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
        fields: &[(Served, "or_match and_match not_match any_match destination_port_range")],
    },
    Table {
        message: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet",
        fields: &[(Served, "rules")],
    },
    Table { message: "envoy.type.v3.Int32Range", fields: &[(Served, "start end")] },
    Table { message: "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", fields: &[] },
    Table { message: "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", fields: &[] },
    Table {
        message: "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        fields: &[
            (Served, "close_connection_on_client_hello_parsing_errors max_client_hello_size"),
            (NoEffect("the buffer is as large as the ClientHello"), "initial_read_buffer_size"),
            (
                Reported("fingerprints of clients are not computed"),
                "enable_ja3_fingerprinting enable_ja4_fingerprinting",
            ),
        ],
    },
    Table {
        message: "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        fields: &[
            (
                Served,
                "rules allow_requests_without_proxy_protocol pass_through_tlvs disallowed_versions stat_prefix",
            ),
            (Reported("values of TLVs are dynamic metadata, there is no filter state"), "tlv_location"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.Rule",
        fields: &[(Served, "tlv_type on_tlv_present")],
    },
    Table {
        message: "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.KeyValuePair",
        fields: &[(Served, "metadata_namespace key value_string_encoding")],
    },
    Table {
        message: "envoy.config.core.v3.ProxyProtocolPassThroughTLVs",
        fields: &[(Served, "match_type tlv_type")],
    },
];
