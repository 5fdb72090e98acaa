//! `Secret`: what comes over SDS.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use millrace_config::Secret;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::{DataSource, WatchedDirectory};
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::{certificate, data, ticket_keys, validation};
use crate::context::Context;
use crate::error::Rejection;
use crate::secrets::{LoadedSecret, SecretKind};

/// `kind` is what those who name it expect.
pub(crate) fn secret(
    from: &pb::Secret,
    kind: SecretKind,
    cx: &mut Context,
) -> Result<LoadedSecret, Rejection> {
    let secret = value(from, kind, cx)?;
    Ok(LoadedSecret { secret, directories: directories(from) })
}

fn value(from: &pb::Secret, kind: SecretKind, cx: &mut Context) -> Result<Secret, Rejection> {
    let root = Path::default();
    match (&from.r#type, kind) {
        (Some(Type::TlsCertificate(found)), SecretKind::Certificate) => {
            certificate(found, &root.join("tls_certificate"), cx).map(Secret::Certificate)
        }
        (Some(Type::ValidationContext(found)), SecretKind::Validation) => {
            let built = validation(found, &root.join("validation_context"), cx)?;
            Ok(Secret::Validation(Arc::new(built)))
        }
        (Some(Type::SessionTicketKeys(found)), SecretKind::TicketKeys) => {
            let built = ticket_keys(found, &root.join("session_ticket_keys"))?;
            Ok(Secret::TicketKeys(Arc::new(built)))
        }
        (_, kind) => {
            let wanted = match kind {
                SecretKind::Certificate => "a TLS certificate",
                SecretKind::Validation => "a validation context",
                SecretKind::TicketKeys => "session ticket keys",
            };
            Err(Rejection::new(&root.join("type"), format!("the secret is not {wanted}")))
        }
    }
}

/// Where to look for files that are replaced. As in Envoy, keys of session tickets are not looked for.
fn directories(from: &pb::Secret) -> Vec<PathBuf> {
    match &from.r#type {
        Some(Type::TlsCertificate(of)) => {
            let files = [of.certificate_chain.as_ref(), of.private_key.as_ref()];
            watched(of.watched_directory.as_ref(), files)
        }
        Some(Type::ValidationContext(of)) => {
            watched(of.watched_directory.as_ref(), [of.trusted_ca.as_ref(), of.crl.as_ref()])
        }
        _ => Vec::new(),
    }
}

/// Files are watched by their directories, because that is where a file, or a link on the way to it, is exchanged.
fn watched(directory: Option<&WatchedDirectory>, sources: [Option<&DataSource>; 2]) -> Vec<PathBuf> {
    let files = sources.map(data::file_name).into_iter().filter(|file| !file.is_empty());
    let parents = files.map(|file| match FilePath::new(file).parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    });
    let mut out: Vec<PathBuf> = parents.collect();
    if let Some(directory) = directory.filter(|_| !out.is_empty()) {
        out = vec![PathBuf::from(&directory.path)];
    }
    out.sort();
    out.dedup();
    out
}
