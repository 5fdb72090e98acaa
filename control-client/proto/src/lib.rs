//! The xDS types and their proto3-JSON mapping.
//!
//! [`pb`] holds the generated types. Everything that needs the *names* of fields (reading JSON and YAML,
//! printing `config_dump`, checking validation rules, walking a message generically) works on wire bytes
//! and on [`schema`], a table in the read-only data of the binary: nothing is loaded and nothing stays.
//! This crate knows no file, no socket and nothing of the data plane's model.

pub mod contrib;
pub mod istio;
pub mod json;
pub mod pb_any;
pub mod schema;
pub mod validate;
pub mod walk;
pub mod yaml;

mod decode;
mod number;
mod path;
mod print;
mod print_wkt;
mod read;
mod read_scalar;
mod read_wkt;
mod wire;

/// The generated messages (`pb::envoy::config::bootstrap::v3::Bootstrap` and so on).
pub use envoy_types::pb;
/// Encoding and decoding of the generated messages.
pub use prost::Message;

pub use decode::{
    BOOTSTRAP, Format, LoadOptions, Parsed, bootstrap_from_json, bootstrap_from_text, bootstrap_from_yaml,
    decode, merge,
};
pub use path::Path;
pub use print::{message_to_json, to_json};
pub use read::{JsonError, message_from_json};
pub use wire::{WireError, put_field, set_apart};
