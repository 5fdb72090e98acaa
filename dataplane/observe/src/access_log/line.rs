//! One line of an access log.

use millrace_config::format::{Part, Template};
use millrace_config::{AccessLogFormat, JsonValue};
use std::sync::Arc;

use super::StreamInfo;
use crate::format::{Missing, Value, cut, evaluate, push_number, render};
use crate::json::push_string;

/// Appends one line. Text formats end as configured, JSON lines with a newline. `scratch` is any vector
/// that may be overwritten.
pub fn render_line(
    format: &AccessLogFormat,
    info: &StreamInfo<'_>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    match format {
        AccessLogFormat::Text(template) => render(template, info, Missing::Dash, out),
        AccessLogFormat::Json { fields, omit_empty } => {
            render_json(fields, *omit_empty, info, scratch, out);
            out.push(b'\n');
        }
    }
}

/// Appends one JSON object without a newline, keys in the order given. A template that is one operator
/// keeps its type; without a value it is `null`, or left out with `omit_empty`.
pub fn render_json(
    fields: &[(Arc<str>, JsonValue)],
    omit_empty: bool,
    info: &StreamInfo<'_>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    object(fields, &mut Line { omit_empty, info, scratch, out });
}

struct Line<'l, 'i> {
    omit_empty: bool,
    info: &'l StreamInfo<'i>,
    scratch: &'l mut Vec<u8>,
    out: &'l mut Vec<u8>,
}

fn object(fields: &[(Arc<str>, JsonValue)], line: &mut Line<'_, '_>) {
    line.out.push(b'{');
    let start = line.out.len();
    for (key, value) in fields {
        let before = line.out.len();
        if before > start {
            line.out.push(b',');
        }
        push_string(key.as_bytes(), line.out);
        line.out.push(b':');
        if !json_value(value, line) {
            line.out.truncate(before);
        }
    }
    line.out.push(b'}');
}

/// False when the value is left out.
fn json_value(value: &JsonValue, line: &mut Line<'_, '_>) -> bool {
    match value {
        JsonValue::Template(template) => return template_value(template, line),
        JsonValue::Number(n) => {
            use std::io::Write;
            let _ = write!(line.out, "{n}");
        }
        JsonValue::Bool(b) => line.out.extend_from_slice(if *b { b"true" } else { b"false" }),
        JsonValue::Null if line.omit_empty => return false,
        JsonValue::Null => line.out.extend_from_slice(b"null"),
        JsonValue::Object(fields) => {
            let start = line.out.len();
            object(fields, line);
            return !line.omit_empty || line.out.len() > start + "{}".len();
        }
        JsonValue::List(values) => list(values, line),
    }
    true
}

fn list(values: &[JsonValue], line: &mut Line<'_, '_>) {
    line.out.push(b'[');
    let start = line.out.len();
    for value in values {
        let before = line.out.len();
        if before > start {
            line.out.push(b',');
        }
        if !json_value(value, line) {
            line.out.truncate(before);
        }
    }
    line.out.push(b']');
}

fn template_value(template: &Template, line: &mut Line<'_, '_>) -> bool {
    line.scratch.clear();
    if let [Part::Operator(operator)] = template.parts.as_slice() {
        match evaluate(&operator.op, line.info, line.scratch) {
            Value::Number(n) => {
                push_number(n, line.out);
                return true;
            }
            Value::Missing if line.omit_empty => return false,
            Value::Missing => {
                line.out.extend_from_slice(b"null");
                return true;
            }
            Value::Json => {
                line.out.extend_from_slice(line.scratch);
                return true;
            }
            Value::Dash => line.scratch.push(b'-'),
            Value::Text => cut(0, operator.max_len, line.scratch),
        }
    } else {
        let missing = if line.omit_empty { Missing::Empty } else { Missing::Dash };
        render(template, line.info, missing, line.scratch);
    }
    push_string(line.scratch, line.out);
    true
}
