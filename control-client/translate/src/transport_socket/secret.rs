//! `Secret`: what comes over SDS.

use std::sync::Arc;

use millrace_config::Secret;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::{certificate, ticket_keys, validation};
use crate::context::Context;
use crate::error::Rejection;
use crate::secrets::SecretKind;

/// `kind` is what those who name it expect.
pub(crate) fn secret(from: &pb::Secret, kind: SecretKind, cx: &mut Context) -> Result<Secret, Rejection> {
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
