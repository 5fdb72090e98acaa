//! Certificates and keys as configuration brings them: read from PEM, checked against each other, and told as facts.

mod error;
mod facts;
pub(crate) mod key;
mod pem;
mod rfc2253;
pub(crate) mod x509;

use std::sync::Arc;

use millrace_base::{LocalCertificate, PeerCertificate};
use millrace_config::{PrivateKey, TlsCertificate};

use pem::PemFault;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

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

/// What sort of key a certificate has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyKind {
    Rsa,
    Ecdsa,
    /// Ed25519, or one that nothing here can use.
    #[default]
    Other,
}

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
    /// Of the public key.
    pub key: KeyKind,
    /// The extension status_request (RFC 7633) obliges its holder to staple.
    pub must_staple: bool,
}

/// `certificate_chain`: the certificates of a PEM text, leaf first; at least one and at most [`MAX_CHAIN`].
pub fn parse_chain(pem: &[u8]) -> Result<Vec<Arc<[u8]>>, CertificateError> {
    if pem.is_empty() {
        return Err(CertificateError::MissingChain);
    }
    let chain = certificates(pem, MAX_CHAIN, CertificateError::Chain)?;
    if chain.iter().map(|der| der.len()).sum::<usize>() > MAX_CHAIN_BYTES {
        return Err(CertificateError::TooLarge);
    }
    Ok(chain)
}

/// `trusted_ca`, or a bundle of a trust domain: the certificates of a PEM text, at least one and at most
/// [`MAX_BUNDLE`]. Revocation lists among them count as Envoy's do: ask [`parse_crls`] for them.
pub fn parse_bundle(pem: &[u8]) -> Result<Arc<[Arc<[u8]>]>, CertificateError> {
    Ok(certificates(pem, MAX_BUNDLE, CertificateError::TrustedCa)?.into())
}

/// `private_key`: the first key of a PEM text in PKCS#8, PKCS#1 or SEC1. Encrypted keys are refused.
pub fn parse_key(pem: &[u8], password: Option<&[u8]>) -> Result<PrivateKey, CertificateError> {
    if pem.is_empty() {
        return Err(CertificateError::MissingKey);
    }
    key::parse_key(pem, password)
}

/// The revocation lists of a PEM text, at most [`MAX_CRLS`]; none is no error.
pub fn parse_crls(pem: &[u8]) -> Result<Vec<Arc<[u8]>>, CertificateError> {
    let mut crls: Vec<Arc<[u8]>> = Vec::new();
    for block in blocks(pem, CertificateError::Crl)?.iter().filter(|block| block.is_crl()) {
        if crls.len() == MAX_CRLS {
            return Err(CertificateError::TooLarge);
        }
        let der = block.decode().map_err(|_| CertificateError::Crl)?;
        if !matches!(CertificateRevocationList::from_der(&der), Ok(([], _))) {
            return Err(CertificateError::Crl);
        }
        crls.push(der.into());
    }
    Ok(crls)
}

/// Whether chain and key can serve: the leaf is X.509 with an RSA key of 2,048 bits or more, an ECDSA key on P-256,
/// P-384 or P-521 that may sign, or an Ed25519 key, and the private key is its own. Validity in time is told, not
/// judged.
pub fn check(certificate: &TlsCertificate) -> Result<CertificateSummary, CertificateError> {
    key::check(certificate)
}

/// What `/certs` tells of a certificate in DER.
pub fn summary(der: &[u8]) -> Result<CertificateSummary, CertificateError> {
    facts::summary(der)
}

/// Facts of a peer's chain in DER, leaf first, for logs, filters and XFCC.
pub fn peer(chain: &[&[u8]]) -> Result<PeerCertificate, CertificateError> {
    facts::peer(chain)
}

/// Facts of our own leaf in DER.
pub fn local(der: &[u8]) -> Result<LocalCertificate, CertificateError> {
    facts::local(der)
}

/// Every certificate of a text, each of which must be readable.
fn certificates(
    pem: &[u8],
    most: usize,
    fault: CertificateError,
) -> Result<Vec<Arc<[u8]>>, CertificateError> {
    let mut certificates: Vec<Arc<[u8]>> = Vec::new();
    for block in blocks(pem, fault)?.iter().filter(|block| block.is_certificate()) {
        if certificates.len() == most {
            return Err(CertificateError::TooLarge);
        }
        let mut der = block.decode().map_err(|_| fault)?;
        if block.label == b"TRUSTED CERTIFICATE" {
            let (_, _, settings) = x509::tlv(&der).ok_or(fault)?;
            der.truncate(der.len() - settings.len());
        }
        x509::parse(&der).map_err(|_| fault)?;
        certificates.push(der.into());
    }
    if certificates.is_empty() { Err(fault) } else { Ok(certificates) }
}

fn blocks(pem: &[u8], fault: CertificateError) -> Result<Vec<pem::Block<'_>>, CertificateError> {
    pem::blocks(pem).map_err(|error| match error {
        PemFault::TooLarge => CertificateError::TooLarge,
        PemFault::Armour | PemFault::Base64 => fault,
    })
}
