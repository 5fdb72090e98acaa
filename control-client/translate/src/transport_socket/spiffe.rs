//! `CertificateValidationContext.custom_validator_config`: SPIFFE identities, each by its own trust domain.

use std::sync::Arc;

use millrace_config::SpiffeTrustDomain;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_tls::certificate::parse_bundle;

use super::data;
use crate::context::Context;
use crate::error::Rejection;
use crate::extension;

const SPIFFE: &str = "envoy.tls.cert_validator.spiffe";
const DEFAULT: &str = "envoy.tls.cert_validator.default";
const TYPE: &str = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// `None` for the default validator. Validators are found by their name, as in Envoy.
pub(super) fn trust_domains(
    custom: &TypedExtensionConfig,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<Arc<[SpiffeTrustDomain]>>, Rejection> {
    match custom.name.as_str() {
        DEFAULT => return Ok(None),
        SPIFFE => {}
        name => {
            let why = format!("Failed to get certificate validator factory for {name}");
            return Err(Rejection::new(&path.join("name"), why));
        }
    }
    let path = path.join("typed_config");
    let config: pb::SpiffeCertValidatorConfig = match &custom.typed_config {
        Some(any) if extension::type_of(any) == TYPE => extension::open(any, &path)?,
        any => return Err(extension::not_served("certificate validator", SPIFFE, any.as_ref(), &path)),
    };
    let path = path.join("trust_domains");
    let mut out: Vec<SpiffeTrustDomain> = Vec::with_capacity(config.trust_domains.len());
    for (i, domain) in config.trust_domains.iter().enumerate() {
        let path = path.at(i);
        let name = &domain.name;
        if out.iter().any(|known| *known.name == **name) {
            let why = format!("Multiple trust bundles are given for one trust domain for {name}, workload: ");
            return Err(Rejection::new(&path.join("name"), why));
        }
        let path = path.join("trust_bundle");
        let why = || format!("Failed to load trusted CA certificate for {name}");
        let bundle = data::optional(domain.trust_bundle.as_ref(), &path)?;
        let bundle = bundle.and_then(|bundle| parse_bundle(&bundle.bytes).ok());
        let bundle = bundle.ok_or_else(|| Rejection::new(&path, why()))?;
        let bundle = cx.credentials.bundle(bundle);
        out.push(SpiffeTrustDomain { name: name.as_str().into(), bundle: bundle.to_vec() });
    }
    Ok(Some(out.into()))
}
