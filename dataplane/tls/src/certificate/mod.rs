//! Certificates and keys as configuration brings them: read from PEM, checked against each other, and told as facts.

mod error;

use std::sync::Arc;

use millrace_base::{LocalCertificate, PeerCertificate};
use millrace_config::{PrivateKey, TlsCertificate};

pub use error::CertificateError;

/// Bytes of PEM that one part of a secret may have. The bundle of a Linux distribution has 220 KB.
pub const MAX_PEM_BYTES: usize = 4 << 20;
/// Certificates of one chain, leaf included; a peer's chain has the same bound.
pub const MAX_CHAIN: usize = 11;
/// Bytes of one chain's DER.
pub const MAX_CHAIN_BYTES: usize = 64 << 10;
/// Certificates of one bundle of authorities.
pub const MAX_BUNDLE: usize = 2_048;
/// Revocation lists of one validation context.
pub const MAX_CRLS: usize = 256;

/// What `/certs` and the expiry gauges tell of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Lower-case hexadecimal, as Envoy prints it.
    pub serial: Box<str>,
    /// DNS names, in the order of the certificate.
    pub dns_sans: Vec<Box<str>>,
    /// URI names.
    pub uri_sans: Vec<Box<str>>,
    /// IP addresses, printed.
    pub ip_sans: Vec<Box<str>>,
    /// Common name of the subject; empty without. Servers choose by it where there is no DNS name.
    pub common_name: Box<str>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Basic constraints say that it is an authority.
    pub is_ca: bool,
    /// The public key is an ECDSA key (RSA otherwise).
    pub ecdsa: bool,
    /// The extension status_request (RFC 7633) obliges its holder to staple.
    pub must_staple: bool,
}

/// `certificate_chain`: the certificates of a PEM text, leaf first; at least one and at most [`MAX_CHAIN`].
pub fn parse_chain(pem: &[u8]) -> Result<Vec<Arc<[u8]>>, CertificateError> {
    let _ = pem;
    Err(CertificateError::Chain)
}

/// `trusted_ca`, or a bundle of a trust domain: the certificates of a PEM text, at least one and at most
/// [`MAX_BUNDLE`]. Revocation lists among them are for [`parse_crls`].
pub fn parse_bundle(pem: &[u8]) -> Result<Arc<[Arc<[u8]>]>, CertificateError> {
    let _ = pem;
    Err(CertificateError::TrustedCa)
}

/// `private_key`: the first key of a PEM text in PKCS#8, PKCS#1 or SEC1. Encrypted keys are refused.
pub fn parse_key(pem: &[u8], password: Option<&[u8]>) -> Result<PrivateKey, CertificateError> {
    let _ = (pem, password);
    Err(CertificateError::Key)
}

/// The revocation lists of a PEM text; none is no error.
pub fn parse_crls(pem: &[u8]) -> Result<Vec<Arc<[u8]>>, CertificateError> {
    let _ = pem;
    Err(CertificateError::Crl)
}

/// Whether chain and key can serve: the leaf is X.509 with an RSA key of 2,048 bits or more or an ECDSA key on
/// P-256, P-384 or P-521, and the key is its own. Validity in time is told, not judged.
pub fn check(certificate: &TlsCertificate) -> Result<CertificateSummary, CertificateError> {
    let _ = certificate;
    Err(CertificateError::Chain)
}

/// What `/certs` tells of a certificate in DER.
pub fn summary(der: &[u8]) -> Result<CertificateSummary, CertificateError> {
    let _ = der;
    Err(CertificateError::Malformed)
}

/// Facts of a peer's chain in DER, leaf first, for logs, filters and XFCC.
pub fn peer(chain: &[&[u8]]) -> Result<PeerCertificate, CertificateError> {
    let _ = chain;
    Err(CertificateError::Malformed)
}

/// Facts of our own leaf in DER.
pub fn local(der: &[u8]) -> Result<LocalCertificate, CertificateError> {
    let _ = der;
    Err(CertificateError::Malformed)
}
