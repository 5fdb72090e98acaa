//! What filters write about a stream, and the matchers that read it.

use super::Status::{Refused, Reported, Served};
use super::Table;

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        fields: &[(Served, "request_rules response_rules stat_prefix")],
    },
    Table {
        message: "envoy.extensions.filters.http.header_to_metadata.v3.Config.Rule",
        fields: &[(Served, "header cookie on_header_present on_header_missing remove")],
    },
    Table {
        message: "envoy.extensions.filters.http.header_to_metadata.v3.Config.KeyValuePair",
        fields: &[(Served, "metadata_namespace key value regex_value_rewrite type encode")],
    },
    Table {
        message: "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
        fields: &[(Served, "request_rules response_rules")],
    },
    Table {
        message: "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.MatchRules",
        fields: &[(Served, "rules allow_content_types allow_empty_content_type allow_content_types_regex")],
    },
    Table {
        message: "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.Rule",
        fields: &[(Served, "selectors on_present on_missing on_error")],
    },
    Table {
        message: "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.Selector",
        fields: &[(Served, "key")],
    },
    Table {
        message: "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.KeyValuePair",
        fields: &[(Served, "metadata_namespace key value type preserve_existing_metadata_value")],
    },
    Table {
        message: "envoy.extensions.filters.http.set_metadata.v3.Config",
        fields: &[(Served, "metadata_namespace value metadata")],
    },
    Table {
        message: "envoy.extensions.filters.http.set_metadata.v3.Metadata",
        fields: &[
            (Served, "metadata_namespace allow_overwrite value"),
            (Reported("typed metadata are read by nobody"), "typed_value"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.set_filter_state.v3.Config",
        fields: &[(Served, "on_request_headers clear_route_cache")],
    },
    Table {
        message: "envoy.extensions.filters.network.set_filter_state.v3.Config",
        fields: &[
            (Served, "on_new_connection on_downstream_tls_handshake"),
            (
                Refused("the terminal filter has a connection before its first bytes come"),
                "on_downstream_data",
            ),
        ],
    },
    Table {
        message: "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue",
        fields: &[
            (Served, "object_key factory_key format_string read_only skip_if_empty"),
            (Reported("upstream connections have no filter state"), "shared_with_upstream"),
        ],
    },
    Table {
        message: "envoy.type.matcher.v3.MetadataMatcher",
        fields: &[(Served, "filter path value invert")],
    },
    Table { message: "envoy.type.matcher.v3.MetadataMatcher.PathSegment", fields: &[(Served, "key")] },
    Table {
        message: "envoy.type.matcher.v3.ValueMatcher",
        fields: &[(
            Served,
            "null_match double_match string_match bool_match present_match list_match or_match",
        )],
    },
    Table { message: "envoy.type.matcher.v3.ValueMatcher.NullMatch", fields: &[] },
    Table { message: "envoy.type.matcher.v3.DoubleMatcher", fields: &[(Served, "range exact")] },
    Table { message: "envoy.type.v3.DoubleRange", fields: &[(Served, "start end")] },
    Table { message: "envoy.type.matcher.v3.ListMatcher", fields: &[(Served, "one_of")] },
    Table { message: "envoy.type.matcher.v3.OrMatcher", fields: &[(Served, "value_matchers")] },
    Table {
        message: "envoy.type.matcher.v3.FilterStateMatcher",
        fields: &[(Served, "key string_match address_match")],
    },
    Table { message: "envoy.type.matcher.v3.AddressMatcher", fields: &[(Served, "ranges invert_match")] },
    Table { message: "xds.core.v3.CidrRange", fields: &[(Served, "address_prefix prefix_len")] },
    Table {
        message: "envoy.config.accesslog.v3.MetadataFilter",
        fields: &[(Served, "matcher match_if_key_not_found")],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.DynamicMetaData",
        fields: &[(Served, "descriptor_key metadata_key default_value")],
    },
    Table {
        message: "envoy.config.route.v3.RateLimit.Action.MetaData",
        fields: &[(Served, "descriptor_key metadata_key default_value source skip_if_absent")],
    },
];
