//! `DownstreamTlsContext`.

use std::sync::Arc;

use millrace_config::{DownstreamTls, SecretSource, SessionTickets};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType as By;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::secret_ref::{Referred, referred};
use super::{common, ticket_keys};
use crate::context::Context;
use crate::error::Rejection;
use crate::secrets::SecretKind;
use crate::value;

pub(super) fn downstream(
    context: &pb::DownstreamTlsContext,
    path: &Path,
    cx: &mut Context,
) -> Result<DownstreamTls, Rejection> {
    let empty = pb::CommonTlsContext::default();
    let from = context.common_tls_context.as_ref().unwrap_or(&empty);
    let common_path = path.join("common_tls_context");
    match (from.tls_certificates.is_empty(), from.tls_certificate_sds_secret_configs.is_empty()) {
        (true, true) => {
            let why = "No TLS certificates found for server context";
            return Err(Rejection::new(&common_path, why));
        }
        (false, false) => {
            let why = "SDS and non-SDS TLS certificates may not be mixed in server contexts";
            return Err(Rejection::new(&common_path, why));
        }
        _ => {}
    }
    Ok(DownstreamTls {
        common: common::common(from, common::Side::Server, &common_path, cx)?,
        require_client_certificate: value::flag(context.require_client_certificate.as_ref(), false),
        tickets: tickets(context, path, cx)?,
        session_timeout: context.session_timeout.as_ref().map(value::duration),
        prefer_client_ciphers: context.prefer_client_ciphers,
        full_scan_certs_on_sni_mismatch: value::flag(context.full_scan_certs_on_sni_mismatch.as_ref(), false),
    })
}

fn tickets(
    context: &pb::DownstreamTlsContext,
    path: &Path,
    cx: &mut Context,
) -> Result<SessionTickets, Rejection> {
    match &context.session_ticket_keys_type {
        None | Some(By::DisableStatelessSessionResumption(false)) => Ok(SessionTickets::Own),
        Some(By::DisableStatelessSessionResumption(true)) => Ok(SessionTickets::Disabled),
        Some(By::SessionTicketKeys(keys)) => {
            let keys = ticket_keys(keys, &path.join("session_ticket_keys"))?;
            Ok(SessionTickets::Keys(SecretSource::Inline(Arc::new(keys))))
        }
        Some(By::SessionTicketKeysSdsSecretConfig(config)) => {
            let path = path.join("session_ticket_keys_sds_secret_config");
            let source = match referred(config, SecretKind::TicketKeys, &path, cx)? {
                Referred::Sds(id) => SecretSource::Sds(id),
                Referred::Static(found) => match *found {
                    (at, Type::SessionTicketKeys(keys)) => {
                        SecretSource::Inline(Arc::new(ticket_keys(&keys, &at.join("session_ticket_keys"))?))
                    }
                    (at, _) => return Err(Rejection::new(&at, "not session ticket keys")),
                },
            };
            Ok(SessionTickets::Keys(source))
        }
    }
}
