//! Headers of a call: `initial_metadata` and tokens that live in files.

use std::fmt;

use millrace_ads::source::{GrpcService, TokenFile};
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};

use crate::xds::read_file::{FileError, read_file};

/// Largest token file, bytes.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Why a call cannot have its headers.
#[derive(Debug)]
pub(super) enum MetadataError {
    /// A token cannot be read.
    File(FileError),
    /// No header may have this name or value; the value is not told, because it may be a secret.
    Invalid(String),
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Invalid(name) => write!(f, "no valid header: {name:?}"),
        }
    }
}

/// The headers of one call. Token files are read each time, so that a renewed token counts from the next call on.
pub(super) async fn metadata(service: &GrpcService) -> Result<MetadataMap, MetadataError> {
    let mut map = MetadataMap::new();
    for (name, value) in &service.initial_metadata {
        add(&mut map, name, value.as_bytes())?;
    }
    for file in &service.token_files {
        let mut value = file.prefix.clone().into_bytes();
        value.extend(token(file).await?);
        add(&mut map, &file.header, &value)?;
    }
    Ok(map)
}

async fn token(file: &TokenFile) -> Result<Vec<u8>, MetadataError> {
    let path = file.path.clone();
    let read = tokio::task::spawn_blocking(move || read_file(&path, TOKEN_BYTES_MAX)).await;
    let read = read.map_err(|_| MetadataError::Invalid(file.header.clone()))?;
    // Editors and `echo` end a file with a newline, which no header may hold.
    read.map(|bytes| bytes.trim_ascii_end().to_vec()).map_err(MetadataError::File)
}

fn add(map: &mut MetadataMap, name: &str, value: &[u8]) -> Result<(), MetadataError> {
    let invalid = || MetadataError::Invalid(name.to_owned());
    if name.ends_with("-bin") {
        let key = BinaryMetadataKey::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        map.append_bin(key, BinaryMetadataValue::from_bytes(value));
    } else {
        let key = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        map.append(key, AsciiMetadataValue::try_from(value).map_err(|_| invalid())?);
    }
    Ok(())
}
