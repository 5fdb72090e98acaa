//! What rules make of bodies, and how long messages are held.

use millrace_config::{FilterConfigId, HttpFilter, HttpFilterKind, StringMatcher};
use millrace_observe::stats::ScopeKind;

use super::*;
use crate::http::test::{Room, Running, hcm, head, response};

fn write(value: Option<MetadataValue>, kind: RuleValueType) -> JsonWrite {
    JsonWrite { namespace: "ns".into(), key: "k".into(), value, kind, preserve: false }
}

fn rule(path: &[&str], kind: RuleValueType) -> JsonRule {
    let fixed = |text: &str| Some(write(Some(text.into()), kind));
    let (key, parents) = path.split_last().unwrap();
    JsonRule {
        parents: parents.iter().map(|name| (*name).into()).collect(),
        key: (*key).into(),
        present: Some(write(None, kind)),
        missing: fixed("missing"),
        error: fixed("error"),
    }
}

fn found(path: &[&str], kind: RuleValueType, body: &str) -> Option<MetadataValue> {
    let rule = rule(path, kind);
    find(&rule, &json::parse(body.as_bytes()).unwrap()).map(|(_, value)| value)
}

#[test]
fn values_become_what_the_rule_says() {
    use MetadataValue::{Bool, Number};
    use RuleValueType::{Number as AsNumber, ProtobufValue as AsValue, String as AsString};
    let text = |text: &str| MetadataValue::from(text);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(8193));
    for (kind, body, expected) in [
        (AsValue, r#"{"a":"x"}"#, Some(text("x"))),
        (AsValue, r#"{"a":true}"#, Some(Bool(true))),
        (AsValue, r#"{"a":2.5}"#, Some(Number(2.5))),
        (AsValue, r#"{"a":""}"#, Some(text(""))),
        (AsValue, r#"{"a":null}"#, Some(text("missing"))),
        (AsValue, r#"{"a":[1]}"#, Some(text("missing"))),
        (AsValue, &long, Some(text("missing"))),
        (AsString, r#"{"a":""}"#, None),
        (AsString, r#"{"a":false}"#, Some(text("0"))),
        (AsString, r#"{"a":-7}"#, Some(text("-7"))),
        (AsString, r#"{"a":1e3}"#, Some(text("1000.000000"))),
        (AsString, &long, Some(text("missing"))),
        (AsNumber, r#"{"a":" 1e5 "}"#, Some(Number(1e5))),
        (AsNumber, r#"{"a":"x"}"#, Some(text("missing"))),
        (AsNumber, r#"{"a":true}"#, Some(Number(1.0))),
        (AsNumber, "{}", Some(text("missing"))),
        (AsNumber, "[]", Some(text("missing"))),
    ] {
        assert_eq!(found(&["a"], kind, body), expected, "{kind:?} {body:.40}");
    }
    for (body, expected) in [
        (r#"{"o":{"p":{"a":1}}}"#, Number(1.0)),
        (r#"{"o":{"p":[]}}"#, text("missing")),
        (r#"{"o":7}"#, text("missing")),
        ("[]", text("missing")),
    ] {
        assert_eq!(found(&["o", "p", "a"], AsValue, body), Some(expected), "{body}");
    }
}

/// A chain with rules for responses alone, in a room that counts them.
fn chain(room: &Room) -> millrace_config::HttpConnectionManager {
    let rules = JsonRules {
        scope: room.registry.scope(ScopeKind::JsonToMetadata, "resp"),
        rules: vec![rule(&["a"], RuleValueType::ProtobufValue)],
        content_types: vec![StringMatcher::Exact { value: b"x/json"[..].into(), ignore_case: false }],
        empty_content_type: false,
    };
    let kind = HttpFilterKind::JsonToMetadata(JsonToMetadata { request: None, response: Some(rules) }.into());
    let mut hcm = hcm();
    hcm.http_filters.insert(0, HttpFilter { name: "f".into(), id: FilterConfigId(0), disabled: false, kind });
    hcm
}

fn written(running: &Running<'_>) -> Option<MetadataValue> {
    running.room.state.read().as_ref()?.metadata.find("ns", &["k"]).cloned()
}

#[test]
fn responses_are_held_until_they_were_read() {
    let room = Room::new();
    let hcm = chain(&room);
    let start = Start { buffer_limit: 10, ..Start::of(&hcm, None) };
    let begin = |room| Running::begin_in(room, start, &mut head("/", &[])).unwrap();
    let (mut running, mut out) = (begin(room), Vec::new());
    let mut answer = response(200, &[("content-type", "x/json")]);
    running.response_head(&mut answer, false);
    running.response_data(b"{\"a\"", false, &mut answer, &mut out).unwrap();
    assert!(running.holds_response() && out.is_empty());
    running.response_data(b":1}", true, &mut answer, &mut out).unwrap();
    assert!(!running.holds_response() && out == b"{\"a\":1}");
    assert_eq!(written(&running), Some(MetadataValue::Number(1.0)));
    let mut running = begin(Room::new());
    running.response_head(&mut answer, false);
    let refused = running.response_data(&[b' '; 11], false, &mut answer, &mut out).unwrap_err();
    assert_eq!((refused.status, &*refused.details), (500, "response_payload_too_large"));
    let mut running = begin(Room::new());
    running.response_head(&mut response(200, &[("content-type", "x/other")]), false);
    assert!(!running.holds_response());
    assert_eq!(written(&running), Some("error".into()));
    let mut running = begin(Room::new());
    running.response_head(&mut answer, true);
    assert_eq!(written(&running), Some("missing".into()));
}
