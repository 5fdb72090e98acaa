//! The filters that write dynamic metadata and filter state: `header_to_metadata`, `set_metadata`, `set_filter_state`.

use std::sync::Arc;

use millrace_base::{MetadataStruct, StateForm};

use crate::format::Template;
use crate::{RegexRewrite, ScopeId};

/// What a rule of [`HeaderToMetadata`] reads.
#[derive(Clone, Debug)]
pub enum RuleSource {
    /// `header`, lower case: all its values, joined by commas.
    Header {
        /// The field.
        name: Arc<[u8]>,
        /// `remove`.
        remove: bool,
    },
    /// `cookie`.
    Cookie(Arc<[u8]>),
}

/// `ValueType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RuleValueType {
    #[default]
    String,
    Number,
    /// `PROTOBUF_VALUE`: a serialised `google.protobuf.Value`.
    ProtobufValue,
}

/// `KeyValuePair`: what is written where.
#[derive(Clone, Debug)]
pub struct MetadataWrite {
    /// `metadata_namespace`, default `envoy.filters.http.header_to_metadata`.
    pub namespace: Box<str>,
    /// `key`.
    pub key: Box<str>,
    /// `value`: instead of the one that was found; `None` when empty.
    pub value: Option<Box<str>>,
    /// `regex_value_rewrite`.
    pub rewrite: Option<RegexRewrite>,
    /// `type`.
    pub kind: RuleValueType,
    /// `encode: BASE64`.
    pub base64: bool,
}

/// One of `request_rules` and `response_rules`.
#[derive(Clone, Debug)]
pub struct MetadataRule {
    /// What it reads.
    pub source: RuleSource,
    /// `on_header_present`.
    pub present: Option<MetadataWrite>,
    /// `on_header_missing`; has a value.
    pub missing: Option<MetadataWrite>,
}

/// `extensions.filters.http.header_to_metadata.v3.Config`, of the filter or of a route.
#[derive(Clone, Debug)]
pub struct HeaderToMetadata {
    /// Statistics scope `http_filter_name.<stat_prefix>.`; `None` without a `stat_prefix`.
    pub scope: Option<ScopeId>,
    /// `request_rules`.
    pub request: Vec<MetadataRule>,
    /// `response_rules`.
    pub response: Vec<MetadataRule>,
}

/// One entry of `extensions.filters.http.set_metadata.v3.Config`.
#[derive(Clone, Debug)]
pub struct SetMetadata {
    /// `metadata_namespace`.
    pub namespace: Box<str>,
    /// `value`.
    pub value: MetadataStruct,
    /// `allow_overwrite`: merged into what the namespace has; without it, only written where that has nothing.
    pub overwrite: bool,
}

/// `FilterStateValue`: one object to make.
#[derive(Clone, Debug)]
pub struct StateValue {
    /// `object_key`.
    pub key: Box<str>,
    /// What the object is, by `factory_key` or its key.
    pub form: StateForm,
    /// `format_string`.
    pub value: Template,
    /// `read_only`.
    pub read_only: bool,
    /// `skip_if_empty`.
    pub skip_if_empty: bool,
}

/// `extensions.filters.http.set_filter_state.v3.Config`, of the filter or of a route.
#[derive(Clone, Debug, Default)]
pub struct SetFilterState {
    /// `on_request_headers`.
    pub values: Vec<StateValue>,
    /// `clear_route_cache`: the route is chosen once more.
    pub clear_route_cache: bool,
}

/// `extensions.filters.network.set_filter_state.v3.Config`.
#[derive(Clone, Debug, Default)]
pub struct ConnectionState {
    /// `on_new_connection`.
    pub on_new: Vec<StateValue>,
    /// `on_downstream_tls_handshake`.
    pub on_handshake: Vec<StateValue>,
}
