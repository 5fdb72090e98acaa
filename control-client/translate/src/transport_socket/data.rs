//! Data sources of certificates and keys. Files are read when the resource is loaded; those of a
//! secret also when they are replaced, as in Envoy.

use std::sync::Arc;

use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use millrace_tls::certificate::{CertificateError, MAX_PEM_BYTES};

use crate::error::Rejection;
use crate::value;

/// What `/certs` shows of a part that no file holds.
pub(super) const INLINE: &str = "<inline>";

/// The bytes of a source, overwritten when they are dropped: they may be a key.
pub(super) struct Data {
    pub bytes: Vec<u8>,
    /// A file's name or [`INLINE`].
    pub origin: Arc<str>,
}

impl Drop for Data {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&self.bytes);
    }
}

impl Data {
    /// The refusal for what is wrong with these bytes.
    pub fn refusal(&self, error: CertificateError, path: &Path) -> Rejection {
        let reason = error.message(&self.origin);
        match error {
            CertificateError::Pkcs12 | CertificateError::EncryptedKey => Rejection::not_served(path, reason),
            _ => Rejection::new(path, reason),
        }
    }
}

/// A file's name, or nothing, as Envoy names an incomplete part.
pub(super) fn file_name(source: Option<&DataSource>) -> &str {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::Filename(name)) => name,
        _ => "",
    }
}

/// `None` when the source is absent; it must not be empty.
pub(super) fn required(source: Option<&DataSource>, path: &Path) -> Result<Option<Data>, Rejection> {
    let Some(source) = source else { return Ok(None) };
    let file = file_name(Some(source));
    if !file.is_empty() && !std::path::Path::new(file).exists() {
        return Err(Rejection::new(&path.join("filename"), format!("Invalid path: {file}")));
    }
    let data = read(source, path)?;
    match (data.bytes.is_empty(), file) {
        (false, _) => Ok(Some(data)),
        (true, "") => Err(Rejection::new(path, "DataSource cannot be empty")),
        (true, file) => Err(Rejection::new(&path.join("filename"), format!("file {file} is empty"))),
    }
}

/// `None` when the source is absent, empty, or a file that does not exist.
pub(super) fn optional(source: Option<&DataSource>, path: &Path) -> Result<Option<Data>, Rejection> {
    let Some(source) = source else { return Ok(None) };
    let file = file_name(Some(source));
    if !file.is_empty() && !std::path::Path::new(file).exists() {
        return Ok(None);
    }
    Ok(Some(read(source, path)?).filter(|data| !data.bytes.is_empty()))
}

fn read(source: &DataSource, path: &Path) -> Result<Data, Rejection> {
    let origin = match file_name(Some(source)) {
        "" => INLINE,
        file => {
            // A size is asked first: nothing that names a device or a huge file may fill our memory.
            let found = std::fs::metadata(file);
            let is_fine = found.is_ok_and(|found| found.is_file() && found.len() <= MAX_PEM_BYTES as u64);
            if !is_fine {
                let why = CertificateError::TooLarge.message(file);
                return Err(Rejection::new(&path.join("filename"), why));
            }
            file
        }
    };
    Ok(Data { bytes: value::data_source(source, path)?, origin: origin.into() })
}
