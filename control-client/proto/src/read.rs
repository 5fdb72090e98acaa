//! A JSON tree read as a message and written as wire bytes, with the leniency of Envoy's parser: both spellings
//! of a name, a lone value where a list is expected, lists within lists, wrappers and durations as objects.

use std::fmt;

use serde_json::{Map, Value};

use crate::number::expected;
use crate::path::Path;
use crate::schema::{Field, Kind, Label, Message};
use crate::wire::{self, DEPTH_MAX, Raw};
use crate::{read_scalar, read_wkt};

/// A tree that does not fit its message type. Whoever wrote the file is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Field path, empty for the document itself.
    pub path: String,
    /// What is wrong, in one line.
    pub message: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for JsonError {}

/// Reads `value` as a message of type `message` and returns its wire bytes.
///
/// # Errors
/// The first value that does not fit, or a field that the type does not have.
pub fn message_from_json(message: Message, value: &Value) -> Result<Vec<u8>, JsonError> {
    let mut reader = Reader::new(false);
    let mut out = Vec::new();
    reader.message(message, value, &mut out)?;
    Ok(out)
}

pub(crate) struct Reader {
    path: Path,
    depth: usize,
    ignore_unknown: bool,
    /// Fields and enum names that no type has, with their paths.
    pub unknown: Vec<String>,
}

impl Reader {
    pub fn new(ignore_unknown: bool) -> Self {
        Self { path: Path::default(), depth: 0, ignore_unknown, unknown: Vec::new() }
    }

    pub fn error(&self, message: impl Into<String>) -> JsonError {
        JsonError { path: self.path.to_string(), message: message.into() }
    }

    /// Notes something that no type has, or fails when that is not allowed.
    fn unknown(&mut self, what: String) -> Result<(), JsonError> {
        if !self.ignore_unknown {
            return Err(self.error(what));
        }
        self.unknown.push(self.error(what).to_string());
        Ok(())
    }

    /// Runs `inner` one step deeper in the path.
    pub fn within<T>(
        &mut self,
        enter: impl FnOnce(&mut Path),
        inner: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        enter(&mut self.path);
        let result = inner(self)?;
        self.path.pop();
        Ok(result)
    }

    pub fn message(&mut self, message: Message, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        if self.depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        self.depth += 1;
        if !read_wkt::message(self, message, value, out)? {
            match value {
                Value::Object(map) => self.fields(message, map, out)?,
                other => return Err(self.error(expected("an object", other))),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The fields of an ordinary message; `@type` is the business of the `Any` around it.
    pub fn fields(
        &mut self,
        message: Message,
        map: &Map<String, Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        let mut chosen: Vec<(u32, Field)> = Vec::new();
        for (key, value) in map.iter().filter(|(key, _)| *key != "@type") {
            let Some(field) = message.field_by_name(key) else {
                self.unknown(format!("message {}: no such field: '{key}'", message.name()))?;
                continue;
            };
            if value.is_null() && !read_wkt::means_null(field.kind()) {
                continue;
            }
            self.within(
                |path| path.known(field),
                |reader| {
                    if let Some(oneof) = field.oneof() {
                        if chosen.iter().any(|(index, other)| *index == oneof && *other != field) {
                            let why = "has already been set (either directly or as part of a oneof)";
                            return Err(reader.error(format!("'{}' {why}", field.name())));
                        }
                        chosen.push((oneof, field));
                    }
                    reader.field(field, value, out)
                },
            )?;
        }
        Ok(())
    }

    fn field(&mut self, field: Field, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        match field.label() {
            Label::Map => self.map(field, value, out),
            Label::Repeated => self.list(field, value, out),
            Label::Implicit | Label::Explicit => {
                if let Some(raw) = self.single(field.kind(), value)?
                    && (field.label() == Label::Explicit || !is_default(&raw))
                {
                    wire::put(out, field.number(), &raw);
                }
                Ok(())
            }
        }
    }

    /// A list, or a lone value as the list of one; lists inside are flattened.
    fn list(&mut self, field: Field, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        // A list of `ListValue`s or `Value`s means what it says.
        let flat = !read_wkt::may_be_list(field.kind());
        let Value::Array(items) = value else {
            return self.element(field, value, out);
        };
        for (i, item) in items.iter().enumerate() {
            self.within(
                |path| path.index(i),
                |reader| match item {
                    Value::Array(_) if flat => reader.list(field, item, out),
                    item => reader.element(field, item, out),
                },
            )?;
        }
        Ok(())
    }

    fn element(&mut self, field: Field, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let raw = match (value, field.kind()) {
            (Value::Null, Kind::Message(_)) if !read_wkt::means_null(field.kind()) => {
                Some(Raw::Bytes(Vec::new().into()))
            }
            (Value::Null, kind) if !read_wkt::means_null(kind) => Some(read_scalar::zero(kind)),
            (value, kind) => self.single(kind, value)?,
        };
        if let Some(raw) = raw {
            wire::put(out, field.number(), &raw);
        }
        Ok(())
    }

    fn map(&mut self, field: Field, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let Value::Object(entries) = value else {
            return Err(self.error(expected("an object", value)));
        };
        let entry = field.message().map(|entry| (entry.field(1), entry.field(2)));
        let Some((Some(key_field), Some(value_field))) = entry else {
            return Err(self.error("not a map"));
        };
        for (key, value) in entries {
            let bytes = self.within(
                |path| path.key(key),
                |reader| {
                    let mut entry = Vec::new();
                    let text = Value::String(key.clone());
                    let raw = reader.single(key_field.kind(), &text)?.unwrap_or(Raw::Varint(0));
                    wire::put(&mut entry, 1, &raw);
                    if !value.is_null() || read_wkt::means_null(value_field.kind()) {
                        reader.element(value_field, value, &mut entry)?;
                    }
                    Ok(entry)
                },
            )?;
            wire::put(out, field.number(), &Raw::Bytes(bytes.into()));
        }
        Ok(())
    }

    /// One value; `None` when its enum name is unknown and that is allowed.
    fn single(&mut self, kind: Kind, value: &Value) -> Result<Option<Raw<'static>>, JsonError> {
        if let Kind::Message(message) = kind {
            let mut bytes = Vec::new();
            self.message(message, value, &mut bytes)?;
            return Ok(Some(Raw::Bytes(bytes.into())));
        }
        if let (Kind::Enum(names), Value::String(name)) = (kind, value)
            && names.number(name).is_none()
            && name.parse::<i32>().is_err()
        {
            self.unknown(format!("unknown enum value: '{name}'"))?;
            return Ok(None);
        }
        read_scalar::scalar(kind, value).map(Some).map_err(|message| self.error(message))
    }
}

fn is_default(raw: &Raw<'_>) -> bool {
    match raw {
        Raw::Varint(v) | Raw::Fixed64(v) => *v == 0,
        Raw::Fixed32(v) => *v == 0,
        Raw::Bytes(bytes) => bytes.is_empty(),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
