//! Records under the keys of a real connection, with contents that no library would send: empty ones, floods of KeyUpdate,
//! warning alerts, handshake messages out of place, and records that were changed on their way.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use std::sync::Arc;
use tokio_rustls::rustls::{
    ClientConnection, ConnectionTrafficSecrets, ExtractedSecrets, ServerConfig, ServerConnection,
};

use super::record::{Record, kind};
use super::{Client, Identity, Version, provider, record};
use crate::raw;
use crate::wire::Fault;

/// One direction's key.
struct Key {
    key: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
    chacha: bool,
}

impl Key {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => unreachable!("rustls has no other cipher"),
        };
        let chacha = std::ptr::eq(algorithm, &aead::CHACHA20_POLY1305);
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).expect("a key of its length"));
        Self { key, iv: iv.as_ref().to_vec(), sequence, chacha }
    }

    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.iv);
        for (at, byte) in self.sequence.to_be_bytes().iter().enumerate() {
            nonce[4 + at] ^= byte;
        }
        self.sequence += 1;
        nonce
    }
}

/// A connection whose records we write ourselves.
pub struct Sealed {
    raw: raw::Client,
    send: Key,
    receive: Key,
    version: Version,
}

impl Sealed {
    /// Shakes hands as `client` would, with one version.
    ///
    /// # Panics
    /// When the handshake fails.
    #[track_caller]
    pub fn connect(client: &Client, version: Version, address: SocketAddr) -> Self {
        let mut config = client.clone().versions(&[version]).config();
        config.enable_secret_extraction = true;
        let mut socket = TcpStream::connect(address).expect("connect to the proxy");
        let mut tls = ClientConnection::new(Arc::new(config), client.server_name()).expect("a client");
        while tls.is_handshaking() || tls.wants_write() {
            tls.complete_io(&mut socket).expect("a handshake");
        }
        Self::over(socket, tls.dangerous_extract_secrets().expect("the secrets"), version)
    }

    /// Shakes hands as a server that shows `identity`, with one version and without tickets.
    ///
    /// # Panics
    /// When the handshake fails.
    #[track_caller]
    pub fn accept(mut socket: TcpStream, identity: &Identity, version: Version) -> Self {
        let mut config = ServerConfig::builder_with_provider(provider(&[], &[]))
            .with_protocol_versions(&[version.supported()])
            .expect("a version that we serve")
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.key())
            .expect("certificate and key fit");
        config.enable_secret_extraction = true;
        config.send_tls13_tickets = 0;
        let mut tls = ServerConnection::new(Arc::new(config)).expect("a server");
        while tls.is_handshaking() || tls.wants_write() {
            if tls.wants_write() {
                tls.write_tls(&mut socket).expect("a peer that reads");
                continue;
            }
            // One record at a time: the first behind the handshake is ours to open.
            let mut record = vec![0; 5];
            socket.read_exact(&mut record).expect("a record's header");
            record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
            socket.read_exact(&mut record[5..]).expect("a record");
            let mut rest = &record[..];
            while !rest.is_empty() {
                tls.read_tls(&mut rest).expect("room for a record");
                tls.process_new_packets().expect("a handshake");
            }
        }
        Self::over(socket, tls.dangerous_extract_secrets().expect("the secrets"), version)
    }

    fn over(socket: TcpStream, secrets: ExtractedSecrets, version: Version) -> Self {
        let (send, receive) = (Key::new(secrets.tx), Key::new(secrets.rx));
        Self { raw: raw::Client::over(socket), send, receive, version }
    }

    /// A record with this content, sealed.
    pub fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.seal_padded(kind, content, 0)
    }

    /// As [`Sealed::seal`], with this many octets of padding, which TLS 1.3 alone has.
    pub fn seal_padded(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let sequence = self.send.sequence;
        let nonce = self.send.nonce();
        if self.version == Version::V13 {
            let mut sealed = [content, &[kind], &vec![0; padding]].concat();
            let length = u16::try_from(sealed.len() + 16).expect("a record");
            let head = [&[kind::APPLICATION_DATA, 3, 3][..], &length.to_be_bytes()].concat();
            self.append_tag(nonce, &head, &mut sealed);
            return [head, sealed].concat();
        }
        let length = u16::try_from(content.len()).expect("a record").to_be_bytes();
        let aad = [&sequence.to_be_bytes()[..], &[kind, 3, 3], &length].concat();
        let mut sealed = content.to_vec();
        self.append_tag(nonce, &aad, &mut sealed);
        let explicit: &[u8] = if self.send.chacha { &[] } else { &nonce[4..] };
        record::record(kind, 0x0303, &[explicit, &sealed].concat())
    }

    fn append_tag(&self, nonce: [u8; 12], aad: &[u8], sealed: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.send.key.seal_in_place_append_tag(nonce, Aad::from(aad), sealed).expect("a sealed record");
    }

    /// Seals and sends a record.
    pub fn send(&mut self, kind: u8, content: &[u8]) {
        let sealed = self.seal(kind, content);
        self.raw.send(&sealed);
    }

    /// Sends bytes as they are; a peer that is gone shows when reading.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.raw.send(bytes);
    }

    /// The connection below.
    pub fn raw(&mut self) -> &mut raw::Client {
        &mut self.raw
    }

    /// Reads and opens the next record: its real content type and content.
    ///
    /// # Errors
    /// How the connection ended instead.
    pub fn read(&mut self) -> Result<(u8, Vec<u8>), Fault> {
        let record = record::read(&mut self.raw)?;
        Ok(self.open(record))
    }

    fn open(&mut self, record: Record) -> (u8, Vec<u8>) {
        let Record { kind: outer, version, mut fragment } = record;
        let sequence = self.receive.sequence;
        let mut nonce = self.receive.nonce();
        let aad = if self.version == Version::V13 {
            let length = u16::try_from(fragment.len()).unwrap_or(u16::MAX);
            [&[outer][..], &version.to_be_bytes(), &length.to_be_bytes()].concat()
        } else {
            let explicit = if self.receive.chacha { 0 } else { 8 };
            if explicit > 0 {
                nonce[4..].copy_from_slice(&fragment[..8]);
            }
            let length = u16::try_from(fragment.len() - explicit - 16).unwrap_or(u16::MAX);
            fragment.drain(..explicit);
            [&sequence.to_be_bytes()[..], &[outer], &version.to_be_bytes(), &length.to_be_bytes()].concat()
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.receive.key.open_in_place(nonce, Aad::from(&aad), &mut fragment);
        let mut content = opened.expect("a record that opens").to_vec();
        if self.version == Version::V12 {
            return (outer, content);
        }
        while content.last() == Some(&0) {
            content.pop();
        }
        let inner = content.pop().expect("a content type");
        (inner, content)
    }

    /// Application data up to `end` in it; alerts and handshake messages end it, too.
    ///
    /// # Errors
    /// How the connection ended instead.
    pub fn data_until(&mut self, end: &str) -> Result<String, Fault> {
        let mut all = String::new();
        while !all.contains(end) {
            match self.read()? {
                (kind::APPLICATION_DATA, content) => all.push_str(&crate::strict::latin1(&content)),
                (kind::HANDSHAKE, _) => {}
                (other, content) => return Err(Fault::Grammar(format!("a record {other} {content:?}"))),
            }
        }
        Ok(all)
    }

    /// The first alert, or how the connection ended without one.
    ///
    /// # Errors
    /// How it ended.
    pub fn refusal(&mut self) -> Result<u8, Fault> {
        loop {
            if let (kind::ALERT, content) = self.read()? {
                return Ok(content.get(1).copied().unwrap_or(u8::MAX));
            }
        }
    }
}
