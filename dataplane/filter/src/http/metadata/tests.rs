//! What is written by rules, and what later readers see.

use std::sync::Arc;

use millrace_base::{MetadataValue, StateForm};
use millrace_config::{
    FilterConfigId, HeaderToMetadata, HttpConnectionManager, HttpFilter, HttpFilterKind, MetadataRule,
    MetadataWrite, RuleSource, RuleValueType, SetFilterState, SetMetadata, StateValue,
};
use millrace_http::RequestHead;
use millrace_observe::stats::{ScopeKind, header_to_metadata as metric};

use crate::http::StreamFilters;
use crate::http::stream_filters::{Start, Verdict};
use crate::http::test::{Room, Running, hcm, head, lines, option, response};

fn chain(kinds: Vec<HttpFilterKind>) -> HttpConnectionManager {
    let mut hcm = hcm();
    for (at, kind) in kinds.into_iter().enumerate() {
        let name = format!("f{at}").into();
        hcm.http_filters
            .insert(at, HttpFilter { name, id: FilterConfigId(at as u16), disabled: false, kind });
    }
    hcm
}

fn begin(room: &mut Room, hcm: &HttpConnectionManager, head: &mut RequestHead) -> Verdict {
    let mut slot: Option<Box<StreamFilters>> = None;
    room.begin(&mut slot, &Start::of(hcm, None), head)
}

fn write(key: &str) -> MetadataWrite {
    MetadataWrite {
        namespace: "ns".into(),
        key: key.into(),
        value: None,
        rewrite: None,
        kind: RuleValueType::String,
        base64: false,
    }
}

fn rule(name: &str, present: MetadataWrite) -> MetadataRule {
    let source = RuleSource::Header { name: name.as_bytes().into(), remove: false };
    MetadataRule { source, present: Some(present), missing: None }
}

fn value(room: &Room, key: &str) -> Option<MetadataValue> {
    let notes = room.state.read();
    notes.as_ref()?.metadata.find("ns", &[key]).cloned()
}

#[test]
fn fields_and_cookies_become_metadata() {
    let mut room = Room::new();
    let scope = room.registry.scope(ScopeKind::HeaderToMetadata, "p");
    let coded = |kind| MetadataWrite { base64: true, kind, ..write("coded") };
    let fixed = MetadataWrite { value: Some("none".into()), ..write("missing") };
    let rules = vec![
        MetadataRule {
            source: RuleSource::Header { name: b"x-a"[..].into(), remove: true },
            present: Some(write("a")),
            missing: None,
        },
        rule(":path", write("path")),
        rule("x-n", MetadataWrite { kind: RuleValueType::Number, ..write("n") }),
        rule("x-bad", MetadataWrite { kind: RuleValueType::Number, ..write("bad") }),
        rule("x-c", coded(RuleValueType::String)),
        rule("x-v", MetadataWrite { key: "v".into(), ..coded(RuleValueType::ProtobufValue) }),
        rule("x-no", coded(RuleValueType::String)),
        rule("x-long", write("long")),
        MetadataRule { source: RuleSource::Cookie(b"ck"[..].into()), ..rule("", write("cookie")) },
        MetadataRule { missing: Some(fixed), ..rule("x-none", write("none")) },
    ];
    let config = HeaderToMetadata { scope: Some(scope), request: rules, response: Vec::new() };
    let hcm = chain(vec![HttpFilterKind::HeaderToMetadata(Arc::new(config))]);
    let long = "x".repeat(8 * 1024);
    let mut head = head(
        "/p?q",
        &[
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-n", " 2.50 "),
            ("x-bad", "x"),
            ("x-c", "aGk"),
            ("x-v", "GgNhYmM="),
            ("x-no", "***"),
            ("x-long", &long),
            ("cookie", "z=1; ck=v"),
        ],
    );
    assert_eq!(begin(&mut room, &hcm, &mut head), Verdict::Continue);
    for (key, expected) in
        [("a", "1,2"), ("path", "/p?q"), ("coded", "hi"), ("v", "abc"), ("cookie", "v"), ("missing", "none")]
    {
        assert_eq!(value(&room, key), Some(expected.into()), "{key}");
    }
    assert_eq!(value(&room, "n"), Some(MetadataValue::Number(2.5)));
    assert_eq!((value(&room, "bad"), value(&room, "long")), (None, None));
    assert!(!lines(&head.headers).contains("x-a:"), "removed");
    let counters = [
        metric::REQUEST_RULES_PROCESSED,
        metric::REQUEST_METADATA_ADDED,
        metric::REQUEST_HEADER_NOT_FOUND,
        metric::BASE64_DECODE_FAILED,
        metric::HEADER_VALUE_TOO_LONG,
    ];
    assert_eq!(counters.map(|counter| room.registry.counter(scope, counter)), [10, 7, 1, 1, 1]);
}

#[test]
fn responses_have_rules_of_their_own() {
    let number = MetadataWrite { kind: RuleValueType::Number, ..write("status") };
    let rules = vec![rule(":status", number), rule("x-r", write("r"))];
    let config = HeaderToMetadata { scope: None, request: Vec::new(), response: rules };
    let hcm = chain(vec![HttpFilterKind::HeaderToMetadata(Arc::new(config))]);
    let mut running = Running::begin(Start::of(&hcm, None), &mut head("/", &[])).expect("takes part");
    running.response_head(&mut response(204, &[("x-r", "v")]), true);
    assert_eq!(value(&running.room, "status"), Some(MetadataValue::Number(204.0)));
    assert_eq!(value(&running.room, "r"), Some("v".into()));
    assert!(running.filters.are_over());
}

#[test]
fn configured_metadata_are_merged_if_they_may() {
    let entry = |namespace: &str, key: &str, value: &str, overwrite| SetMetadata {
        namespace: namespace.into(),
        value: [(key, value.into())].into_iter().collect(),
        overwrite,
    };
    let entries = [
        entry("ns", "a", "1", false),
        entry("ns", "a", "2", false),
        entry("ns", "b", "3", true),
        entry("ns", "b", "4", true),
    ];
    let hcm = chain(vec![HttpFilterKind::SetMetadata(entries.into())]);
    let mut room = Room::new();
    assert_eq!(begin(&mut room, &hcm, &mut head("/", &[])), Verdict::Continue);
    assert_eq!((value(&room, "a"), value(&room, "b")), (Some("1".into()), Some("4".into())));
}

#[test]
fn objects_are_made_of_templates() {
    let value = |key: &str, form, text: &str| StateValue {
        key: key.into(),
        form,
        value: option("x", text, millrace_config::AppendAction::default()).value,
        read_only: false,
        skip_if_empty: key == "skipped",
    };
    let config = SetFilterState {
        values: vec![
            value("text", StateForm::Text, "a"),
            value("bad", StateForm::Number, "x"),
            value("empty", StateForm::Text, ""),
            value("skipped", StateForm::Text, ""),
            value("taken", StateForm::Text, "mine"),
        ],
        clear_route_cache: true,
    };
    let hcm = chain(vec![HttpFilterKind::SetFilterState(Arc::new(config))]);
    let mut room = Room::new();
    let taken = millrace_base::StateObject::new(StateForm::Text, "theirs").expect("a text");
    room.connection_state.set("taken", taken, true);
    let (mut slot, start) = (None, Start::of(&hcm, None));
    let mut head = head("/", &[]);
    assert_eq!(room.begin(&mut slot, &start, &mut head), Verdict::Reroute);
    assert_eq!(room.begin(&mut slot, &start, &mut head), Verdict::Continue, "from behind the filter");
    let notes = room.state.read();
    let state = &notes.as_ref().expect("something").filter_state;
    let text = |key| state.get(key).map(|object| object.text().to_owned());
    assert_eq!((text("text").as_deref(), text("empty").as_deref()), (Some("a"), Some("")));
    assert_eq!((text("bad"), text("skipped"), text("taken")), (None, None, None));
}
