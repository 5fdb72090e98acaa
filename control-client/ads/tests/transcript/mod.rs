//! Reads the transcripts: recorded streams of Envoy 1.40 and a scripted control plane, one JSON object a line.
#![allow(clippy::panic, reason = "test helpers")]

use std::collections::BTreeMap;

use millrace_ads::ResourceType;
use serde_json::Value;

/// What one message says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// `version_info` or `system_version_info`.
    pub version: String,
    pub nonce: String,
    /// `resource_names`, `resource_names_subscribe` or the resources of a response.
    pub names: Vec<String>,
    /// `resource_names_unsubscribe` or `removed_resources`.
    pub removed: Vec<String>,
    /// `initial_resource_versions`.
    pub initial: BTreeMap<String, String>,
    /// Code and message of `error_detail`.
    pub error: Option<(i32, String)>,
    pub node: bool,
}

/// One line.
pub enum Event {
    /// The control plane does this next.
    Step(String),
    Open,
    End(String),
    Request(String, ResourceType, Said),
    Response(String, ResourceType, Said),
}

/// The lines with their times in seconds.
pub fn transcript(file: &str) -> Vec<(f64, Event)> {
    let path = format!("{}/tests/transcripts/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the transcript");
    text.lines().map(|line| event(&serde_json::from_str(line).expect("JSON"))).collect()
}

fn event(line: &Value) -> (f64, Event) {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let stream = text("stream");
    let event = match &*text("kind") {
        "STEP" => Event::Step(text("step")),
        "stream_open" => Event::Open,
        "stream_end" => Event::End(stream),
        "request" => Event::Request(stream, resource_type(&text("type_url")), message(line)),
        "response" => Event::Response(stream, resource_type(&text("type")), message(line)),
        other => panic!("a line of kind {other}"),
    };
    (line["t"].as_f64().expect("a time"), event)
}

fn message(line: &Value) -> Said {
    let list = |keys: &[&str]| -> Vec<String> {
        let lists = keys.iter().filter_map(|key| line[*key].as_array());
        lists.flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let text = |keys: &[&str]| keys.iter().find_map(|key| line[*key].as_str()).unwrap_or_default().to_owned();
    let error = &line["error_detail"];
    let initial = line["initial_resource_versions"].as_object().into_iter().flatten();
    Said {
        version: text(&["version_info", "system_version_info"]),
        nonce: text(&["response_nonce", "nonce"]),
        names: list(&["resource_names", "resource_names_subscribe", "names", "added"]),
        removed: list(&["resource_names_unsubscribe", "removed"]),
        initial: initial.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect(),
        error: error["code"]
            .as_i64()
            .map(|code| (code as i32, error["message"].as_str().unwrap_or_default().to_owned())),
        node: line["node"] == true,
    }
}

fn resource_type(short: &str) -> ResourceType {
    match short {
        "CDS" => ResourceType::Cluster,
        "EDS" => ResourceType::Endpoint,
        "LDS" => ResourceType::Listener,
        "RDS" => ResourceType::Route,
        other => panic!("type {other}"),
    }
}
