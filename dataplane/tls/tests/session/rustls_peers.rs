//! Both ends against rustls's buffered connections, whose records and key updates are not ours.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use millrace_config::{CipherSuite, TlsVersion};
use millrace_tls::TlsError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SignatureScheme, SupportedCipherSuite,
};

use crate::world::*;

/// Believes everybody, and keeps the staple that came last.
#[derive(Debug, Default)]
struct Anybody {
    staple: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.staple.lock().expect("one thread") = ocsp_response.to_vec();
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub fn rustls_client(suites: Vec<SupportedCipherSuite>) -> Connection {
    client_with(suites, Arc::default())
}

fn client_with(suites: Vec<SupportedCipherSuite>, verifier: Arc<Anybody>) -> Connection {
    let provider = rustls::crypto::CryptoProvider { cipher_suites: suites, ..default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from("server.test").expect("a name");
    Connection::Client(ClientConnection::new(Arc::new(config), name).expect("a client"))
}

fn rustls_server(kind: Kind, suites: Vec<SupportedCipherSuite>) -> Connection {
    let leaf = Authority::new("root").leaf(&["server.test"], kind);
    let chain = leaf.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::try_from(leaf.key.der().to_vec()).expect("a key");
    let provider = rustls::crypto::CryptoProvider { cipher_suites: suites, ..default_provider() };
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    Connection::Server(ServerConnection::new(Arc::new(config)).expect("a server"))
}

/// Moves everything both ways until nothing moves; what rustls received is returned.
pub fn pump(ours: &mut End, theirs: &mut Connection) -> Result<Vec<u8>, Error> {
    let mut received = Vec::new();
    loop {
        let bytes = ours.take();
        let mut left = &bytes[..];
        while !left.is_empty() {
            theirs.read_tls(&mut left).expect("memory");
            theirs.process_new_packets()?;
            // `WouldBlock` and the end are both the end here.
            let _ = theirs.reader().read_to_end(&mut received);
        }
        let mut bytes = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut bytes).expect("memory");
        }
        ours.feed(&bytes);
        if bytes.is_empty() && ours.output.is_empty() {
            return Ok(received);
        }
    }
}

fn talk(ours: &mut End, theirs: &mut Connection) {
    pump(ours, theirs).expect("a handshake");
    assert!(ours.session.is_established() && !theirs.is_handshaking(), "{:?}", ours.error);
    let mut expected = Vec::new();
    for (round, length) in [1, 100, 16_384, 16_385, 50_000].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + round) as u8).collect();
        ours.send(&bytes);
        assert_eq!(pump(ours, theirs).expect("our records"), bytes);
        theirs.writer().write_all(&bytes).expect("memory");
        expected.extend_from_slice(&bytes);
        pump(ours, theirs).expect("their records");
        if round % 2 == 1 && theirs.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
            theirs.refresh_traffic_keys().expect("a key update");
        }
    }
    assert_eq!(ours.data, expected);
    theirs.send_close_notify();
    pump(ours, theirs).expect("their end");
    assert!(ours.closed);
}

#[test]
fn every_suite_with_rustls_as_the_client() {
    let local = shard(&millrace_tls::Shared::new([1; 32]));
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let context =
            server_context(&downstream(&[Authority::new("root").leaf(&["server.test"], kind)]), &local);
        for suite in ALL_CIPHER_SUITES {
            let (mut ours, mut theirs) = (End::server(&context), rustls_client(vec![*suite]));
            let other = if kind == Kind::Rsa { "ECDSA" } else { "_RSA_" };
            if format!("{suite:?}").contains(other) {
                assert!(pump(&mut ours, &mut theirs).is_err());
                assert_eq!(ours.error.map(|error| error.details().contains("NO_SHARED_CIPHER")), Some(true));
                continue;
            }
            talk(&mut ours, &mut theirs);
            let facts = ours.session.facts().expect("established");
            assert!(!facts.cipher.is_empty() && facts.peer.is_none() && !facts.peer_validated);
        }
    }
}

#[test]
fn every_suite_with_rustls_as_the_server() {
    let local = shard(&millrace_tls::Shared::new([1; 32]));
    let context = client_context(&upstream(None, None), &local);
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        for suite in ALL_CIPHER_SUITES {
            let other = if kind == Kind::Rsa { "ECDSA" } else { "_RSA_" };
            if !format!("{suite:?}").contains(other) {
                talk(&mut End::to(&context), &mut rustls_server(kind, vec![*suite]));
            }
        }
    }
    let mut only = upstream(None, None);
    only.common.params.cipher_suites = vec![CipherSuite::EcdheRsaChacha20];
    only.common.params.maximum = TlsVersion::V1_2;
    let mut ours = End::to(&client_context(&only, &local));
    talk(&mut ours, &mut rustls_server(Kind::Rsa, ALL_CIPHER_SUITES.to_vec()));
    assert_eq!(ours.session.facts().expect("established").cipher, "ECDHE-RSA-CHACHA20-POLY1305");
}

#[test]
fn a_staple_goes_to_the_client() {
    const STAPLE: &[u8] = b"\x30\x03staple of no meaning";
    let ca = Authority::new("ca");
    let mut leaf = Arc::into_inner(ca.leaf(&["server.test"], Kind::Ecdsa)).expect("the only one");
    leaf.ocsp_staple = Some(Arc::from(STAPLE));
    let context = server_context(&downstream(&[Arc::new(leaf)]), &shard(&millrace_tls::Shared::new([1; 32])));
    for suite in
        [cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_128_GCM_SHA256]
    {
        let verifier = Arc::<Anybody>::default();
        let (mut ours, mut theirs) = (End::server(&context), client_with(vec![suite], verifier.clone()));
        pump(&mut ours, &mut theirs).expect("a handshake");
        assert!(ours.session.is_established() && !theirs.is_handshaking());
        assert_eq!(*verifier.staple.lock().expect("one thread"), STAPLE, "{suite:?}");
    }
}

/// rustls allows 32 key updates in a row; ours are bounded in the same way.
#[test]
fn key_updates_are_answered_and_bounded() {
    let local = shard(&millrace_tls::Shared::new([1; 32]));
    let context = server_context(&downstream(&[Authority::new("root").leaf(&["s"], Kind::Ecdsa)]), &local);
    let (mut ours, mut theirs) = (End::server(&context), rustls_client(ALL_CIPHER_SUITES.to_vec()));
    pump(&mut ours, &mut theirs).expect("a handshake");
    for round in 1..=4 {
        for _ in 0..30 {
            theirs.refresh_traffic_keys().expect("a key update");
            pump(&mut ours, &mut theirs).expect("heard");
        }
        theirs.writer().write_all(b"x").expect("memory");
        pump(&mut ours, &mut theirs).expect("data");
        assert_eq!((ours.data.len(), &ours.error), (round, &None));
        ours.send(b"y");
        assert_eq!(pump(&mut ours, &mut theirs).expect("under the newest keys"), b"y");
    }
    for _ in 0..33 {
        assert_eq!(ours.error, None);
        theirs.refresh_traffic_keys().expect("a key update");
        let mut bytes = Vec::new();
        theirs.write_tls(&mut bytes).expect("memory");
        ours.feed(&bytes);
    }
    assert_eq!(ours.error, Some(TlsError::Flood));
    assert!(!ours.output.is_empty());
}
