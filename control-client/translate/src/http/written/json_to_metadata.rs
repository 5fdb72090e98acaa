//! `extensions.filters.http.json_to_metadata.v3.JsonToMetadata`.

use std::sync::Arc;

use millrace_config::{
    HttpFilterKind, JsonRule, JsonRules, JsonToMetadata, JsonWrite, PerFilterConfig, RuleValueType,
    StringMatcher,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::json_to_metadata::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::json_to_metadata::v3::json_to_metadata as inner;

use crate::context::Context;
use crate::error::Rejection;
use crate::{metadata, regex_util, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata";

/// Where values are written that name no namespace.
const NAMESPACE: &str = "envoy.filters.http.json_to_metadata";

pub(super) fn filter(
    config: &pb::JsonToMetadata,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    Ok(HttpFilterKind::JsonToMetadata(both(config, path, cx)?))
}

pub(super) fn of_route(
    config: &pb::JsonToMetadata,
    path: &Path,
    cx: &Context,
) -> Result<PerFilterConfig, Rejection> {
    if config.request_rules.is_none() && config.response_rules.is_none() {
        let why = "json_to_metadata_filter: Per route configs must at least specify one of request_rules or response_rules.";
        return Err(Rejection::new(path, why));
    }
    Ok(PerFilterConfig::JsonToMetadata(both(config, path, cx)?))
}

fn both(config: &pb::JsonToMetadata, path: &Path, cx: &Context) -> Result<Arc<JsonToMetadata>, Rejection> {
    let rules = |rules: Option<&inner::MatchRules>, name: &'static str, direction: &str| {
        // Envoy has the figures of both directions from the beginning.
        let scope = cx.scope(ScopeKind::JsonToMetadata, direction);
        rules.map(|rules| match_rules(rules, scope, &path.join(name))).transpose()
    };
    Ok(Arc::new(JsonToMetadata {
        request: rules(config.request_rules.as_ref(), "request_rules", "rq")?,
        response: rules(config.response_rules.as_ref(), "response_rules", "resp")?,
    }))
}

fn match_rules(
    config: &inner::MatchRules,
    scope: millrace_config::ScopeId,
    path: &Path,
) -> Result<JsonRules, Rejection> {
    let exact = |text: &str| StringMatcher::Exact { value: value::bytes(text), ignore_case: false };
    let mut content_types: Vec<_> = config.allow_content_types.iter().map(|text| exact(text)).collect();
    if content_types.is_empty() {
        content_types.push(exact("application/json"));
    }
    if let Some(regex) = &config.allow_content_types_regex {
        let path = path.join("allow_content_types_regex");
        content_types.push(StringMatcher::Regex(regex_util::full(regex, &path)?));
    }
    let path = path.join("rules");
    let rules = config.rules.iter().enumerate().map(|(i, one)| rule(one, &path.at(i)));
    Ok(JsonRules {
        scope,
        rules: rules.collect::<Result<_, _>>()?,
        content_types,
        empty_content_type: config.allow_empty_content_type,
    })
}

fn rule(rule: &inner::Rule, path: &Path) -> Result<JsonRule, Rejection> {
    if rule.on_present.is_none() && rule.on_missing.is_none() {
        let why = "json to metadata filter: neither `on_present` nor `on_missing` set";
        return Err(Rejection::new(path, why));
    }
    let key = |selector: &inner::Selector| -> Box<str> {
        match &selector.selector {
            Some(inner::selector::Selector::Key(key)) => key.as_str().into(),
            None => "".into(),
        }
    };
    let Some((last, parents)) = rule.selectors.split_last() else {
        return Err(Rejection::new(&path.join("selectors"), "value must contain at least 1 item(s)"));
    };
    let fixed = |pair: Option<&inner::KeyValuePair>, name: &'static str| match pair.map(write) {
        Some(JsonWrite { value: None, .. }) => {
            let why = format!("json to metadata filter: cannot specify {name} rule with empty value");
            Err(Rejection::new(&path.join(name), why))
        }
        write => Ok(write),
    };
    Ok(JsonRule {
        parents: parents.iter().map(key).collect(),
        key: key(last),
        present: rule.on_present.as_ref().map(write),
        missing: fixed(rule.on_missing.as_ref(), "on_missing")?,
        error: fixed(rule.on_error.as_ref(), "on_error")?,
    })
}

fn write(pair: &inner::KeyValuePair) -> JsonWrite {
    use pb::json_to_metadata::ValueType;
    JsonWrite {
        namespace: if pair.metadata_namespace.is_empty() { NAMESPACE } else { &pair.metadata_namespace }
            .into(),
        key: pair.key.as_str().into(),
        value: pair
            .value_type
            .as_ref()
            .map(|inner::key_value_pair::ValueType::Value(of)| metadata::value(of)),
        kind: match pair.r#type() {
            ValueType::String => RuleValueType::String,
            ValueType::Number => RuleValueType::Number,
            ValueType::ProtobufValue => RuleValueType::ProtobufValue,
        },
        preserve: pair.preserve_existing_metadata_value,
    }
}
