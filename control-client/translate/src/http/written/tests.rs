//! What the filters are translated to.

use millrace_base::{MetadataValue, StateForm};
use millrace_config::{RuleSource, RuleValueType};
use millrace_observe::stats::Registry;
use millrace_proto::pb::envoy::extensions::filters::http as pb;
use millrace_proto::pb::google::protobuf::{Struct, Value, value::Kind};

use super::*;
use crate::Overrides;

#[test]
fn rules_have_their_defaults() {
    use pb::header_to_metadata::v3::config::{KeyValuePair, Rule};
    let cx = Context::new(Registry::new(), Overrides::default());
    let pair = KeyValuePair { key: "k".into(), r#type: 1, encode: 1, ..Default::default() };
    let rule =
        Rule { header: "X-A".into(), on_header_present: Some(pair), remove: true, ..Default::default() };
    let config = pb::header_to_metadata::v3::Config {
        request_rules: vec![rule.clone()],
        stat_prefix: "p".into(),
        ..Default::default()
    };
    let path = Path::from("typed_config");
    let HttpFilterKind::HeaderToMetadata(built) = header_to_metadata::filter(&config, &path, &cx).unwrap()
    else {
        panic!("a filter")
    };
    let RuleSource::Header { name, remove: true } = &built.request[0].source else { panic!("a field") };
    let write = built.request[0].present.as_ref().unwrap();
    assert_eq!((&**name, &*write.namespace), (&b"x-a"[..], "envoy.filters.http.header_to_metadata"));
    assert_eq!((write.kind, write.base64, built.scope.is_some()), (RuleValueType::Number, true, true));
    let empty = pb::header_to_metadata::v3::Config::default();
    assert!(header_to_metadata::of_route(&empty, &path, &cx).is_err());
    let neither = Rule { on_header_present: None, ..rule };
    let config = pb::header_to_metadata::v3::Config { request_rules: vec![neither], ..Default::default() };
    let refused = header_to_metadata::filter(&config, &path, &cx).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "typed_config.request_rules[0]: header to metadata filter: rule for header 'X-A' has neither \
         `on_header_present` nor `on_header_missing` set"
    );
}

#[test]
fn rules_for_bodies_have_their_defaults() {
    use pb::json_to_metadata::v3::JsonToMetadata;
    use pb::json_to_metadata::v3::json_to_metadata::{
        KeyValuePair, MatchRules, Rule, Selector, key_value_pair, selector,
    };
    let cx = Context::new(Registry::new(), Overrides::default());
    let key = |name: &str| Selector { selector: Some(selector::Selector::Key(name.into())) };
    let pair = KeyValuePair { key: "k".into(), r#type: 2, ..Default::default() };
    let rule =
        Rule { selectors: vec![key("a"), key("b")], on_present: Some(pair.clone()), ..Default::default() };
    let of = |rule: Rule| JsonToMetadata {
        request_rules: Some(MatchRules { rules: vec![rule], ..Default::default() }),
        ..Default::default()
    };
    let path = Path::from("typed_config");
    let build = |rule: Rule| json_to_metadata::filter(&of(rule), &path, &cx);
    let HttpFilterKind::JsonToMetadata(built) = build(rule.clone()).unwrap() else { panic!("a filter") };
    let rules = built.request.as_ref().unwrap();
    assert!(rules.content_types[0].matches(b"application/json") && built.response.is_none());
    let (one, write) = (&rules.rules[0], rules.rules[0].present.as_ref().unwrap());
    assert_eq!((one.parents.len(), &*one.key), (1, "b"));
    assert_eq!(
        (&*write.namespace, write.kind),
        ("envoy.filters.http.json_to_metadata", RuleValueType::Number)
    );
    let words = |rule: Rule| build(rule).unwrap_err().to_string();
    let none = Rule { on_present: None, ..rule.clone() };
    assert_eq!(
        words(none),
        "typed_config.request_rules.rules[0]: json to metadata filter: neither `on_present` nor `on_missing` set"
    );
    let empty = Rule { on_missing: Some(pair.clone()), ..rule.clone() };
    assert_eq!(
        words(empty),
        "typed_config.request_rules.rules[0].on_missing: json to metadata filter: cannot specify on_missing rule \
         with empty value"
    );
    assert!(json_to_metadata::of_route(&JsonToMetadata::default(), &path, &cx).is_err());
    assert!(json_to_metadata::filter(&JsonToMetadata::default(), &path, &cx).is_ok());
    let null = Value { kind: Some(Kind::NullValue(0)) };
    let value = Some(key_value_pair::ValueType::Value(null));
    let kept = Rule { on_error: Some(KeyValuePair { value_type: value, ..pair }), ..rule };
    assert!(build(kept).is_ok());
}

#[test]
fn the_older_form_of_set_metadata_comes_first() {
    let text = Value { kind: Some(Kind::StringValue("v".into())) };
    let fields = Struct { fields: [("k".to_owned(), text)].into() };
    let config = pb::set_metadata::v3::Config {
        metadata_namespace: "old".into(),
        value: Some(fields.clone()),
        metadata: vec![pb::set_metadata::v3::Metadata {
            metadata_namespace: "new".into(),
            value: Some(fields),
            ..Default::default()
        }],
    };
    let entries = set_metadata::entries(&config);
    let told: Vec<_> = entries.iter().map(|entry| (&*entry.namespace, entry.overwrite)).collect();
    assert_eq!(told, [("old", true), ("new", false)]);
    assert_eq!(entries[1].value.get("k"), Some(&MetadataValue::from("v")));
}

#[test]
fn objects_are_known_by_their_factory() {
    use millrace_proto::pb::envoy::config::core::v3::{
        SubstitutionFormatString, substitution_format_string::Format,
    };
    use millrace_proto::pb::envoy::extensions::filters::common::set_filter_state::v3::{
        FilterStateValue, filter_state_value,
    };
    let value = |key: &str, factory: &str| FilterStateValue {
        key: Some(filter_state_value::Key::ObjectKey(key.into())),
        factory_key: factory.into(),
        value: Some(filter_state_value::Value::FormatString(SubstitutionFormatString {
            format: Some(Format::TextFormat("%REQ(x)%".into())),
            omit_empty_values: true,
            ..Default::default()
        })),
        ..Default::default()
    };
    let path = Path::from("on_new_connection");
    let list = [
        value("envoy.tcp_proxy.cluster", ""),
        value("own", "envoy.string"),
        value("envoy.upstream.dynamic_port", ""),
    ];
    let built = set_filter_state::values(&list, &path).unwrap();
    let told: Vec<_> = built.iter().map(|value| (&*value.key, value.form)).collect();
    assert_eq!(
        told,
        [
            ("envoy.tcp_proxy.cluster", StateForm::Plain),
            ("own", StateForm::Text),
            ("envoy.upstream.dynamic_port", StateForm::Number)
        ]
    );
    assert!(built[0].value.omit_empty);
    let words = |value| set_filter_state::values(&[value], &path).unwrap_err().to_string();
    assert_eq!(words(value("own", "")), "on_new_connection[0]: 'own' does not have an object factory");
    assert!(words(value("envoy.network.network_namespace", "")).contains("not served by this build"));
}
