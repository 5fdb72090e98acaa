//! Evaluation of substitution formats.

use millrace_config::format::{Part, Template};

use crate::access_log::StreamInfo;

/// What an operator without a value prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `-`, as logs do.
    Dash,
    /// Nothing, as headers and `omit_empty_values` do.
    Empty,
}

/// Appends the template's text for this stream to `out`.
pub fn render(template: &Template, _info: &StreamInfo<'_>, missing: Missing, out: &mut Vec<u8>) {
    for part in &template.parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Operator(_) => out.extend_from_slice(if missing == Missing::Dash { b"-" } else { b"" }),
        }
    }
}
