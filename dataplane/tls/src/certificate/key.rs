//! Private keys: read from PEM without leaving copies, and held against the leaf that they are for.

use millrace_config::{PrivateKey, TlsCertificate};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::public_key::PublicKey;

use super::pem::{Block, PemFault, blocks};
use super::x509::parse;
use super::{CertificateError, CertificateSummary, KeyKind, facts};

const CURVES: [Oid<'static>; 3] = [oid!(1.2.840.10045.3.1.7), oid!(1.3.132.0.34), oid!(1.3.132.0.35)];
const ED25519: Oid<'static> = oid!(1.3.101.112);
/// Bits of the smallest RSA modulus that Envoy takes.
const MIN_RSA_BITS: usize = 2_048;

/// See [`super::parse_key`].
pub(super) fn parse_key(pem: &[u8], password: Option<&[u8]>) -> Result<PrivateKey, CertificateError> {
    let blocks = blocks(pem).map_err(|fault| match fault {
        PemFault::TooLarge => CertificateError::TooLarge,
        PemFault::Armour | PemFault::Base64 => CertificateError::Key,
    })?;
    let block = blocks.iter().find(|block| block.is_private_key()).ok_or(CertificateError::Key)?;
    if block.is_encrypted() {
        return Err(match password {
            Some(_) => CertificateError::EncryptedKey,
            None => CertificateError::PasswordMissing,
        });
    }
    read(block)
}

fn read(block: &Block<'_>) -> Result<PrivateKey, CertificateError> {
    let der = PrivateKeyDer::from_pem_slice(block.text).map_err(|_| CertificateError::Key)?;
    let key = PrivateKey::new(der.secret_der().to_vec());
    // Overwrites the decoder's copy.
    zeroize::Zeroizing::new(der);
    PrivateKeyDer::try_from(key.der()).map_err(|_| CertificateError::Key)?;
    Ok(key)
}

/// See [`super::check`].
pub(super) fn check(certificate: &TlsCertificate) -> Result<CertificateSummary, CertificateError> {
    let der = certificate.chain.first().ok_or(CertificateError::Chain)?;
    let leaf = parse(der).map_err(|_| CertificateError::Chain)?;
    check_public_key(&leaf)?;
    let key = PrivateKeyDer::try_from(certificate.key.der()).map_err(|_| CertificateError::Key)?;
    let key = any_supported_type(&key).map_err(|_| CertificateError::Key)?;
    let public = key.public_key().ok_or(CertificateError::Key)?;
    if public.as_ref() != leaf.public_key().raw {
        return Err(CertificateError::KeyMismatch);
    }
    facts::summary(der).map_err(|_| CertificateError::Chain)
}

/// Whether a handshake can be signed with the leaf's key at all, however small.
pub(crate) fn is_usable(leaf: &X509Certificate<'_>) -> bool {
    let info = leaf.public_key();
    match info.parsed() {
        Ok(PublicKey::RSA(_)) => true,
        Ok(PublicKey::EC(_)) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            curve.is_some_and(|curve| CURVES.contains(&curve))
        }
        _ => info.algorithm.algorithm == ED25519,
    }
}

fn check_public_key(leaf: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let info = leaf.public_key();
    match info.parsed() {
        Ok(PublicKey::RSA(key)) if bits(key.modulus) < MIN_RSA_BITS => Err(CertificateError::RsaTooSmall),
        Ok(PublicKey::RSA(_)) => Ok(()),
        Ok(PublicKey::EC(_)) => {
            if !is_usable(leaf) {
                return Err(CertificateError::UnsupportedCurve);
            }
            // BoringSSL refuses an ECDSA leaf whose key usage keeps it from signing.
            match leaf.key_usage() {
                Ok(Some(usage)) if !usage.value.digital_signature() => Err(CertificateError::LeafCannotSign),
                Ok(_) => Ok(()),
                Err(_) => Err(CertificateError::Chain),
            }
        }
        _ if info.algorithm.algorithm == ED25519 => Ok(()),
        _ => Err(CertificateError::UnsupportedKey),
    }
}

/// Bits of an unsigned integer.
pub(crate) fn bits(bytes: &[u8]) -> usize {
    let skip = bytes.iter().take_while(|&&byte| byte == 0).count();
    let significant = &bytes[skip..];
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

/// What sort of key a leaf has.
pub(super) fn kind(certificate: &X509Certificate<'_>) -> KeyKind {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(_)) => KeyKind::Rsa,
        Ok(PublicKey::EC(_)) => KeyKind::Ecdsa,
        _ => KeyKind::Other,
    }
}
