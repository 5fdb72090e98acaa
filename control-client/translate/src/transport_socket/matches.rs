//! `Cluster.transport_socket_matches`, and the metadata of endpoints that chooses among them.

use std::fmt::Write;
use std::sync::Arc;

use millrace_config::TransportMatch;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use millrace_proto::pb::envoy::config::core::v3::Metadata;
use millrace_proto::pb::google::protobuf::{Struct, Value, value::Kind};

use crate::context::Context;
use crate::error::Rejection;

const FILTER: &str = "envoy.transport_socket_match";

/// Sorted by key, values as their JSON text.
type Pairs = Vec<(Arc<str>, Arc<str>)>;

pub(crate) fn transport_matches(
    from: &[TransportSocketMatch],
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<TransportMatch>, Rejection> {
    let mut out = Vec::with_capacity(from.len());
    for (i, one) in from.iter().enumerate() {
        let path = path.at(i).join("transport_socket");
        // One that says nothing is refused like an extension without a name, as in Envoy.
        let socket = one.transport_socket.clone().unwrap_or_default();
        out.push(TransportMatch {
            name: one.name.as_str().into(),
            criteria: one.r#match.as_ref().map(pairs).unwrap_or_default(),
            transport: super::upstream(Some(&socket), &path, cx)?,
        });
    }
    Ok(out)
}

/// What of an endpoint's or a locality's metadata chooses a transport socket.
pub(crate) fn metadata(from: Option<&Metadata>) -> Option<Pairs> {
    Some(pairs(from?.filter_metadata.get(FILTER)?))
}

fn pairs(from: &Struct) -> Pairs {
    let one = |(key, value): (&String, &Value)| {
        let mut text = String::new();
        json(value, &mut text);
        (Arc::from(key.as_str()), Arc::from(text))
    };
    let mut out: Pairs = from.fields.iter().map(one).collect();
    out.sort();
    out
}

/// Equal texts for equal values.
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
