//! Metadata: as balancers and transport sockets compare it, pairs sorted by key with values as their JSON text, and as
//! matchers and formats read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::{MetadataStruct, MetadataValue};
use millrace_config::{LbMetadata, MetadataMatch, MetadataPairs};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::Metadata;
use millrace_proto::pb::envoy::r#type::metadata::v3::MetadataKey;
use millrace_proto::pb::envoy::r#type::metadata::v3::metadata_key::PathSegment;
use millrace_proto::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
use millrace_proto::pb::google::protobuf::{Struct, Value, value::Kind};

use crate::error::Rejection;

/// The part of metadata that balancers read.
const LB: &str = MetadataMatch::NAMESPACE;
/// The key whose value replaces the address where endpoints are hashed.
const HASH_KEY: &str = "hash_key";
/// The key that says whether the endpoint is a canary.
const CANARY: &str = "canary";
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
    let canary = own.fields.get(CANARY).is_some_and(|value| value.kind == Some(Kind::BoolValue(true)));
    Some(LbMetadata { lists: lists.collect(), hash_key, canary, pairs: pairs.into() })
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
pub(crate) fn text(of: &Value) -> Arc<str> {
    value(of).comparable().into()
}

/// All of a message's untyped metadata; `None` for none.
pub(crate) fn configured(from: Option<&Metadata>) -> Option<Arc<millrace_base::Metadata>> {
    let mut names: Vec<_> = from?.filter_metadata.iter().collect();
    names.sort_by_key(|(name, _)| *name);
    let mut out = millrace_base::Metadata::default();
    for (name, fields) in names {
        *out.namespace_mut(name) = tree(fields);
    }
    (!out.is_empty()).then(|| Arc::new(out))
}

/// The path of a `type.metadata.v3.MetadataKey`.
pub(crate) fn path_of(key: &MetadataKey, path: &Path) -> Result<Vec<Box<str>>, Rejection> {
    let path = path.join("path");
    let segment = |(i, segment): (usize, &PathSegment)| match &segment.segment {
        Some(Segment::Key(key)) => Ok(key.as_str().into()),
        Some(Segment::Index(_)) | None => Err(Rejection::new(&path.at(i).join("segment"), "is required")),
    };
    key.path.iter().enumerate().map(segment).collect()
}

/// A struct as the data plane has it.
pub(crate) fn tree(from: &Struct) -> MetadataStruct {
    from.fields.iter().map(|(key, of)| (key.as_str(), value(of))).collect()
}

/// A value as the data plane has it.
pub(crate) fn value(of: &Value) -> MetadataValue {
    match &of.kind {
        None | Some(Kind::NullValue(_)) => MetadataValue::Null,
        Some(Kind::BoolValue(bit)) => MetadataValue::Bool(*bit),
        Some(Kind::NumberValue(number)) => MetadataValue::Number(*number),
        Some(Kind::StringValue(text)) => MetadataValue::from(text.as_str()),
        Some(Kind::ListValue(list)) => MetadataValue::List(list.values.iter().map(value).collect()),
        Some(Kind::StructValue(fields)) => MetadataValue::Struct(tree(fields)),
    }
}
