//! From text to parts.

use super::{FormatError, Part};

pub(super) fn parts(text: &str) -> Result<Vec<Part>, FormatError> {
    if text.contains('%') {
        return Err(FormatError { position: 0, message: "operators are not read yet".to_owned() });
    }
    Ok(vec![Part::Text(text.into())])
}
