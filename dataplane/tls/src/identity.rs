//! A certificate of ours with its key, as rustls signs with it and as clients find it by name.

use std::sync::Arc;

use millrace_base::LocalCertificate;
use millrace_config::TlsCertificate;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::certificate::{self, KeyKind};
use crate::error::ContextError;

/// One certificate of ours.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) local: Arc<LocalCertificate>,
    pub(crate) ecdsa: bool,
    /// DNS names, or the common name where there are none; lower case, as Envoy's default selector knows them.
    pub(crate) names: Vec<Box<str>>,
}

impl Identity {
    pub(crate) fn new(source: &TlsCertificate) -> Result<Self, ContextError> {
        let leaf = source.chain.first().ok_or(ContextError::NoCertificate)?;
        let summary = certificate::summary(leaf)?;
        let key = PrivateKeyDer::try_from(source.key.der().to_vec()).map_err(|_| ContextError::Key)?;
        let key = any_supported_type(&key).map_err(|_| ContextError::Key)?;
        let chain = source.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let mut certified = CertifiedKey::new(chain, key);
        certified.ocsp = source.ocsp_staple.as_ref().map(|staple| staple.to_vec());
        let mut names: Vec<Box<str>> =
            summary.dns_sans.iter().map(|name| name.to_ascii_lowercase().into()).collect();
        if names.is_empty() && !summary.common_name.is_empty() {
            names.push(summary.common_name.to_ascii_lowercase().into());
        }
        Ok(Self {
            certified: Arc::new(certified),
            local: Arc::new(certificate::local(leaf)?),
            ecdsa: summary.key == KeyKind::Ecdsa,
            names,
        })
    }
}
