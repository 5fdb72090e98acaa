//! `TlsCertificate` and `TlsSessionTicketKeys`: a pair that does not fit is refused before anything serves it.

use std::sync::Arc;

use millrace_config::{TicketKeys, TlsCertificate};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_tls::certificate::{CertificateError, check, parse_chain, parse_key};

use super::data;
use crate::context::Context;
use crate::error::Rejection;

/// Bytes of one session ticket key.
const TICKET_KEY_BYTES: usize = 80;

/// A chain and the key of its leaf.
pub(crate) fn certificate(
    from: &pb::TlsCertificate,
    path: &Path,
    cx: &mut Context,
) -> Result<Arc<TlsCertificate>, Rejection> {
    let chain_path = path.join("certificate_chain");
    let key_path = path.join("private_key");
    let Some(chain) = data::optional(from.certificate_chain.as_ref(), &chain_path)? else {
        let file = data::file_name(from.certificate_chain.as_ref());
        let why = format!("Failed to load incomplete certificate from {file}: certificate chain not set");
        return Err(Rejection::new(&chain_path, why));
    };
    let Some(key) = data::optional(from.private_key.as_ref(), &key_path)? else {
        let file = data::file_name(from.private_key.as_ref());
        let why = format!("Failed to load incomplete private key from path: {file}");
        return Err(Rejection::new(&key_path, why));
    };
    let password = data::optional(from.password.as_ref(), &path.join("password"))?;
    let password = password.as_ref().map(|password| &password.bytes[..]);
    let built = TlsCertificate {
        chain: parse_chain(&chain.bytes).map_err(|error| chain.refusal(error, &chain_path))?,
        key: parse_key(&key.bytes, password).map_err(|error| key.refusal(error, &key_path))?,
        ocsp_staple: ocsp_staple(from.ocsp_staple.as_ref(), &path.join("ocsp_staple"))?,
        origin: Arc::clone(&chain.origin),
    };
    let summary = check(&built).map_err(|error| match error {
        CertificateError::Key | CertificateError::EncryptedKey | CertificateError::KeyMismatch => {
            key.refusal(error, &key_path)
        }
        _ => chain.refusal(error, &chain_path),
    })?;
    if summary.must_staple && built.ocsp_staple.is_none() {
        let why = "OCSP response is required for must-staple certificate";
        return Err(Rejection::new(&path.join("ocsp_staple"), why));
    }
    Ok(cx.credentials.certificate(built))
}

fn ocsp_staple(source: Option<&DataSource>, path: &Path) -> Result<Option<Arc<[u8]>>, Rejection> {
    if let Some(Specifier::InlineString(_)) = source.and_then(|source| source.specifier.as_ref()) {
        return Err(Rejection::new(path, "OCSP staple cannot be provided via inline_string"));
    }
    let staple = data::optional(source, path)?;
    Ok(staple.map(|staple| Arc::from(&staple.bytes[..])))
}

/// Keys of session tickets.
pub(crate) fn ticket_keys(from: &pb::TlsSessionTicketKeys, path: &Path) -> Result<TicketKeys, Rejection> {
    let path = path.join("keys");
    let mut keys = TicketKeys(Vec::with_capacity(from.keys.len()));
    for (i, source) in from.keys.iter().enumerate() {
        let path = path.at(i);
        let key = data::required(Some(source), &path)?;
        let bytes = key.as_ref().map_or(&[][..], |key| &key.bytes[..]);
        let key = <[u8; TICKET_KEY_BYTES]>::try_from(bytes).map_err(|_| {
            let why = format!(
                "Incorrect TLS session ticket key length. Length {}, expected length {TICKET_KEY_BYTES}.",
                bytes.len()
            );
            Rejection::new(&path, why)
        })?;
        keys.0.push(key);
    }
    Ok(keys)
}
