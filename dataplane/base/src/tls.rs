//! What a TLS handshake told of a connection, as plain data for filters, logs and statistics.

use std::sync::Arc;

/// Facts of a peer's leaf certificate, rendered once per certificate and shared by its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// RFC 2253, as Envoy prints it; may be empty (SPIFFE).
    pub subject: Box<str>,
    /// RFC 2253.
    pub issuer: Box<str>,
    /// URI names in the order of the certificate.
    pub uri_sans: Vec<Box<str>>,
    /// DNS names.
    pub dns_sans: Vec<Box<str>>,
    /// IP addresses, printed.
    pub ip_sans: Vec<Box<str>>,
    /// E-mail addresses.
    pub email_sans: Vec<Box<str>>,
    /// Other names, printed as Envoy does.
    pub othername_sans: Vec<Box<str>>,
    /// Lower-case hexadecimal, no leading zeros, as Envoy prints it.
    pub serial: Box<str>,
    /// SHA-256 of the DER, lower-case hexadecimal.
    pub fingerprint_256: Box<str>,
    /// SHA-1 of the DER, lower-case hexadecimal.
    pub fingerprint_1: Box<str>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// The leaf, PEM, percent-encoded as XFCC and `%DOWNSTREAM_PEER_CERT%` have it.
    pub pem_encoded: Box<str>,
    /// The whole chain likewise (XFCC `Chain`).
    pub chain_pem_encoded: Box<str>,
    /// Of every certificate of the chain, leaf first: SHA-256, SHA-1, serial.
    pub chain: Vec<(Box<str>, Box<str>, Box<str>)>,
}

/// What our own certificate says of us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalCertificate {
    /// RFC 2253.
    pub subject: Box<str>,
    /// URI names; XFCC `By`.
    pub uri_sans: Vec<Box<str>>,
    /// DNS names.
    pub dns_sans: Vec<Box<str>>,
    /// IP addresses.
    pub ip_sans: Vec<Box<str>>,
    /// E-mail addresses.
    pub email_sans: Vec<Box<str>>,
}

/// One secured connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`: `%DOWNSTREAM_TLS_VERSION%`.
    pub version: &'static str,
    /// OpenSSL's name: `%DOWNSTREAM_TLS_CIPHER%`.
    pub cipher: &'static str,
    /// ALPN that was agreed upon; empty without.
    pub alpn: Arc<[u8]>,
    /// Server name that the client asked for; empty without.
    pub server_name: Box<str>,
    /// Session id as `%DOWNSTREAM_TLS_SESSION_ID%` has it: hexadecimal; empty where there is none.
    pub session_id: Box<str>,
    /// Name of the key exchange (`X25519`, `P-256`, `X25519MLKEM768` ...): `ssl.curves.<name>`.
    pub curve: &'static str,
    /// With which algorithm the peer signed the handshake (RFC 8446 4.2.3): `ssl.sigalgs.<name>`; 0 if it did not.
    pub peer_signature_scheme: u16,
    /// The session was resumed: `ssl.session_reused`.
    pub resumed: bool,
    /// The peer showed a certificate that was verified (a chain to a trusted root, names as configured).
    pub peer_validated: bool,
    /// The peer's certificate, if it showed one.
    pub peer: Option<Arc<PeerCertificate>>,
    /// The certificate that we showed, if any.
    pub local: Option<Arc<LocalCertificate>>,
}
