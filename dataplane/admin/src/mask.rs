//! Field masks over proto3 JSON (`google.protobuf.FieldMask` as `/config_dump?mask=` uses it).

use serde_json::{Map, Value};

/// A parsed mask: dotted paths.
pub(crate) struct Mask<'a>(Vec<Vec<&'a str>>);

impl<'a> Mask<'a> {
    /// Splits `a.b,c`.
    pub(crate) fn parse(text: &'a str) -> Self {
        let paths = text.split(',').filter(|path| !path.is_empty());
        Self(paths.map(|path| path.split('.').collect()).collect())
    }

    /// True when every path starts with one of `fields` and none continues below a repeated one.
    pub(crate) fn is_valid_for<'f>(&self, fields: impl Fn(&str) -> Option<bool> + 'f) -> bool {
        self.0.iter().all(|path| {
            let repeated = path.first().and_then(|first| fields(first));
            repeated.is_some_and(|repeated| !repeated || path.len() == 1)
        })
    }

    /// Keeps the named fields of an object, and every `@type` on the way to them.
    pub(crate) fn trim(&self, value: Value) -> Value {
        let paths: Vec<&[&str]> = self.0.iter().map(Vec::as_slice).collect();
        trim(value, &paths)
    }
}

fn trim(value: Value, paths: &[&[&str]]) -> Value {
    // A path that ends here asks for all of it.
    if paths.iter().any(|path| path.is_empty()) {
        return value;
    }
    let Value::Object(fields) = value else { return value };
    let mut kept = Map::new();
    for (name, field) in fields {
        if name == "@type" {
            kept.insert(name, field);
            continue;
        }
        let below: Vec<&[&str]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(first, _)| **first == name)
            .map(|(_, rest)| rest)
            .collect();
        if !below.is_empty() {
            kept.insert(name, trim(field, &below));
        }
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trims_to_the_named_paths() {
        let dump =
            json!({"@type": "t", "bootstrap": {"node": {"id": "a", "cluster": "b"}, "admin": {"x": 1}}});
        let trimmed = Mask::parse("bootstrap.node.id").trim(dump.clone());
        assert_eq!(trimmed, json!({"@type": "t", "bootstrap": {"node": {"id": "a"}}}));
        let trimmed = Mask::parse("bootstrap.admin,bootstrap.node.cluster").trim(dump.clone());
        assert_eq!(
            trimmed,
            json!({"@type": "t", "bootstrap": {"node": {"cluster": "b"}, "admin": {"x": 1}}})
        );
        assert_eq!(Mask::parse("bootstrap,bootstrap.node").trim(dump.clone()), dump);
    }

    #[test]
    fn every_path_must_exist_and_stop_at_a_repeated_field() {
        let fields = |name: &str| match name {
            "static_clusters" => Some(true),
            "version_info" => Some(false),
            _ => None,
        };
        assert!(Mask::parse("static_clusters,version_info").is_valid_for(fields));
        assert!(!Mask::parse("static_clusters.cluster").is_valid_for(fields));
        assert!(!Mask::parse("static_clusters,bogus").is_valid_for(fields));
    }
}
