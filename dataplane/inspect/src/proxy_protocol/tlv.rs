//! The TLVs behind the addresses of version 2, and the checksum that may be among them.

use std::ops::Range;

use super::Error;

/// `PP2_TYPE_CRC32C`.
pub const CRC32C: u8 = 0x03;
/// Type and length.
pub const HEADER_BYTES: usize = 3;

/// One TLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// `PP2_TYPE_*`.
    pub kind: u8,
    /// Up to 65,535 octets of anything.
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// Appends it as it came on the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let [.., high, low] = self.value.len().to_be_bytes();
        out.extend_from_slice(&[self.kind, high, low]);
        out.extend_from_slice(self.value);
    }
}

/// The TLVs of `bytes[header.tlvs]`, which [`super::parse`] found whole.
pub fn tlvs(bytes: &[u8]) -> impl Iterator<Item = Tlv<'_>> + Clone {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (tlv, behind) = first(rest)?;
        rest = behind;
        Some(tlv)
    })
}

fn first(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let ([kind, high, low], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (value, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    Some((Tlv { kind: *kind, value }, behind))
}

/// Every TLV within `at` is whole, and a checksum agrees with the header.
pub fn check(header: &[u8], at: Range<usize>) -> Result<(), Error> {
    let mut rest = &header[at];
    let mut checked = false;
    while !rest.is_empty() {
        let (tlv, behind) = first(rest).ok_or(Error::Length)?;
        if tlv.kind == CRC32C {
            let told = tlv.value.try_into().map(u32::from_be_bytes).map_err(|_| Error::Length)?;
            let end = header.len() - behind.len();
            // One checksum only: each would cost a pass over 64 KiB.
            if checked || crc32c_without(header, end - 4..end) != told {
                return Err(Error::Checksum);
            }
            checked = true;
        }
        rest = behind;
    }
    Ok(())
}

/// CRC32c (RFC 4960 appendix B) of the header with the checksum's own octets taken as zero.
pub fn crc32c_without(header: &[u8], own: Range<usize>) -> u32 {
    !header.iter().enumerate().fold(u32::MAX, |crc, (at, octet)| {
        let octet = if own.contains(&at) { 0 } else { *octet };
        crc >> 8 ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ octet)]
    })
}

/// The reflected polynomial 0x1EDC6F41, an octet at a time.
const TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut at = 0;
    while at < table.len() {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};
