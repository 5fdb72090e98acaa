//! The verifier of one validation context.

use std::sync::Arc;

use millrace_config::ValidationContext;

use super::{ChainFault, TrustCache, VerifyError};
use crate::certificate::CertificateError;

/// Which side of the handshake the certificate is of: decides about key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PeerRole {
    Client,
    Server,
}

/// What a verifier needs to know beside the context.
#[derive(Clone, Debug)]
pub struct VerifierOptions {
    /// Whose certificates it will see.
    pub role: PeerRole,
    /// `require_client_certificate`.
    pub required: bool,
    /// Signature algorithms of the provider.
    pub algorithms: rustls::crypto::WebPkiSupportedAlgorithms,
}

/// A peer that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Something vouched for it: a trusted root, or a fingerprint. False where everything is accepted.
    pub validated: bool,
}

/// Verifies peers for one `CertificateValidationContext`; immutable.
#[derive(Debug)]
pub struct Verifier {
    options: VerifierOptions,
}

impl Verifier {
    /// Reads the roots and lists of `context`. `None` stands for a transport socket without a context: everything
    /// is accepted.
    pub fn new(
        context: Option<&ValidationContext>,
        options: VerifierOptions,
        cache: &TrustCache,
    ) -> Result<Arc<Self>, CertificateError> {
        let _ = (context, cache);
        Ok(Arc::new(Self { options }))
    }

    /// Verifies `chain` (DER, leaf first) at `now_unix` seconds. `extra_dns_san` must be among the DNS names as well.
    pub fn verify(
        &self,
        chain: &[&[u8]],
        now_unix: i64,
        extra_dns_san: Option<&str>,
    ) -> Result<Verified, VerifyError> {
        let _ = (&self.options, chain, now_unix, extra_dns_san);
        Err(VerifyError::Chain { fault: ChainFault::UnknownIssuer, depth: 0 })
    }

    /// What it was made with.
    pub fn options(&self) -> &VerifierOptions {
        &self.options
    }

    /// Subjects of the trusted roots, which a server tells its clients.
    pub fn root_hints(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
}
