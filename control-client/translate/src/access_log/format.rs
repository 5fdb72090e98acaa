//! `core.v3.SubstitutionFormatString`.

use std::sync::Arc;

use millrace_config::format::{DEFAULT_ACCESS_LOG, Template};
use millrace_config::{AccessLogFormat, JsonValue};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{
    SubstitutionFormatString, substitution_format_string::Format,
};
use millrace_proto::pb::google::protobuf::{Struct, Value, value::Kind};

use crate::context::Context;
use crate::error::Rejection;
use crate::value;

/// A format in either language.
pub(crate) fn substitution(
    format: &SubstitutionFormatString,
    path: &Path,
    cx: &mut Context,
) -> Result<AccessLogFormat, Rejection> {
    let omit_empty = format.omit_empty_values;
    if omit_empty && !matches!(format.format, Some(Format::JsonFormat(_))) {
        cx.report(&path.join("omit_empty_values"), "a text format prints `-` for what is absent");
    }
    match &format.format {
        Some(Format::TextFormat(text_format)) => text(text_format, &path.join("text_format")),
        Some(Format::JsonFormat(tree)) => json(tree, omit_empty, &path.join("json_format")),
        Some(Format::TextFormatSource(source)) => {
            let path = path.join("text_format_source");
            let bytes = value::data_source(source, &path)?;
            let source = String::from_utf8(bytes)
                .map_err(|_| Rejection::new(&path, "the format is not UTF-8 text"))?;
            text(&source, &path)
        }
        None => Err(Rejection::new(&path.join("format"), "is required")),
    }
}

/// A text format alone; with `omit_empty_values` what is absent prints nothing.
pub(crate) fn text_alone(format: &SubstitutionFormatString, path: &Path) -> Result<Template, Rejection> {
    let (text, path) = match &format.format {
        Some(Format::TextFormat(text)) => (text.clone(), path.join("text_format")),
        Some(Format::TextFormatSource(source)) => {
            let path = path.join("text_format_source");
            let bytes = value::data_source(source, &path)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Rejection::new(&path, "the format is not UTF-8 text"))?;
            (text, path)
        }
        Some(Format::JsonFormat(_)) => {
            let why = "only text formats are served here by this build";
            return Err(Rejection::not_served(&path.join("json_format"), why));
        }
        None => return Err(Rejection::new(&path.join("format"), "is required")),
    };
    Ok(Template { omit_empty: format.omit_empty_values, ..value::template(&text, &path)? })
}

pub(super) fn default(path: &Path) -> Result<AccessLogFormat, Rejection> {
    text(DEFAULT_ACCESS_LOG, path)
}

pub(super) fn text(format: &str, path: &Path) -> Result<AccessLogFormat, Rejection> {
    Ok(AccessLogFormat::Text(value::template(format, path)?))
}

pub(super) fn json(tree: &Struct, omit_empty: bool, path: &Path) -> Result<AccessLogFormat, Rejection> {
    Ok(AccessLogFormat::Json { fields: object(tree, path)?, omit_empty })
}

fn object(tree: &Struct, path: &Path) -> Result<Vec<(Arc<str>, JsonValue)>, Rejection> {
    // In the order of their names, so that it is always the same one of several mistakes that is reported.
    let mut fields: Vec<_> = tree.fields.iter().collect();
    fields.sort_by_key(|(key, _)| *key);
    let judged = fields
        .into_iter()
        .map(|(key, value)| Ok((Arc::from(key.as_str()), json_value(value, &path.join(key.clone()))?)));
    judged.collect()
}

fn json_value(from: &Value, path: &Path) -> Result<JsonValue, Rejection> {
    Ok(match &from.kind {
        Some(Kind::StringValue(text)) => JsonValue::Template(value::template(text, path)?),
        Some(Kind::NumberValue(number)) => JsonValue::Number(*number),
        Some(Kind::BoolValue(value)) => JsonValue::Bool(*value),
        Some(Kind::StructValue(tree)) => JsonValue::Object(object(tree, path)?),
        Some(Kind::ListValue(list)) => {
            let items = list.values.iter().enumerate().map(|(i, item)| json_value(item, &path.at(i)));
            JsonValue::List(items.collect::<Result<_, _>>()?)
        }
        Some(Kind::NullValue(_)) | None => JsonValue::Null,
    })
}
