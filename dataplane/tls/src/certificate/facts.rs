//! What certificates say, rendered once for logs, filters, XFCC and `/certs`, in Envoy's spelling.

use aws_lc_rs::digest;
use millrace_base::{LocalCertificate, PeerCertificate};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};

use super::x509::{San, parse, sans};
use super::{CertificateError, CertificateSummary, MAX_CHAIN, key, rfc2253};

/// `id-pe-tlsfeature`, RFC 7633.
const TLS_FEATURE: Oid<'static> = oid!(1.3.6.1.5.5.7.1.24);
/// `SEQUENCE { INTEGER 5 }`: status_request and nothing else.
const STATUS_REQUEST: &[u8] = &[0x30, 3, 2, 1, 5];

/// Names sorted by kind. Names with control characters are for no header and no log, and left out.
#[derive(Default)]
struct Names {
    uri: Vec<Box<str>>,
    dns: Vec<Box<str>>,
    ip: Vec<Box<str>>,
    email: Vec<Box<str>>,
    other: Vec<Box<str>>,
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self::default();
        for san in sans(certificate) {
            let (list, text) = match san {
                San::Uri(uri) => (&mut names.uri, uri.to_owned()),
                San::Dns(name) => (&mut names.dns, name.to_owned()),
                San::Email(address) => (&mut names.email, address.to_owned()),
                San::Ip(ip) => (&mut names.ip, ip.to_string()),
                San::Other(_, value) => (&mut names.other, String::from_utf8_lossy(&value).into_owned()),
            };
            if !text.chars().any(char::is_control) {
                list.push(text.into());
            }
        }
        names
    }
}

/// See [`super::summary`].
pub(super) fn summary(der: &[u8]) -> Result<CertificateSummary, CertificateError> {
    let certificate = parse(der)?;
    let names = Names::of(&certificate);
    let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let staple = certificate.extensions().iter().find(|extension| extension.oid == TLS_FEATURE);
    Ok(CertificateSummary {
        serial: serial(&certificate),
        dns_sans: names.dns,
        uri_sans: names.uri,
        ip_sans: names.ip,
        common_name: common_name.unwrap_or_default().into(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        is_ca: is_ca(&certificate),
        key: key::kind(&certificate),
        must_staple: staple.is_some_and(|extension| extension.value == STATUS_REQUEST),
    })
}

/// See [`super::peer`].
pub(super) fn peer(chain: &[&[u8]]) -> Result<PeerCertificate, CertificateError> {
    let leaf = chain.first().ok_or(CertificateError::Malformed)?;
    let certificate = parse(leaf)?;
    let names = Names::of(&certificate);
    let chain: Vec<_> = chain.iter().take(MAX_CHAIN).collect();
    let pem: Vec<_> = chain.iter().map(|der| percent_encoded_pem(der)).collect();
    Ok(PeerCertificate {
        subject: rfc2253::print(certificate.subject()).into(),
        issuer: rfc2253::print(certificate.issuer()).into(),
        uri_sans: names.uri,
        dns_sans: names.dns,
        ip_sans: names.ip,
        email_sans: names.email,
        othername_sans: names.other,
        serial: serial(&certificate),
        fingerprint_256: fingerprint(&digest::SHA256, leaf),
        fingerprint_1: fingerprint(&digest::SHA1_FOR_LEGACY_USE_ONLY, leaf),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        chain_pem_encoded: pem.concat().into(),
        pem_encoded: pem.into_iter().next().unwrap_or_default().into(),
        chain: chain.iter().map(|der| fingerprints(der)).collect(),
    })
}

/// See [`super::local`].
pub(super) fn local(der: &[u8]) -> Result<LocalCertificate, CertificateError> {
    let certificate = parse(der)?;
    let names = Names::of(&certificate);
    Ok(LocalCertificate {
        subject: rfc2253::print(certificate.subject()).into(),
        uri_sans: names.uri,
        dns_sans: names.dns,
        ip_sans: names.ip,
        email_sans: names.email,
    })
}

fn is_ca(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().any(|extension| {
        matches!(extension.parsed_extension(), ParsedExtension::BasicConstraints(constraints) if constraints.ca)
    })
}

/// Of one certificate of a chain: SHA-256, SHA-1, serial (empty where the certificate cannot be read).
fn fingerprints(der: &[u8]) -> (Box<str>, Box<str>, Box<str>) {
    let serial = parse(der).map(|certificate| serial(&certificate)).unwrap_or_default();
    (fingerprint(&digest::SHA256, der), fingerprint(&digest::SHA1_FOR_LEGACY_USE_ONLY, der), serial)
}

/// Whole bytes without leading zeros; a negative number (which RFC 5280 forbids) has a sign.
fn serial(certificate: &X509Certificate<'_>) -> Box<str> {
    let bytes = certificate.raw_serial();
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, over);
        }
    }
    let skip = magnitude.iter().take_while(|&&byte| byte == 0).count();
    match hexadecimal(&magnitude[skip..]) {
        zero if zero.is_empty() => "0".into(),
        digits if negative => format!("-{digits}").into(),
        digits => digits,
    }
}

fn fingerprint(algorithm: &'static digest::Algorithm, der: &[u8]) -> Box<str> {
    hexadecimal(digest::digest(algorithm, der).as_ref())
}

fn hexadecimal(bytes: &[u8]) -> Box<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect::<String>().into()
}

/// PEM with lines of 64, in the percent-encoding of XFCC.
fn percent_encoded_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(der.len() * 3 / 2 + 96);
    text.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits =
                group.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                match ALPHABET[(bits >> (18 - 6 * place)) as usize & 63] {
                    _ if place > group.len() => text.push_str("%3D"),
                    b'+' => text.push_str("%2B"),
                    b'/' => text.push_str("%2F"),
                    letter => text.push(char::from(letter)),
                }
            }
        }
        text.push_str("%0A");
    }
    text.push_str("-----END%20CERTIFICATE-----%0A");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_percent_encoded_as_in_xfcc() {
        let text = percent_encoded_pem(&[0xfb, 0xff, 0xfe, 0x41]);
        assert_eq!(
            text,
            "-----BEGIN%20CERTIFICATE-----%0A%2B%2F%2F%2BQQ%3D%3D%0A-----END%20CERTIFICATE-----%0A"
        );
        assert_eq!(percent_encoded_pem(&[0; 49]).matches("%0A").count(), 4);
    }

    #[test]
    fn hexadecimal_is_lower_case_and_of_whole_bytes() {
        assert_eq!(&*hexadecimal(&[0x0a, 0xbc]), "0abc");
    }
}
