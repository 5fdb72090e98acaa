//! Files with an upper bound, and the discovery responses in them.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use millrace_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use millrace_proto::schema::Message as Schema;
use millrace_proto::{Format, Message as _, json, message_from_json, yaml};

const RESPONSE: &str = "envoy.service.discovery.v3.DiscoveryResponse";

/// Why a file is of no use.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The system's reason.
    Unreadable { path: PathBuf, reason: std::io::Error },
    /// Longer than its kind may be.
    TooLong { path: PathBuf, limit: u64 },
    /// The protobuf text format is not read.
    TextProto { path: PathBuf },
    /// Not a discovery response.
    Invalid { path: PathBuf, reason: String },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::TooLong { path, limit } => write!(f, "{}: longer than {limit} bytes", path.display()),
            Self::TextProto { path } => {
                write!(f, "{}: the protobuf text format is not supported", path.display())
            }
            Self::Invalid { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

/// Reads a whole file of at most `limit` bytes.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let unreadable = |reason| FileError::Unreadable { path: path.to_owned(), reason };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(FileError::TooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Reads a discovery response, in the syntax that the extension names, as Envoy does.
pub(super) fn read_response(path: &Path, limit: u64) -> Result<DiscoveryResponse, FileError> {
    let format = Format::of_path(&path.to_string_lossy());
    let format = format.ok_or_else(|| FileError::TextProto { path: path.to_owned() })?;
    let bytes = read_file(path, limit)?;
    let invalid = |reason: String| FileError::Invalid { path: path.to_owned(), reason };
    response_from(format, &bytes).map_err(invalid)
}

/// A discovery response in one of the three syntaxes.
pub(super) fn response_from(format: Format, bytes: &[u8]) -> Result<DiscoveryResponse, String> {
    let text = || std::str::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned());
    let tree = match format {
        Format::Binary => return DiscoveryResponse::decode(bytes).map_err(|error| error.to_string()),
        Format::Json => json::parse(text()?).map_err(|error| error.to_string())?,
        Format::Yaml => yaml::parse(text()?).map_err(|error| error.to_string())?,
    };
    let schema = Schema::by_name(RESPONSE).ok_or("the schema has no DiscoveryResponse")?;
    let wire = message_from_json(schema, &tree).map_err(|error| error.to_string())?;
    DiscoveryResponse::decode(wire.as_slice()).map_err(|error| error.to_string())
}
