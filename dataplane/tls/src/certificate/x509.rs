//! X.509 (RFC 5280) as the parser gives it, in the few shapes that this crate needs.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::CertificateError;

/// Reads a certificate, and nothing behind it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

/// A subject alternative name that something can be matched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum San<'a> {
    Dns(&'a str),
    Uri(&'a str),
    Email(&'a str),
    Ip(IpAddr),
    /// `type_id`, dotted, and the value as Envoy prints it.
    Other(String, Cow<'a, [u8]>),
}

/// The names of a certificate in their order. An extension that cannot be read, or stands there twice, has none.
pub(crate) fn sans<'a>(certificate: &'a X509Certificate<'a>) -> Vec<San<'a>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(san).collect()
}

fn san<'a>(name: &'a GeneralName<'a>) -> Option<San<'a>> {
    Some(match name {
        GeneralName::DNSName(name) => San::Dns(name),
        GeneralName::URI(uri) => San::Uri(uri),
        GeneralName::RFC822Name(address) => San::Email(address),
        GeneralName::IPAddress(octets) => San::Ip(ip(octets)?),
        GeneralName::OtherName(oid, value) => San::Other(oid.to_id_string(), other_value(value)),
        _ => return None,
    })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// The `[0] EXPLICIT` value of an other name: strings as their bytes, numbers in decimal, BMP and universal strings in
/// UTF-8. Types that Envoy does not print are empty.
fn other_value(explicit: &[u8]) -> Cow<'_, [u8]> {
    let Some((0xa0, inner, _)) = tlv(explicit) else { return Cow::Borrowed(&[]) };
    let Some((tag, value, _)) = tlv(inner) else { return Cow::Borrowed(&[]) };
    match tag {
        0x01 => Cow::Borrowed(if value == [0] { b"false" as &[u8] } else { b"true" }),
        0x02 | 0x0a => Cow::Owned(decimal(value).into_bytes()),
        0x06 => Cow::Owned(x509_parser::der_parser::oid::Oid::new(value.into()).to_id_string().into_bytes()),
        0x03 => Cow::Borrowed(value.get(1..).unwrap_or_default()),
        0x04 | 0x0c | 0x13 | 0x14 | 0x16 | 0x17 | 0x18 | 0x1a | 0x1b => Cow::Borrowed(value),
        0x1e => Cow::Owned(wide(value, 2).into_bytes()),
        0x1c => Cow::Owned(wide(value, 4).into_bytes()),
        // A SET or SEQUENCE is shown with its header.
        0x30 | 0x31 => Cow::Borrowed(inner),
        _ => Cow::Borrowed(&[]),
    }
}

/// UCS-2 or UCS-4 as UTF-8; empty where it is neither.
pub(super) fn wide(value: &[u8], width: usize) -> String {
    let character =
        |unit: &[u8]| char::from_u32(unit.iter().fold(0, |code, &byte| code << 8 | u32::from(byte)));
    let units = value.chunks_exact(width);
    if !units.remainder().is_empty() {
        return String::new();
    }
    units.map(character).collect::<Option<String>>().unwrap_or_default()
}

/// An integer in decimal, as far as it has 128 bits; longer ones are empty.
fn decimal(value: &[u8]) -> String {
    if value.is_empty() || value.len() > 16 {
        return String::new();
    }
    let start = if value[0] & 0x80 == 0 { 0 } else { -1 };
    value.iter().fold(start, |number: i128, &byte| number << 8 | i128::from(byte)).to_string()
}

/// Tag, content and what follows, of DER with a tag of one byte.
pub(crate) fn tlv(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_print_as_envoy_prints_them() {
        let of = |value: &[u8]| {
            let mut explicit = vec![0xa0, value.len() as u8];
            explicit.extend_from_slice(value);
            String::from_utf8(other_value(&explicit).into_owned()).unwrap()
        };
        assert_eq!(of(&[0x0c, 2, b'h', b'i']), "hi");
        assert_eq!(of(&[0x01, 1, 0xff]), "true");
        assert_eq!(of(&[0x02, 2, 0x01, 0x00]), "256");
        assert_eq!(of(&[0x02, 1, 0xff]), "-1");
        assert_eq!(of(&[0x06, 3, 0x2a, 0x03, 0x04]), "1.2.3.4");
        assert_eq!(of(&[0x1e, 4, 0, b'o', 0, b'k']), "ok");
        assert_eq!(of(&[0x05, 0]), "");
        assert_eq!(other_value(&[0xa0, 9, 1]), Cow::Borrowed(b"" as &[u8]));
    }

    #[test]
    fn lengths_that_lie_are_no_tlv() {
        assert_eq!(tlv(&[0x30, 0x82, 0xff]), None);
        assert_eq!(tlv(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(tlv(&[0x04, 1, 7, 9]), Some((4, &[7][..], &[9][..])));
    }
}
