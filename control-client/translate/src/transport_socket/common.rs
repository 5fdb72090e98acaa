//! `CommonTlsContext`, which both sides have.

use std::sync::Arc;

use millrace_config::{SecretSource, TlsCertificate, TlsCommon, ValidationContext, ValidationSource};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType as By;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::secret_ref::{Referred, referred};
use super::{certificate, params, validation};
use crate::context::Context;
use crate::error::Rejection;
use crate::secrets::SecretKind;

/// Whose context it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

pub(super) fn common(
    from: &pb::CommonTlsContext,
    side: Side,
    path: &Path,
    cx: &mut Context,
) -> Result<TlsCommon, Rejection> {
    millrace_tls::warm_up();
    Ok(TlsCommon {
        params: params::params(from.tls_params.as_ref(), &path.join("tls_params"), cx)?,
        certificates: certificates(from, side, path, cx)?,
        validation: validation_source(from, path, cx)?,
        alpn: alpn(&from.alpn_protocols, &path.join("alpn_protocols"))?,
    })
}

/// As in Envoy, inline certificates hide those of SDS.
fn certificates(
    from: &pb::CommonTlsContext,
    side: Side,
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<SecretSource<TlsCertificate>>, Rejection> {
    let mut out = Vec::new();
    let inline = path.join("tls_certificates");
    for (i, one) in from.tls_certificates.iter().enumerate() {
        let path = inline.at(i);
        let is_empty = one.certificate_chain.is_none()
            && one.private_key.is_none()
            && one.pkcs12.is_none()
            && one.private_key_provider.is_none();
        match (is_empty, side) {
            (true, Side::Client) => {}
            (true, Side::Server) => {
                let why = "Server TlsCertificates must have a certificate specified";
                return Err(Rejection::new(&path, why));
            }
            (false, _) => out.push(SecretSource::Inline(certificate(one, &path, cx)?)),
        }
    }
    if !from.tls_certificates.is_empty() {
        return Ok(out);
    }
    let sds = path.join("tls_certificate_sds_secret_configs");
    for (i, config) in from.tls_certificate_sds_secret_configs.iter().enumerate() {
        let path = sds.at(i);
        out.push(match referred(config, SecretKind::Certificate, &path, cx)? {
            Referred::Sds(id) => SecretSource::Sds(id),
            Referred::Static(found) => match *found {
                (at, Type::TlsCertificate(found)) => {
                    SecretSource::Inline(certificate(&found, &at.join("tls_certificate"), cx)?)
                }
                (at, _) => return Err(Rejection::new(&at, "not a TLS certificate")),
            },
        });
    }
    Ok(out)
}

fn validation_source(
    from: &pb::CommonTlsContext,
    path: &Path,
    cx: &mut Context,
) -> Result<ValidationSource, Rejection> {
    match &from.validation_context_type {
        None => Ok(ValidationSource::None),
        Some(By::ValidationContext(inline)) => {
            let path = path.join("validation_context");
            let built = validation(inline, &path, cx)?;
            validation::check(&built, &path)?;
            Ok(ValidationSource::Inline(Arc::new(built)))
        }
        Some(By::ValidationContextSdsSecretConfig(config)) => {
            let path = path.join("validation_context_sds_secret_config");
            with_secret(ValidationContext::default(), config, &path, &path, cx)
        }
        Some(By::CombinedValidationContext(both)) => {
            let path = path.join("combined_validation_context");
            let empty = pb::CertificateValidationContext::default();
            let default = both.default_validation_context.as_ref().unwrap_or(&empty);
            let default = validation(default, &path.join("default_validation_context"), cx)?;
            let config = both.validation_context_sds_secret_config.clone().unwrap_or_default();
            let secret = path.join("validation_context_sds_secret_config");
            with_secret(default, &config, &secret, &path, cx)
        }
        Some(_) => Err(Rejection::not_served(path, "certificate providers are not served by this build")),
    }
}

/// `whole` is where the refusal of both together points to.
fn with_secret(
    default: ValidationContext,
    config: &pb::SdsSecretConfig,
    path: &Path,
    whole: &Path,
    cx: &mut Context,
) -> Result<ValidationSource, Rejection> {
    match referred(config, SecretKind::Validation, path, cx)? {
        Referred::Sds(secret) => Ok(ValidationSource::Sds { default: Arc::new(default), secret }),
        Referred::Static(found) => {
            let (at, found) = *found;
            let Type::ValidationContext(found) = found else {
                return Err(Rejection::new(&at, "not a validation context"));
            };
            let found = validation(&found, &at.join("validation_context"), cx)?;
            let built = default.merged(&found);
            validation::check(&built, whole)?;
            Ok(ValidationSource::Inline(Arc::new(built)))
        }
    }
}

/// As in Envoy, entries are joined by commas before they are read.
fn alpn(entries: &[String], path: &Path) -> Result<Vec<Arc<[u8]>>, Rejection> {
    let all = entries.join(",");
    let names: Vec<Arc<[u8]>> =
        all.split(',').filter(|name| !name.is_empty()).map(|name| Arc::from(name.as_bytes())).collect();
    let encoded: usize = names.iter().map(|name| name.len() + 1).sum();
    match names.iter().any(|name| name.len() > 255) || encoded > usize::from(u16::MAX) {
        true => Err(Rejection::new(path, "Invalid ALPN protocol string")),
        false => Ok(names),
    }
}

/// A server name can be checked only where there is somebody to vouch for it.
pub(super) fn check_auto_validation(common: &TlsCommon, path: &Path) -> Result<(), Rejection> {
    let why = match &common.validation {
        ValidationSource::None => "'auto_sni_san_validation' was configured without a validation context",
        ValidationSource::Inline(inline) if inline.trusted_ca.is_none() && inline.spiffe.is_none() => {
            "'auto_sni_san_validation' was configured without configuring a trusted CA"
        }
        ValidationSource::Inline(_) | ValidationSource::Sds { .. } => return Ok(()),
    };
    Err(Rejection::new(path, why))
}
