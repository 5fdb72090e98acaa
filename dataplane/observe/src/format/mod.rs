//! Evaluation of substitution formats: for access logs and for the header values that routes add.
//!
//! Every operator yields one value; text, headers and JSON differ only in how they print it. Nothing
//! here allocates beyond the growth of the output vector.

mod addresses;
mod calendar;
mod headers;
mod peer;
mod value;

use millrace_config::format::{Part, Template};

pub use calendar::push_iso8601;
pub(crate) use headers::request as request_field;
pub(crate) use value::{Value, evaluate, push_number};

use crate::access_log::StreamInfo;

/// What an operator without a value prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `-`, as logs do.
    Dash,
    /// Nothing, as headers and `omit_empty_values` do.
    Empty,
}

/// Longest value that one operator prints, bytes; longer ones are cut.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Appends the template's text for this stream to `out`. Bytes are appended as they came: whoever writes
/// them into a head checks them there (`HeaderMap` blanks what may not stand in a value).
pub fn render(template: &Template, info: &StreamInfo<'_>, missing: Missing, out: &mut Vec<u8>) {
    let missing = if template.omit_empty { Missing::Empty } else { missing };
    for part in &template.parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Operator(operator) => {
                let start = out.len();
                match evaluate(&operator.op, info, out) {
                    Value::Text => {}
                    other => other.finish(missing, start, out),
                }
                if operator.max_len.is_some() || out.len() - start > VALUE_BYTES_MAX {
                    cut(start, operator.max_len, out);
                }
            }
        }
    }
}

/// Applies `:Z` and the bound on values.
pub(crate) fn cut(start: usize, max_len: Option<usize>, out: &mut Vec<u8>) {
    let max = max_len.unwrap_or(VALUE_BYTES_MAX).min(VALUE_BYTES_MAX);
    out.truncate(start.saturating_add(max).max(start));
}

#[cfg(test)]
mod tests;
