//! Why a peer was not believed: the reason, the alert it is told and Envoy's words for the log.

use rustls::CertificateError as Fault;

/// Which counter of `ssl.*` a failed handshake is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// `ssl.connection_error`.
    ConnectionError,
    /// `ssl.fail_verify_no_cert`.
    VerifyNoCert,
    /// `ssl.fail_verify_error`.
    VerifyError,
    /// `ssl.fail_verify_san`.
    VerifySan,
    /// `ssl.fail_verify_cert_hash`.
    VerifyCertHash,
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ChainFault {
    Malformed,
    Expired,
    NotYetValid,
    UnknownIssuer,
    Revoked,
    /// No list says anything of the certificate's issuer.
    RevocationUnknown,
    CrlExpired,
    BadSignature,
    UnsupportedSignature,
    /// Extended or plain key usage forbids this use.
    Purpose,
    /// An issuer is not an authority.
    NotAnAuthority,
    /// A leaf is an authority.
    AuthorityAsLeaf,
    PathLength,
    NameConstraints,
    UnknownCriticalExtension,
    /// More certificates or bytes than the bounds, or deeper than `max_verify_depth`.
    TooLong,
    /// The budget of signatures, names or paths ran out.
    TooMuchWork,
}

/// What is wrong with a SPIFFE identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpiffeFault {
    LeafIsAuthority,
    LeafSigns,
    NoTrustDomain,
    UnknownTrustDomain,
}

/// Why a peer was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// It showed no certificate and had to.
    NoCertificate,
    /// The chain leads to no trusted root; `depth` 0 is the leaf.
    Chain {
        /// What is wrong.
        fault: ChainFault,
        /// Of which certificate, as far as that can be told.
        depth: u8,
    },
    /// No name of the certificate is one that is asked for.
    SubjectAltName,
    /// Neither fingerprint nor key is one that is asked for.
    Hash,
    /// The SPIFFE validator refused.
    Spiffe(SpiffeFault),
}

impl VerifyError {
    /// Which counter it is for.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NoCertificate => FailureKind::VerifyNoCert,
            Self::Chain { .. } | Self::Spiffe(_) => FailureKind::VerifyError,
            Self::SubjectAltName => FailureKind::VerifySan,
            Self::Hash => FailureKind::VerifyCertHash,
        }
    }

    /// Envoy's words for `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub fn details(&self) -> String {
        String::from("CERTIFICATE_VERIFY_FAILED")
    }

    /// The variant by which rustls chooses the alert.
    pub fn fault(&self) -> Fault {
        Fault::BadEncoding
    }
}
