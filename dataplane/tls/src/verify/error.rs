//! Why a peer was not believed: the reason, the alert it is told and Envoy's words for the log.

use std::fmt;
use std::sync::Arc;

use rustls::CertificateError as Fault;

use super::RuleBreach;

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
    /// The issuer may not sign revocation lists.
    CrlSigner,
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
    /// The path is good, but one of its certificates breaks a rule.
    Rule(RuleBreach),
}

/// What is wrong with a SPIFFE identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpiffeFault {
    LeafIsAuthority,
    /// Key usage lets the leaf sign certificates or lists, or there is none that forbids it.
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

    /// Envoy's words for `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` and its upstream twin (which Envoy prints with `_` for
    /// spaces).
    pub fn details(&self) -> String {
        let reason = match self {
            Self::NoCertificate => {
                return "TLS_error:|268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:\
                        peer did not provide required client certificate:TLS_error_end"
                    .to_owned();
            }
            Self::Chain { fault, depth } => format!(
                "X509_verify_cert: certificate verification error at depth {depth}: {}",
                fault.words()
            ),
            Self::SubjectAltName => "SAN matcher".to_owned(),
            Self::Hash => "cert hash and spki".to_owned(),
            Self::Spiffe(SpiffeFault::LeafIsAuthority | SpiffeFault::LeafSigns) => "cert precheck".to_owned(),
            Self::Spiffe(_) => "no trust bundle store".to_owned(),
        };
        format!(
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
             {reason}:TLS_error_end"
        )
    }

    /// The variant by which rustls chooses the alert that BoringSSL would send (Envoy's
    /// bad_certificate_hash_value is certificate_unknown here: rustls has no way to send it).
    pub fn fault(&self) -> Fault {
        let Self::Chain { fault, .. } = self else {
            return Fault::Other(rustls::OtherError(Arc::new(*self)));
        };
        match fault {
            ChainFault::Expired | ChainFault::NotYetValid | ChainFault::CrlExpired => Fault::Expired,
            ChainFault::Malformed | ChainFault::AuthorityAsLeaf | ChainFault::Rule(_) => Fault::BadEncoding,
            ChainFault::Revoked => Fault::Revoked,
            ChainFault::BadSignature | ChainFault::UnsupportedSignature => Fault::BadSignature,
            ChainFault::Purpose => Fault::InvalidPurpose,
            ChainFault::NameConstraints | ChainFault::UnknownCriticalExtension | ChainFault::CrlSigner => {
                Fault::Other(rustls::OtherError(Arc::new(*self)))
            }
            ChainFault::UnknownIssuer
            | ChainFault::RevocationUnknown
            | ChainFault::NotAnAuthority
            | ChainFault::PathLength
            | ChainFault::TooLong
            | ChainFault::TooMuchWork => Fault::UnknownIssuer,
        }
    }
}

impl ChainFault {
    /// BoringSSL's `X509_verify_cert_error_string`, where it knows such a fault.
    fn words(self) -> &'static str {
        match self {
            Self::Malformed => "certificate is malformed",
            Self::Expired => "certificate has expired",
            Self::NotYetValid => "certificate is not yet valid",
            Self::UnknownIssuer => "unable to get local issuer certificate",
            Self::Revoked => "certificate revocation check against provided CRLs failed: certificate revoked",
            Self::RevocationUnknown => {
                "certificate revocation check against provided CRLs failed: unable to get certificate CRL"
            }
            Self::CrlExpired => "certificate revocation check against provided CRLs failed: CRL has expired",
            Self::CrlSigner => {
                "certificate revocation check against provided CRLs failed: key usage does not include CRL signing"
            }
            Self::BadSignature | Self::UnsupportedSignature => "certificate signature failure",
            Self::Purpose => "unsupported certificate purpose",
            Self::NotAnAuthority => "invalid CA certificate",
            Self::AuthorityAsLeaf => "the leaf is a CA certificate",
            Self::PathLength => "path length constraint exceeded",
            Self::NameConstraints => "permitted subtree violation",
            Self::UnknownCriticalExtension => "unhandled critical extension",
            Self::TooLong => "certificate chain too long",
            Self::TooMuchWork => "the chain takes too much work",
            Self::Rule(breach) => breach.words(),
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details())
    }
}

impl std::error::Error for VerifyError {}
