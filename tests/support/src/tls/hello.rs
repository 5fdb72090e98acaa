//! ClientHellos by hand: a good one, and every way to spoil it (RFC 8446 4.1.2).

use super::record::fragments;
use crate::rng::Rng;

/// Extension numbers.
#[allow(missing_docs)]
pub mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const GROUPS: u16 = 10;
    pub const SIGNATURES: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const PADDING: u16 = 21;
    pub const VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
}

/// A ClientHello under construction.
#[derive(Clone, Debug)]
pub struct Hello {
    /// legacy_version.
    pub version: u16,
    /// legacy_session_id.
    pub session: Vec<u8>,
    /// cipher_suites.
    pub suites: Vec<u16>,
    /// Extensions in order.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// A vector with a length of two octets.
fn vector(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short vector");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// One entry of `server_name` with these octets as host name.
fn name_entry(name: &[u8]) -> Vec<u8> {
    [&[0][..], &vector(name)].concat()
}

impl Hello {
    /// A hello for TLS 1.3 with X25519 that a server goes on with (the key share is a valid point).
    pub fn v13() -> Self {
        let mut share = vec![0, 29];
        share.extend(vector(&Rng::new(29).bytes(32)));
        Self { extensions: Vec::new(), ..Self::v12() }
            .extension(extension::GROUPS, &vector(&[0, 29, 0, 23]))
            .extension(extension::SIGNATURES, &vector(&[4, 3, 8, 4, 4, 1]))
            .extension(extension::VERSIONS, &[2, 3, 4])
            .extension(extension::KEY_SHARE, &vector(&share))
    }

    /// A hello for TLS 1.2.
    pub fn v12() -> Self {
        let hello = Self {
            version: 0x0303,
            session: vec![7; 32],
            suites: vec![0x1301, 0x1302, 0xc02b, 0xc02f],
            extensions: Vec::new(),
        };
        hello
            .extension(extension::GROUPS, &vector(&[0, 29, 0, 23]))
            .extension(extension::SIGNATURES, &vector(&[4, 3, 8, 4, 4, 1]))
    }

    /// One more extension.
    #[must_use]
    pub fn extension(mut self, number: u16, body: &[u8]) -> Self {
        self.extensions.push((number, body.to_vec()));
        self
    }

    /// Asks for a server name of these octets.
    #[must_use]
    pub fn name(self, name: &[u8]) -> Self {
        self.extension(extension::SERVER_NAME, &vector(&name_entry(name)))
    }

    /// Asks for several server names at once.
    #[must_use]
    pub fn names(self, names: &[&[u8]]) -> Self {
        let entries: Vec<u8> = names.iter().flat_map(|name| name_entry(name)).collect();
        self.extension(extension::SERVER_NAME, &vector(&entries))
    }

    /// Offers these protocols.
    #[must_use]
    pub fn alpn(self, protocols: &[&[u8]]) -> Self {
        let list: Vec<u8> = protocols
            .iter()
            .flat_map(|p| [&[u8::try_from(p.len()).expect("a short name")][..], p].concat())
            .collect();
        self.extension(extension::ALPN, &vector(&list))
    }

    /// Padding, so that the whole message has this many octets.
    #[must_use]
    pub fn padded_to(self, size: usize) -> Self {
        let padding = size.saturating_sub(self.message().len() + 4);
        self.extension(extension::PADDING, &vec![0; padding])
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend(Rng::new(1).bytes(32));
        body.push(u8::try_from(self.session.len()).expect("a short session id"));
        body.extend_from_slice(&self.session);
        body.extend(vector(&self.suites.iter().flat_map(|s| s.to_be_bytes()).collect::<Vec<u8>>()));
        body.extend([1, 0]);
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(number, body)| [&number.to_be_bytes()[..], &vector(body)].concat())
            .collect();
        body.extend(vector(&extensions));
        let length = u32::try_from(body.len()).expect("a short message").to_be_bytes();
        [&[1, length[1], length[2], length[3]][..], &body].concat()
    }

    /// The message in as few records as it needs.
    pub fn bytes(&self) -> Vec<u8> {
        fragments(&self.message(), 1 << 14)
    }
}
