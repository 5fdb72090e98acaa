//! From text to a typed message.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use prost::Message as _;
use serde_json::Value;

use crate::read::{JsonError, Reader};
use crate::schema::Message;
use crate::{json, yaml};

/// Full name of the bootstrap message.
pub const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// How strict reading is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Fields and enum names that no type has are noted in [`Parsed::unknown`] instead of refused
    /// (`--allow-unknown-static-fields`, `--ignore-unknown-dynamic-fields`).
    pub allow_unknown: bool,
}

/// The language of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// proto3-JSON.
    Json,
    /// YAML with the same mapping.
    Yaml,
    /// The protobuf wire format.
    Binary,
}

impl Format {
    /// By extension as Envoy chooses it: `.yaml` and `.yml`, `.pb`, and JSON for all other names. `None` for
    /// `.pb_text` and `.textproto`, which are not read.
    pub fn of_path(path: &str) -> Option<Self> {
        let lower = path.to_ascii_lowercase();
        match lower.rsplit_once('.').map(|(_, extension)| extension) {
            Some("yaml" | "yml") => Some(Self::Yaml),
            Some("pb") => Some(Self::Binary),
            Some("pb_text" | "textproto") => None,
            _ => Some(Self::Json),
        }
    }
}

/// A message that was read.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Its wire bytes.
    pub bytes: Vec<u8>,
    /// What was ignored because no type has it, each with its path.
    pub unknown: Vec<String>,
}

/// Reads a tree as a bootstrap.
///
/// # Errors
/// The first value that does not fit.
pub fn bootstrap_from_json(tree: &Value, options: &LoadOptions) -> Result<Parsed, JsonError> {
    let message = Message::by_name(BOOTSTRAP).ok_or_else(|| plain("the schema has no bootstrap"))?;
    let mut reader = Reader::new(options.allow_unknown);
    let mut bytes = Vec::new();
    reader.message(message, tree, &mut bytes)?;
    Ok(Parsed { bytes, unknown: reader.unknown })
}

/// Reads YAML text as a bootstrap.
///
/// # Errors
/// As [`bootstrap_from_json`]; a syntax error has no path but a line.
pub fn bootstrap_from_yaml(text: &str, options: &LoadOptions) -> Result<Parsed, JsonError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tree = yaml::parse(text).map_err(|e| plain(&e.to_string()))?;
    match tree {
        Value::Object(_) | Value::Array(_) => bootstrap_from_json(&tree, options),
        _ => Err(plain("unable to convert YAML as JSON: not a mapping")),
    }
}

/// Reads a file's bytes as a bootstrap.
///
/// # Errors
/// As [`bootstrap_from_json`].
pub fn bootstrap_from_text(format: Format, bytes: &[u8], options: &LoadOptions) -> Result<Parsed, JsonError> {
    let text = || std::str::from_utf8(bytes).map_err(|_| plain("the file is not UTF-8 text"));
    match format {
        Format::Json => {
            let tree = json::parse(text()?).map_err(|e| plain(&e.to_string()))?;
            bootstrap_from_json(&tree, options)
        }
        Format::Yaml => bootstrap_from_yaml(text()?, options),
        Format::Binary => {
            decode(bytes)?;
            Ok(Parsed { bytes: bytes.to_vec(), unknown: Vec::new() })
        }
    }
}

/// The typed bootstrap.
///
/// # Errors
/// Bytes that are not a bootstrap.
pub fn decode(bytes: &[u8]) -> Result<Bootstrap, JsonError> {
    Bootstrap::decode(bytes).map_err(|e| plain(&format!("not a bootstrap: {e}")))
}

/// `--config-yaml` over `-c`: protobuf merge, that is, set scalars replace, messages merge, lists grow.
#[must_use]
pub fn merge(mut base: Parsed, overlay: Parsed) -> Parsed {
    base.bytes.extend_from_slice(&overlay.bytes);
    base.unknown.extend(overlay.unknown);
    base
}

fn plain(message: &str) -> JsonError {
    JsonError { path: String::new(), message: message.to_owned() }
}
