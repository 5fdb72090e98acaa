//! What an `Any` really holds: `TypedStruct` is a JSON object that stands for the message it names.

use std::borrow::Cow;

use crate::schema::Message;
use crate::wire::{Group, Raw};
use crate::{message_from_json, print};

/// A message with its type.
#[derive(Clone, Debug)]
pub struct Resolved<'a> {
    /// Its type.
    pub message: Message,
    /// Its wire bytes.
    pub bytes: Cow<'a, [u8]>,
}

const STRUCTS: &[&str] = &["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"];

/// The type name that a URL ends with.
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// The type that an `Any` stands for, looking through `TypedStruct`; it need not be known.
pub fn effective_type(type_url: &str, value: &[u8]) -> String {
    match typed_struct(type_url, value) {
        Some((inner, _)) => type_name(&inner).to_owned(),
        None => type_name(type_url).to_owned(),
    }
}

/// Looks through `TypedStruct`. `None` when the type is not known.
///
/// # Errors
/// A `TypedStruct` whose value does not fit the type it names, in one line.
pub fn resolve<'a>(type_url: &str, value: &'a [u8]) -> Result<Option<Resolved<'a>>, String> {
    let Some((url, body)) = typed_struct(type_url, value) else {
        let known = Message::by_type_url(type_url);
        return Ok(known.map(|message| Resolved { message, bytes: Cow::Borrowed(value) }));
    };
    let Some(message) = Message::by_type_url(&url) else {
        return Ok(None);
    };
    let json = print::message_to_json("google.protobuf.Struct", &body).map_err(|e| e.to_string())?;
    let bytes = message_from_json(message, &json).map_err(|e| e.to_string())?;
    Ok(Some(Resolved { message, bytes: Cow::Owned(bytes) }))
}

/// The inner type URL and the encoded `Struct` of a `TypedStruct`.
fn typed_struct(type_url: &str, value: &[u8]) -> Option<(String, Vec<u8>)> {
    let message = Message::by_name(type_name(type_url)).filter(|m| STRUCTS.contains(&m.name()))?;
    let group = Group::parse(message, value).ok()?;
    let part =
        |number| message.field(number).and_then(|field| group.get(field).first()).map_or(&[][..], Raw::bytes);
    Some((String::from_utf8_lossy(part(1)).into_owned(), part(2).to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_typed_struct_is_the_message_it_names() {
        for name in STRUCTS {
            let message = Message::by_name(name).unwrap();
            let json = json!({"type_url": "t/envoy.config.core.v3.Node", "value": {"id": "x", "user_agent_name": "y"}});
            let bytes = message_from_json(message, &json).unwrap();
            let url = format!("type.googleapis.com/{name}");
            assert_eq!(effective_type(&url, &bytes), "envoy.config.core.v3.Node");
            let node = resolve(&url, &bytes).unwrap().unwrap();
            assert_eq!(node.message.name(), "envoy.config.core.v3.Node");
            assert_eq!(&*node.bytes, b"\x0a\x01x\x32\x01y");
            let bad = message_from_json(
                message,
                &json!({"type_url": "t/envoy.config.core.v3.Node", "value": {"nope": 1}}),
            );
            assert!(resolve(&url, &bad.unwrap()).unwrap_err().contains("no such field: 'nope'"));
        }
    }
}
