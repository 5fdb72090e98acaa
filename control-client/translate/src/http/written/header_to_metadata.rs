//! `extensions.filters.http.header_to_metadata.v3.Config`.

use std::sync::Arc;

use millrace_config::{
    HeaderToMetadata, HttpFilterKind, MetadataRule, MetadataWrite, PerFilterConfig, RuleSource, RuleValueType,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::header_to_metadata::v3 as pb;

use crate::context::Context;
use crate::error::Rejection;
use crate::{headers, regex_util, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.header_to_metadata.v3.Config";

/// Where values are written that name no namespace.
const NAMESPACE: &str = "envoy.filters.http.header_to_metadata";

pub(super) fn filter(config: &pb::Config, path: &Path, cx: &Context) -> Result<HttpFilterKind, Rejection> {
    Ok(HttpFilterKind::HeaderToMetadata(Arc::new(rules(config, path, cx)?)))
}

pub(super) fn of_route(config: &pb::Config, path: &Path, cx: &Context) -> Result<PerFilterConfig, Rejection> {
    if config.request_rules.is_empty() && config.response_rules.is_empty() {
        let why = "header_to_metadata_filter: Per filter configs must at least specify either request or response rules";
        return Err(Rejection::new(path, why));
    }
    Ok(PerFilterConfig::HeaderToMetadata(Arc::new(rules(config, path, cx)?)))
}

fn rules(config: &pb::Config, path: &Path, cx: &Context) -> Result<HeaderToMetadata, Rejection> {
    let list = |rules: &[pb::config::Rule], name: &'static str| -> Result<Vec<_>, Rejection> {
        let path = path.join(name);
        rules.iter().enumerate().map(|(i, one)| rule(one, &path.at(i))).collect()
    };
    let (request, response) =
        (list(&config.request_rules, "request_rules")?, list(&config.response_rules, "response_rules")?);
    let prefix = &config.stat_prefix;
    let scope = (!prefix.is_empty()).then(|| cx.scope(ScopeKind::HeaderToMetadata, prefix));
    Ok(HeaderToMetadata { scope, request, response })
}

fn rule(rule: &pb::config::Rule, path: &Path) -> Result<MetadataRule, Rejection> {
    let (header, cookie) = (rule.header.as_str(), rule.cookie.as_str());
    let source = match (header, cookie) {
        ("", "") => return Err(Rejection::new(path, "One of Cookie or Header option needs to be specified")),
        ("", _) if rule.remove => {
            return Err(Rejection::new(path, "Cannot specify remove for cookie"));
        }
        ("", cookie) => RuleSource::Cookie(value::bytes(cookie)),
        (header, "") if rule.remove && headers::is_protected(header) => {
            return Err(Rejection::not_served(
                &path.join("remove"),
                "the parts of a head that are no fields cannot be removed",
            ));
        }
        (header, "") => RuleSource::Header { name: value::lower_bytes(header), remove: rule.remove },
        _ => return Err(Rejection::new(path, "Cannot specify both header and cookie")),
    };
    if rule.on_header_present.is_none() && rule.on_header_missing.is_none() {
        let what =
            if header.is_empty() { format!("cookie '{cookie}'") } else { format!("header '{header}'") };
        let why = format!(
            "header to metadata filter: rule for {what} has neither `on_header_present` nor `on_header_missing` set"
        );
        return Err(Rejection::new(path, why));
    }
    if rule.on_header_missing.as_ref().is_some_and(|missing| missing.value.is_empty()) {
        let why = "Cannot specify on_header_missing rule with an empty value";
        return Err(Rejection::new(&path.join("on_header_missing"), why));
    }
    let part = |part: Option<&pb::config::KeyValuePair>, name: &'static str| {
        part.map(|part| write(part, &path.join(name))).transpose()
    };
    Ok(MetadataRule {
        source,
        present: part(rule.on_header_present.as_ref(), "on_header_present")?,
        missing: part(rule.on_header_missing.as_ref(), "on_header_missing")?,
    })
}

fn write(pair: &pb::config::KeyValuePair, path: &Path) -> Result<MetadataWrite, Rejection> {
    use pb::config::{ValueEncode, ValueType};
    if !pair.value.is_empty() && pair.regex_value_rewrite.is_some() {
        return Err(Rejection::new(path, "Cannot specify both value and regex_value_rewrite"));
    }
    let rewrite = pair.regex_value_rewrite.as_ref();
    let rewrite_path = path.join("regex_value_rewrite");
    Ok(MetadataWrite {
        namespace: if pair.metadata_namespace.is_empty() { NAMESPACE } else { &pair.metadata_namespace }
            .into(),
        key: pair.key.as_str().into(),
        value: (!pair.value.is_empty()).then(|| pair.value.as_str().into()),
        rewrite: rewrite.map(|rewrite| regex_util::rewrite(rewrite, &rewrite_path)).transpose()?,
        kind: match pair.r#type() {
            ValueType::String => RuleValueType::String,
            ValueType::Number => RuleValueType::Number,
            ValueType::ProtobufValue => RuleValueType::ProtobufValue,
        },
        base64: pair.encode() == ValueEncode::Base64,
    })
}
