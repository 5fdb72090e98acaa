//! Distinguished names in the words of RFC 2253, as BoringSSL prints them: last component first, short names of
//! attributes, bytes above ASCII escaped.

use std::fmt::Write;

use x509_parser::asn1_rs::Any;
use x509_parser::x509::X509Name;

use super::x509::wide;

/// Attribute types that BoringSSL has a short name for.
const SHORT_NAMES: [(&str, &str); 25] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.2.840.113549.1.9.7", "challengePassword"),
];

/// The name on one line.
pub(super) fn print(name: &X509Name<'_>) -> String {
    let mut line = String::new();
    let components: Vec<_> = name.iter_rdn().collect();
    for (at, component) in components.iter().rev().enumerate() {
        let attributes: Vec<_> = component.iter().collect();
        for (within, attribute) in attributes.iter().rev().enumerate() {
            match (at, within) {
                (0, 0) => {}
                (_, 0) => line.push(','),
                _ => line.push('+'),
            }
            let oid = attribute.attr_type().to_id_string();
            let short = SHORT_NAMES.iter().find(|(dotted, _)| *dotted == oid).map(|(_, short)| *short);
            line.push_str(short.unwrap_or(&oid));
            line.push('=');
            value(attribute.attr_value(), short.is_some(), &mut line);
        }
    }
    line
}

/// Strings are escaped; anything else, and any value of an unknown attribute, is its DER in hexadecimal.
fn value(value: &Any<'_>, known: bool, line: &mut String) {
    let data = value.data;
    let text = match value.header.tag().0 {
        12 => String::from_utf8(data.to_vec()).ok(),
        18..=20 | 22..=24 | 26 => Some(data.iter().map(|&byte| char::from(byte)).collect()),
        28 => Some(wide(data, 4)),
        30 => Some(wide(data, 2)),
        _ => None,
    };
    match text {
        Some(text) if known => escape(&text, line),
        _ => {
            line.push('#');
            hexadecimal(&der(value), line);
        }
    }
}

/// The value with its header.
fn der(value: &Any<'_>) -> Vec<u8> {
    let class = (value.header.class() as u8) << 6;
    let constructed = if value.header.is_constructed() { 0x20 } else { 0 };
    let mut der = vec![class | constructed | (value.header.tag().0 as u8 & 0x1f)];
    match value.data.len() {
        short @ 0..=0x7f => der.push(short as u8),
        long => {
            let octets = long.to_be_bytes();
            let skip = octets.iter().take_while(|&&octet| octet == 0).count();
            der.push(0x80 | (octets.len() - skip) as u8);
            der.extend_from_slice(&octets[skip..]);
        }
    }
    der.extend_from_slice(value.data);
    der
}

fn hexadecimal(bytes: &[u8], line: &mut String) {
    for byte in bytes {
        let _ = write!(line, "{byte:02X}");
    }
}

/// RFC 2253 2.4, with controls and everything above ASCII as `\XX`.
fn escape(text: &str, line: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            0..0x20 | 0x7f.. => {
                let _ = write!(line, "\\{byte:02X}");
            }
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                line.push('\\');
                line.push(char::from(byte));
            }
            b' ' if at == 0 || at == last => line.push_str("\\ "),
            b'#' if at == 0 => line.push_str("\\#"),
            _ => line.push(char::from(byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_rfc_2253() {
        let of = |text: &str| {
            let mut line = String::new();
            escape(text, &mut line);
            line
        };
        assert_eq!(of("Sue, Grabbit and Runn"), "Sue\\, Grabbit and Runn");
        assert_eq!(of(" # "), "\\ #\\ ");
        assert_eq!(of("#a"), "\\#a");
        assert_eq!(of("a=b\n"), "a=b\\0A");
        assert_eq!(of("Lu\u{10d}i\u{107}"), "Lu\\C4\\8Di\\C4\\87");
        assert_eq!(of(""), "");
    }
}
