//! Finds the xDS resources in the golden files of control planes, whatever wraps them.

use std::path::Path;

use millrace_proto::schema::Message;
use millrace_proto::{json, message_from_json, yaml};
use millrace_translate::resource;
use serde_json::Value;

/// The types that are read, each with the word that file names have for it.
const TYPES: &[(&str, &str)] = &[
    (resource::CLUSTER, "cluster"),
    (resource::CLUSTER_LOAD_ASSIGNMENT, "endpoint"),
    (resource::LISTENER, "listener"),
    (resource::ROUTE_CONFIGURATION, "route"),
];

const PLACEHOLDERS: &[&str] = &["ADMIN_REDACTED", "IP_REDACTED"];

/// One resource of a file.
#[derive(Clone, Debug)]
pub struct Found {
    /// One of the type URLs of [`resource`].
    pub type_url: &'static str,
    /// `name` or `cluster_name`.
    pub name: String,
    /// Its wire bytes, or why its JSON is no such message.
    pub bytes: Result<Vec<u8>, String>,
}

/// Every resource of a file, in its order; nothing when the file is neither JSON nor YAML.
pub fn resources(path: &Path) -> Vec<Found> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // Kuma's goldens stand for what changes from run to run; Envoy's verdicts are on files with an address there.
    let text = PLACEHOLDERS.iter().fold(text, |text, placeholder| text.replace(placeholder, "127.0.0.1"));
    let tree = match text.trim_start().starts_with('{') {
        true => json::parse(&text).ok(),
        false => yaml::parse(&text).ok(),
    };
    let mut found = Vec::new();
    let Some(tree) = tree else {
        return found;
    };
    typed(&tree, &mut found);
    if found.is_empty() {
        let ends: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        bare(&tree, &ends.join("."), &mut found);
    }
    found
}

/// Objects with `@type`, and maps of objects under a type URL (Kuma).
fn typed(value: &Value, found: &mut Vec<Found>) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| typed(item, found)),
        Value::Object(fields) => {
            if let Some(type_url) = fields.get("@type").and_then(Value::as_str).and_then(known) {
                found.push(read(type_url, value));
                return;
            }
            for (key, inner) in fields {
                match (known(key), inner) {
                    (Some(type_url), Value::Object(named)) => {
                        found.extend(named.values().map(|value| read(type_url, value)));
                    }
                    _ => typed(inner, found),
                }
            }
        }
        _ => {}
    }
}

/// A list of resources, or one, whose type only the name of the file or of its folder tells.
fn bare(value: &Value, file: &str, found: &mut Vec<Found>) {
    let parts: Vec<&str> = file.split(['.', '_']).collect();
    let Some((type_url, _)) =
        TYPES.iter().find(|(_, word)| parts.iter().any(|part| part.trim_end_matches('s') == *word))
    else {
        return;
    };
    match value {
        Value::Array(list) => found.extend(list.iter().map(|value| read(type_url, value))),
        // A response may be empty.
        Value::Object(fields) if !fields.contains_key("versionInfo") => found.push(read(type_url, value)),
        _ => {}
    }
}

fn known(url: &str) -> Option<&'static str> {
    TYPES.iter().map(|(known, _)| *known).find(|known| *known == url)
}

fn read(type_url: &'static str, value: &Value) -> Found {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("@type");
    }
    let name = ["name", "clusterName", "cluster_name"].iter().find_map(|key| value.get(key)?.as_str());
    let name = name.unwrap_or_default().to_owned();
    let message = Message::by_type_url(type_url).expect("a known type");
    Found { type_url, name, bytes: message_from_json(message, &value).map_err(|error| error.to_string()) }
}
