//! Metadata as balancers and transport sockets compare it: pairs sorted by key, values as their JSON text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use millrace_config::{LbMetadata, MetadataMatch, MetadataPairs};
use millrace_proto::pb::envoy::config::core::v3::Metadata;
use millrace_proto::pb::google::protobuf::{Struct, Value, value::Kind};

/// The part of metadata that balancers read.
const LB: &str = "envoy.lb";
/// The key whose value replaces the address where endpoints are hashed.
const HASH_KEY: &str = "hash_key";
/// The key of alternatives for `FALLBACK_LIST`.
const FALLBACK_LIST: &str = "fallback_list";

/// Sorted by key.
pub(crate) type Pairs = Vec<(Arc<str>, Arc<str>)>;

/// All pairs of a struct.
pub(crate) fn pairs(from: &Struct) -> Pairs {
    let mut out: Pairs =
        from.fields.iter().map(|(key, value)| (Arc::from(key.as_str()), text(value))).collect();
    out.sort();
    out
}

/// What balancers read of an endpoint's metadata.
pub(crate) fn endpoint(from: Option<&Metadata>) -> Option<LbMetadata> {
    let own = from?.filter_metadata.get(LB)?;
    let pairs = pairs(own);
    let lists = pairs.iter().enumerate().filter_map(|(at, (key, _))| {
        match own.fields.get(&**key)?.kind.as_ref()? {
            Kind::ListValue(list) => Some((at, list.values.iter().map(text).collect())),
            _ => None,
        }
    });
    let hash_key = match own.fields.get(HASH_KEY).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(key)) => Some(Arc::from(key.as_str())),
        _ => None,
    };
    Some(LbMetadata { lists: lists.collect(), hash_key, pairs: pairs.into() })
}

/// `metadata_match` of one or more levels; later ones override.
pub(crate) fn matching(levels: &[Option<&Metadata>]) -> Option<Arc<MetadataMatch>> {
    let levels: Vec<&Struct> =
        levels.iter().filter_map(|level| level.as_ref()?.filter_metadata.get(LB)).collect();
    if levels.is_empty() {
        return None;
    }
    let mut merged: BTreeMap<&str, &Value> = BTreeMap::new();
    for (key, value) in levels.iter().flat_map(|level| &level.fields) {
        merged.insert(key, value);
    }
    let all = sorted(&merged);
    let fallbacks = match merged.remove(FALLBACK_LIST).map(|value| value.kind.as_ref()) {
        Some(Some(Kind::ListValue(list))) => {
            let alternative = |value: &Value| {
                let mut own = merged.clone();
                if let Some(Kind::StructValue(tree)) = &value.kind {
                    own.extend(tree.fields.iter().map(|(key, value)| (key.as_str(), value)));
                }
                sorted(&own)
            };
            let list: Vec<MetadataPairs> = list.values.iter().map(alternative).collect();
            // An empty list is like none.
            Some(if list.is_empty() { vec![sorted(&merged)] } else { list })
        }
        // Anything else counts as an empty list, too.
        Some(_) => Some(vec![sorted(&merged)]),
        None => None,
    };
    Some(Arc::new(MetadataMatch { pairs: all, fallbacks }))
}

fn sorted(merged: &BTreeMap<&str, &Value>) -> MetadataPairs {
    merged.iter().map(|(key, value)| (Arc::from(*key), text(value))).collect()
}

/// Equal texts for equal values.
pub(crate) fn text(value: &Value) -> Arc<str> {
    let mut out = String::new();
    json(value, &mut out);
    out.into()
}

fn json(value: &Value, out: &mut String) {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => out.push_str("null"),
        Some(Kind::BoolValue(bit)) => out.push_str(if *bit { "true" } else { "false" }),
        Some(Kind::NumberValue(number)) => {
            let _ = write!(out, "{number}");
        }
        Some(Kind::StringValue(text)) => {
            let _ = write!(out, "{text:?}");
        }
        Some(Kind::ListValue(list)) => {
            out.push('[');
            for (i, value) in list.values.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                json(value, out);
            }
            out.push(']');
        }
        Some(Kind::StructValue(tree)) => {
            let mut fields: Vec<_> = tree.fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, value)) in fields.into_iter().enumerate() {
                let _ = write!(out, "{}{key:?}:", if i == 0 { "" } else { "," });
                json(value, out);
            }
            out.push('}');
        }
    }
}
