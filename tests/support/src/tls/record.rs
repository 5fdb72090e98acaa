//! TLS records in the clear: cut, written and read as bytes, with nothing that would object.

use crate::raw;
use crate::wire::Fault;

/// Content types.
pub mod kind {
    /// change_cipher_spec.
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    /// alert.
    pub const ALERT: u8 = 21;
    /// handshake.
    pub const HANDSHAKE: u8 = 22;
    /// application_data.
    pub const APPLICATION_DATA: u8 = 23;
}

/// Alert descriptions that tests expect (RFC 8446 6.2).
#[allow(missing_docs)]
pub mod alert {
    pub const CLOSE_NOTIFY: u8 = 0;
    pub const UNEXPECTED_MESSAGE: u8 = 10;
    pub const BAD_RECORD_MAC: u8 = 20;
    pub const RECORD_OVERFLOW: u8 = 22;
    pub const HANDSHAKE_FAILURE: u8 = 40;
    pub const BAD_CERTIFICATE: u8 = 42;
    pub const CERTIFICATE_REVOKED: u8 = 44;
    pub const CERTIFICATE_EXPIRED: u8 = 45;
    pub const CERTIFICATE_UNKNOWN: u8 = 46;
    pub const ILLEGAL_PARAMETER: u8 = 47;
    pub const UNKNOWN_CA: u8 = 48;
    pub const DECODE_ERROR: u8 = 50;
    pub const DECRYPT_ERROR: u8 = 51;
    pub const PROTOCOL_VERSION: u8 = 70;
    pub const INTERNAL_ERROR: u8 = 80;
    pub const NO_RENEGOTIATION: u8 = 100;
    pub const UNRECOGNIZED_NAME: u8 = 112;
    pub const CERTIFICATE_REQUIRED: u8 = 116;
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Content type.
    pub kind: u8,
    /// legacy_record_version.
    pub version: u16,
    /// The fragment as it travels.
    pub fragment: Vec<u8>,
}

impl Record {
    /// The description of a fatal or warning alert in the clear.
    pub fn alert(&self) -> Option<u8> {
        match (self.kind, &self.fragment[..]) {
            (kind::ALERT, [_, description]) => Some(*description),
            _ => None,
        }
    }
}

/// A record of these parts.
pub fn record(kind: u8, version: u16, fragment: &[u8]) -> Vec<u8> {
    let length = u16::try_from(fragment.len()).expect("a fragment of at most 65,535 octets");
    [&[kind][..], &version.to_be_bytes(), &length.to_be_bytes(), fragment].concat()
}

/// A message cut into handshake records of at most `size` octets.
pub fn fragments(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|piece| record(kind::HANDSHAKE, 0x0301, piece)).collect()
}

/// Reads one record.
///
/// # Errors
/// How the connection ended instead.
pub fn read(client: &mut raw::Client) -> Result<Record, Fault> {
    if client.wire().at_end()? {
        return Err(Fault::Closed);
    }
    let head = client.wire().exact(5, "a record's header")?;
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    let fragment = client.wire().exact(length, "a record")?;
    Ok(Record { kind: head[0], version: u16::from_be_bytes([head[1], head[2]]), fragment })
}

/// What a server says to bytes that are no good: the first alert in the clear, or how it ended without one.
pub fn refusal(client: &mut raw::Client) -> Result<u8, Fault> {
    loop {
        if let Some(alert) = read(client)?.alert() {
            return Ok(alert);
        }
    }
}
