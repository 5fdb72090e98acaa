//! Messages that others are made of.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.core.v3.Address",
        fields: &[
            (Served, "socket_address pipe"),
            (Refused("internal listeners are not served by this build"), "envoy_internal_address"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.SocketAddress",
        fields: &[
            (Served, "protocol address port_value named_port"),
            (Refused("resolver extensions are not served by this build"), "resolver_name"),
            (Refused("network namespaces are not served by this build"), "network_namespace_filepath"),
            (Reported("a socket on :: takes IPv4 as the system's bindv6only says"), "ipv4_compat"),
        ],
    },
    Table { message: "envoy.config.core.v3.Pipe", fields: &[(Served, "path mode")] },
    Table { message: "envoy.config.core.v3.CidrRange", fields: &[(Served, "address_prefix prefix_len")] },
    Table {
        message: "envoy.config.core.v3.TcpKeepalive",
        fields: &[(Served, "keepalive_probes keepalive_time keepalive_interval")],
    },
    Table {
        message: "envoy.config.core.v3.BindConfig",
        fields: &[
            (
                Served,
                "source_address freebind socket_options extra_source_addresses additional_source_addresses \
                 local_address_selector",
            ),
            (NoEffect("network namespaces are refused"), "validate_network_namespaces"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.ExtraSourceAddress",
        fields: &[(Served, "address socket_options")],
    },
    Table { message: "envoy.config.core.v3.SocketOptionsOverride", fields: &[(Served, "socket_options")] },
    Table {
        message: "envoy.config.core.v3.SocketOption",
        fields: &[
            (Served, "level name int_value buf_value state type ip_version"),
            (NoEffect("it describes"), "description"),
        ],
    },
    Table { message: "envoy.config.core.v3.SocketOption.SocketType", fields: &[(Served, "stream datagram")] },
    Table { message: "envoy.config.core.v3.SocketOption.SocketType.Stream", fields: &[] },
    Table { message: "envoy.config.core.v3.SocketOption.SocketType.Datagram", fields: &[] },
    Table { message: "envoy.type.metadata.v3.MetadataKey", fields: &[(Served, "key path")] },
    Table {
        message: "envoy.type.metadata.v3.MetadataKey.PathSegment",
        fields: &[(Served, "key"), (Refused("no metadata has lists"), "index")],
    },
    Table {
        message: "envoy.config.core.v3.Metadata",
        fields: &[
            (Served, "filter_metadata"),
            (
                NoEffect("whoever reads metadata reads filter_metadata alone, balancers in Envoy too"),
                "typed_filter_metadata",
            ),
        ],
    },
    Table { message: "envoy.config.core.v3.TransportSocket", fields: &[(Served, "name typed_config")] },
    Table { message: "envoy.config.core.v3.TypedExtensionConfig", fields: &[(Served, "name typed_config")] },
    Table {
        message: "envoy.config.core.v3.HeaderValueOption",
        fields: &[(Served, "header append append_action keep_empty_value")],
    },
    Table { message: "envoy.config.core.v3.HeaderValue", fields: &[(Served, "key value raw_value")] },
    Table {
        message: "envoy.config.core.v3.DataSource",
        fields: &[
            (Served, "filename inline_bytes inline_string environment_variable"),
            (Reported("the file is read once"), "watched_directory"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.SubstitutionFormatString",
        fields: &[
            (Served, "text_format json_format text_format_source omit_empty_values content_type"),
            (
                NoEffect("a format that uses an operator of an extension is refused by the operator's name"),
                "formatters",
            ),
            (NoEffect("keys are always sorted"), "json_format_options"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.RuntimeFractionalPercent",
        fields: &[(Served, "default_value runtime_key")],
    },
    Table { message: "envoy.config.core.v3.RuntimeUInt32", fields: &[(Served, "default_value runtime_key")] },
    Table { message: "envoy.config.core.v3.RuntimeUInt64", fields: &[(Served, "default_value runtime_key")] },
    Table {
        message: "envoy.config.core.v3.RuntimePercent",
        fields: &[(Served, "default_value runtime_key")],
    },
    Table { message: "envoy.config.core.v3.RuntimeDouble", fields: &[(Served, "default_value runtime_key")] },
    Table { message: "envoy.type.v3.FractionalPercent", fields: &[(Served, "numerator denominator")] },
    Table { message: "envoy.type.v3.Percent", fields: &[(Served, "value")] },
    Table { message: "envoy.type.v3.Int64Range", fields: &[(Served, "start end")] },
    Table { message: "envoy.type.matcher.v3.ListStringMatcher", fields: &[(Served, "patterns")] },
    Table {
        message: "envoy.type.matcher.v3.StringMatcher",
        fields: &[
            (Served, "exact prefix suffix safe_regex contains ignore_case"),
            (Refused("custom string matchers are not served by this build"), "custom"),
        ],
    },
    Table {
        message: "envoy.type.matcher.v3.RegexMatcher",
        fields: &[
            (Served, "regex"),
            (NoEffect("every regular expression runs in linear time within a fixed size"), "google_re2"),
        ],
    },
    Table {
        message: "envoy.type.matcher.v3.RegexMatchAndSubstitute",
        fields: &[(Served, "pattern substitution")],
    },
];
