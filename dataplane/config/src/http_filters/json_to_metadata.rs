//! The filter `json_to_metadata`: values of bodies that become dynamic metadata.

use millrace_base::MetadataValue;

use crate::{RuleValueType, ScopeId, StringMatcher};

/// `KeyValuePair`: what is written where.
#[derive(Clone, Debug)]
pub struct JsonWrite {
    /// `metadata_namespace`, default `envoy.filters.http.json_to_metadata`.
    pub namespace: Box<str>,
    /// `key`.
    pub key: Box<str>,
    /// `value`: instead of the one that was found.
    pub value: Option<MetadataValue>,
    /// `type`, of a value that was found.
    pub kind: RuleValueType,
    /// `preserve_existing_metadata_value`.
    pub preserve: bool,
}

/// `Rule`.
#[derive(Clone, Debug)]
pub struct JsonRule {
    /// `selectors` but the last one: objects within each other.
    pub parents: Vec<Box<str>>,
    /// The last of `selectors`.
    pub key: Box<str>,
    /// `on_present`.
    pub present: Option<JsonWrite>,
    /// `on_missing`; has a value.
    pub missing: Option<JsonWrite>,
    /// `on_error`; has a value.
    pub error: Option<JsonWrite>,
}

/// `MatchRules`: the rules of one direction.
#[derive(Clone, Debug)]
pub struct JsonRules {
    /// Statistics scope `json_to_metadata.rq.` or `json_to_metadata.resp.`.
    pub scope: ScopeId,
    /// `rules`.
    pub rules: Vec<JsonRule>,
    /// `allow_content_types`, default `application/json`, and `allow_content_types_regex`: one that matches is enough.
    pub content_types: Vec<StringMatcher>,
    /// `allow_empty_content_type`.
    pub empty_content_type: bool,
}

/// `extensions.filters.http.json_to_metadata.v3.JsonToMetadata`, of the filter or of a route.
#[derive(Clone, Debug)]
pub struct JsonToMetadata {
    /// `request_rules`.
    pub request: Option<JsonRules>,
    /// `response_rules`.
    pub response: Option<JsonRules>,
}
