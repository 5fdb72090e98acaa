//! What the ClientHello of a connection offers (`envoy.filters.listener.tls_inspector`), read without ending TLS.

mod body;
mod reader;
mod records;
#[cfg(test)]
mod tests;

use std::fmt;

/// Most bytes in which a ClientHello must be whole, record headers included: Envoy's `TLS_MAX_CLIENT_HELLO`.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// What a client offers (RFC 8446 4.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// `server_name` (RFC 6066 3) in lower case, 1 to 255 printable octets. As in Envoy, a literal address or a
    /// trailing dot is kept as the client wrote it: neither matches a name that a certificate or a route has.
    pub server_name: Option<Box<str>>,
    /// `legacy_version`: 0x0303 for TLS 1.2 and later.
    pub legacy_version: u16,
    /// `supported_versions` (RFC 8446 4.2.1) in the client's order, unknown and reserved numbers included; empty
    /// when the extension is missing.
    pub supported_versions: Vec<u16>,
    /// `pre_shared_key` (RFC 8446 4.2.11) is there: the client wants to resume a session.
    pub offers_psk: bool,
    /// ProtocolNameList of ALPN without its own length: one octet of length before each name.
    alpn: Box<[u8]>,
    /// Bytes up to the end of the record in which the ClientHello ends: `tls_inspector.bytes_processed`.
    pub bytes: usize,
}

impl ClientHello {
    /// The protocols of ALPN (RFC 7301 3.1) in the client's order; none when the extension is missing.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        reader::names(&self.alpn)
    }
}

/// Why there is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// The first octets are none of a TLS handshake record. Envoy: `tls_inspector.tls_not_found`.
    NotTls,
    /// Not whole within the bound. Envoy: `tls_inspector.client_hello_too_large`, and the connection is closed.
    TooLarge,
    /// It starts like TLS and breaks the rules of the protocol. Envoy does not tell it from [`Self::NotTls`].
    Malformed,
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "no TLS",
            Self::TooLarge => "the ClientHello is too large",
            Self::Malformed => "the ClientHello is malformed",
        })
    }
}

impl std::error::Error for HelloError {}

/// Reads the ClientHello at the start of `bytes`, which is all that has come so far; `None` when more is needed.
pub fn client_hello(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    client_hello_within(bytes, CLIENT_HELLO_BYTES_MAX)
}

/// At least how many bytes more [`client_hello`] needs where it found none yet; at least one.
pub fn client_hello_missing(bytes: &[u8]) -> usize {
    records::missing(bytes)
}

/// [`client_hello`] with a bound of its own, `max_client_hello_size`; more than [`CLIENT_HELLO_BYTES_MAX`] counts as
/// that.
pub fn client_hello_within(bytes: &[u8], bytes_max: usize) -> Result<Option<ClientHello>, HelloError> {
    let bytes_max = bytes_max.min(CLIENT_HELLO_BYTES_MAX);
    let Some(message) = records::message(bytes, bytes_max)? else { return Ok(None) };
    let hello = body::parse(&message.body).ok_or(HelloError::Malformed)?;
    Ok(Some(ClientHello { bytes: message.end, ..hello }))
}
