//! Envoy's JSON layout: one space of indentation and a newline at the end.

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

/// Prints `value` as Envoy prints protobuf messages.
pub(crate) fn pretty(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b" "));
    // Writing a `Value` into a `Vec` has no failing step.
    if value.serialize(&mut serializer).is_err() {
        out.clear();
    }
    out.push(b'\n');
    out
}

/// Builds an object without the fields that proto3 JSON leaves out.
#[derive(Default)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    /// Always present.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Left out when empty, zero or false.
    pub(crate) fn with_set(self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let unset = match &value {
            Value::Null => true,
            Value::Bool(flag) => !flag,
            Value::Number(number) => number.as_u64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(_) => false,
        };
        if unset { self } else { self.with(key, value) }
    }

    pub(crate) fn build(self) -> Value {
        Value::Object(self.0)
    }
}
