//! Rules about serial number, version, key and extensions as such.

use x509_parser::prelude::X509Version;
use x509_parser::public_key::PublicKey;

use super::view::View;
use crate::certificate::key::bits;

/// Octets of a serial number (RFC 5280 4.1.2.2), not counting the one that only keeps it positive: authorities that
/// draw 160 random bits need 21.
const MAX_SERIAL: usize = 20;
/// Bits of the smallest RSA key.
const MIN_RSA: usize = 2_048;

pub(super) fn malformed_extension(view: &View<'_>) -> bool {
    view.unreadable || view.information.as_ref().is_some_and(|found| found.value.accessdescs.is_empty())
}

/// Webpki refuses them below the root.
pub(super) fn unknown_critical_extension(view: &View<'_>) -> bool {
    view.unknown_critical
}

pub(super) fn negative_serial(view: &View<'_>) -> bool {
    view.certificate.raw_serial().first().is_some_and(|first| first & 0x80 != 0)
}

pub(super) fn long_serial(view: &View<'_>) -> bool {
    let serial = view.certificate.raw_serial();
    serial.strip_prefix(&[0]).unwrap_or(serial).len() > MAX_SERIAL
}

pub(super) fn zero_serial(view: &View<'_>) -> bool {
    view.certificate.raw_serial().iter().all(|&octet| octet == 0)
}

pub(super) fn old_version(view: &View<'_>) -> bool {
    view.certificate.version() != X509Version::V3
}

pub(super) fn unique_identifier(view: &View<'_>) -> bool {
    view.certificate.issuer_uid.is_some() || view.certificate.subject_uid.is_some()
}

fn rsa_bits(view: &View<'_>) -> Option<usize> {
    match view.certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(bits(key.modulus)),
        _ => None,
    }
}

pub(super) fn weak_key(view: &View<'_>) -> bool {
    rsa_bits(view).is_some_and(|bits| bits < MIN_RSA)
}

pub(super) fn odd_key_size(view: &View<'_>) -> bool {
    rsa_bits(view).is_some_and(|bits| bits % 8 != 0)
}
