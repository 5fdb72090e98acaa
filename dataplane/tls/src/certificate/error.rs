//! What can be wrong with a certificate, a key, a bundle or a revocation list of the configuration.

use std::fmt;

/// Why a part of a secret cannot be used. [`CertificateError::message`] has Envoy's words where Envoy has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// `certificate_chain` is absent or empty.
    MissingChain,
    /// `private_key` is absent or empty.
    MissingKey,
    /// `certificate_chain` is not PEM, or one of its certificates cannot be read.
    Chain,
    /// `private_key` is not a key that can be read.
    Key,
    /// The key is encrypted: this build has no library for that, with or without a password.
    EncryptedKey,
    /// The key is encrypted and there is no password.
    PasswordMissing,
    /// Key usage of an ECDSA leaf forbids signatures.
    LeafCannotSign,
    /// PKCS#12 bundles are not read by this build.
    Pkcs12,
    /// The key is not the one of the leaf.
    KeyMismatch,
    /// The leaf's RSA key has fewer than 2,048 bits.
    RsaTooSmall,
    /// The leaf's key is on another curve than P-256, P-384 or P-521.
    UnsupportedCurve,
    /// The leaf's key is none of RSA, ECDSA and Ed25519.
    UnsupportedKey,
    /// `trusted_ca` is empty, not PEM, or one of its certificates cannot be read.
    TrustedCa,
    /// `crl` is not PEM, or one of its lists cannot be read.
    Crl,
    /// The certificate is not DER of X.509.
    Malformed,
    /// More bytes or more certificates than [`super::MAX_PEM_BYTES`] and its neighbours allow.
    TooLarge,
    /// Names are to be matched, and there is no authority to vouch for them.
    MatchersWithoutAuthority,
    /// Revocation lists are given, and there is no authority that they could be of.
    CrlWithoutAuthority,
    /// `allow_expired_certificate` is set, and there is no authority.
    ExpiryWithoutAuthority,
    /// A trust domain of the SPIFFE validator has no authority in its bundle.
    EmptyTrustBundle,
}

impl CertificateError {
    /// The sentence for the refusal of a resource; `origin` is a file's name or `<inline>`.
    pub fn message(&self, origin: &str) -> String {
        match self {
            Self::Chain => format!("Failed to load certificate chain from {origin}"),
            Self::MissingChain => {
                "Failed to load incomplete certificate from : certificate chain not set".to_owned()
            }
            Self::MissingKey => "Failed to load incomplete private key from path: ".to_owned(),
            Self::Key => format!("Failed to load private key from {origin}"),
            Self::EncryptedKey => {
                format!("Failed to load private key from {origin}: encrypted keys are not read by this build")
            }
            Self::PasswordMissing => {
                format!("Failed to load private key from {origin}, Cause: BAD_PASSWORD_READ")
            }
            Self::LeafCannotSign => format!(
                "Failed to load certificate chain from {origin}, its key usage has no digital signature"
            ),
            Self::Pkcs12 => format!("Failed to load pkcs12 from {origin}: PKCS#12 is not read by this build"),
            Self::KeyMismatch => {
                format!("Failed to load private key from {origin}, Cause: KEY_VALUES_MISMATCH")
            }
            Self::RsaTooSmall => format!(
                "Failed to load certificate chain from {origin}, only RSA certificates with 2048-bit or larger \
                 keys are supported"
            ),
            Self::UnsupportedCurve => format!(
                "Failed to load certificate chain from {origin}, only P-256, P-384 or P-521 ECDSA certificates \
                 are supported"
            ),
            Self::UnsupportedKey => format!(
                "Failed to load certificate chain from {origin}, only RSA, ECDSA and Ed25519 certificates are supported"
            ),
            Self::TrustedCa => format!("Failed to load trusted CA certificates from {origin}"),
            Self::Crl => format!("Failed to load CRL from {origin}"),
            Self::Malformed => format!("{origin} holds a certificate that is not X.509 in DER"),
            Self::TooLarge => format!("{origin} is larger than this build reads"),
            Self::MatchersWithoutAuthority => {
                "SAN-based verification of peer certificates without trusted CA \
                                               is insecure and not allowed"
                    .to_owned()
            }
            Self::CrlWithoutAuthority => format!("Failed to load CRL from {origin} without trusted CA"),
            Self::ExpiryWithoutAuthority => {
                "Certificate validity period is always ignored without trusted CA".to_owned()
            }
            Self::EmptyTrustBundle => "a trust domain of the SPIFFE validator has no trust bundle".to_owned(),
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message("<inline>"))
    }
}

impl std::error::Error for CertificateError {}
