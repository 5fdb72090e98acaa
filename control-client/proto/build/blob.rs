//! The layout of the schema blob. All numbers are little-endian `u32`; a text is `(offset, length)` into the
//! string section. `src/schema/blob.rs` is the reader; the two must change together.

use std::collections::BTreeMap;

use protox::prost_reflect::prost::Message;
use protox::prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::Types;

type BoxError = Box<dyn std::error::Error>;
const NONE: u32 = u32::MAX;

#[derive(Default)]
struct Writer {
    strings: Vec<u8>,
    interned: BTreeMap<Vec<u8>, u32>,
    messages: Vec<u32>,
    fields: Vec<u32>,
    oneofs: Vec<u32>,
    enums: Vec<u32>,
    values: Vec<u32>,
}

impl Writer {
    /// Offset and length of `bytes`, stored once.
    fn bytes(&mut self, bytes: &[u8]) -> [u32; 2] {
        let len = bytes.len() as u32;
        if let Some(at) = self.interned.get(bytes) {
            return [*at, len];
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(bytes);
        self.interned.insert(bytes.to_vec(), at);
        [at, len]
    }

    fn text(&mut self, text: &str) -> [u32; 2] {
        self.bytes(text.as_bytes())
    }
}

/// Header (section lengths in words, in this order), then messages, fields, oneofs, enums, values, strings.
pub fn encode(types: &Types) -> Result<Vec<u8>, BoxError> {
    let message_index: BTreeMap<&str, u32> = types.messages.keys().map(String::as_str).zip(0..).collect();
    let enum_index: BTreeMap<&str, u32> = types.enums.keys().map(String::as_str).zip(0..).collect();
    let mut writer = Writer::default();
    for message in types.messages.values() {
        add_message(&mut writer, message, &message_index, &enum_index)?;
    }
    for (name, item) in &types.enums {
        let name = writer.text(name);
        let first = (writer.values.len() / 3) as u32;
        for value in item.values() {
            let text = writer.text(value.name());
            writer.values.extend([text[0], text[1], value.number() as u32]);
        }
        writer.enums.extend([name[0], name[1], first, item.values().len() as u32]);
    }
    let sections = [&writer.messages, &writer.fields, &writer.oneofs, &writer.enums, &writer.values];
    let mut out = Vec::new();
    sections.iter().for_each(|section| out.extend((section.len() as u32).to_le_bytes()));
    for word in sections.iter().copied().flatten() {
        out.extend(word.to_le_bytes());
    }
    out.extend(&writer.strings);
    Ok(out)
}

/// Message record: name, first field, fields, first oneof, oneofs, flags (1 map entry, 2 validation off).
fn add_message(
    writer: &mut Writer,
    message: &MessageDescriptor,
    messages: &BTreeMap<&str, u32>,
    enums: &BTreeMap<&str, u32>,
) -> Result<(), BoxError> {
    let name = writer.text(message.full_name());
    let first_field = (writer.fields.len() / FIELD_WORDS) as u32;
    let first_oneof = (writer.oneofs.len() / 3) as u32;
    // Synthetic oneofs of proto3 `optional` are no choice between fields.
    let oneofs: Vec<_> = message.oneofs().filter(|o| !o.is_synthetic()).collect();
    for oneof in &oneofs {
        let text = writer.text(oneof.name());
        let required = flag(&oneof.options(), "validate.required");
        writer.oneofs.extend([text[0], text[1], u32::from(required)]);
    }
    for field in message.fields() {
        let oneof = field.containing_oneof().and_then(|o| oneofs.iter().position(|other| *other == o));
        add_field(writer, &field, oneof, messages, enums)?;
    }
    let options = message.options();
    let unchecked = flag(&options, "validate.disabled") || flag(&options, "validate.ignored");
    let flags = u32::from(message.is_map_entry()) | u32::from(unchecked) << 1;
    let fields = message.fields().len() as u32;
    writer.messages.extend([name[0], name[1], first_field, fields, first_oneof, oneofs.len() as u32, flags]);
    Ok(())
}

const FIELD_WORDS: usize = 10;

/// Field record: name, JSON name, number, shape (kind | label << 8 | packed << 16 | deprecated << 17), type, oneof, rules.
fn add_field(
    writer: &mut Writer,
    field: &FieldDescriptor,
    oneof: Option<usize>,
    messages: &BTreeMap<&str, u32>,
    enums: &BTreeMap<&str, u32>,
) -> Result<(), BoxError> {
    let name = writer.text(field.name());
    let json = writer.text(field.json_name());
    let kind = field.kind();
    let reference = match &kind {
        Kind::Message(m) => *messages.get(m.full_name()).ok_or_else(|| m.full_name().to_owned())?,
        Kind::Enum(e) => *enums.get(e.full_name()).ok_or_else(|| e.full_name().to_owned())?,
        _ => NONE,
    };
    let label = match () {
        () if field.is_map() => 3,
        () if field.is_list() => 2,
        () if field.supports_presence() => 1,
        () => 0,
    };
    let options = field.options();
    let deprecated = flag(&options, "deprecated");
    let shape =
        kind_number(&kind) | label << 8 | u32::from(field.is_packed()) << 16 | u32::from(deprecated) << 17;
    let rules = match extension(&options, "validate.rules") {
        Some(Value::Message(rules)) => writer.bytes(&rules.encode_to_vec()),
        _ => [0, 0],
    };
    let oneof = oneof.map_or(NONE, |index| index as u32);
    writer.fields.extend([name[0], name[1], json[0], json[1], field.number(), shape, reference, oneof]);
    writer.fields.extend(rules);
    Ok(())
}

/// The numbers of `google.protobuf.FieldDescriptorProto.Type`.
fn kind_number(kind: &Kind) -> u32 {
    match kind {
        Kind::Double => 1,
        Kind::Float => 2,
        Kind::Int64 => 3,
        Kind::Uint64 => 4,
        Kind::Int32 => 5,
        Kind::Fixed64 => 6,
        Kind::Fixed32 => 7,
        Kind::Bool => 8,
        Kind::String => 9,
        Kind::Message(_) => 11,
        Kind::Bytes => 12,
        Kind::Uint32 => 13,
        Kind::Enum(_) => 14,
        Kind::Sfixed32 => 15,
        Kind::Sfixed64 => 16,
        Kind::Sint32 => 17,
        Kind::Sint64 => 18,
    }
}

fn extension(options: &DynamicMessage, name: &str) -> Option<Value> {
    let found = options.extensions().find(|(extension, _)| extension.full_name() == name);
    found.map(|(_, value)| value.clone())
}

fn flag(options: &DynamicMessage, name: &str) -> bool {
    let value = match options.get_field_by_name(name) {
        Some(value) if options.has_field_by_name(name) => Some(value.into_owned()),
        _ => extension(options, name),
    };
    matches!(value, Some(Value::Bool(true)))
}
