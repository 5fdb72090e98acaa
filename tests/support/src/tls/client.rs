//! A TLS client that gives out a plain socket. It accepts every server certificate, so that a test can look at it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::relay::{self, Ending, Facts, State};
use super::{Identity, Version, provider};
use crate::any::{Caller, Version as Http};
use crate::wait::{self, PATIENCE};
use crate::{h2, raw};

/// A client and its session cache. Without more it offers TLS 1.2 and 1.3, no server name and no ALPN.
#[derive(Clone)]
pub struct Client {
    identity: Option<Identity>,
    name: Option<String>,
    alpn: Vec<String>,
    versions: Vec<Version>,
    suites: Vec<&'static str>,
    groups: Vec<&'static str>,
    before: Vec<u8>,
    /// Made once: rustls resumes sessions of the same configuration only.
    built: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// The plainest client.
    pub fn new() -> Self {
        Self {
            identity: None,
            name: None,
            alpn: Vec::new(),
            versions: Version::BOTH.to_vec(),
            suites: Vec::new(),
            groups: Vec::new(),
            before: Vec::new(),
            built: Arc::default(),
        }
    }

    /// Shows this certificate when asked.
    #[must_use]
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self.built = Arc::default();
        self
    }

    /// Asks for this server name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self.built = Arc::default();
        self
    }

    /// Offers these protocols.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|p| (*p).into()).collect();
        self.built = Arc::default();
        self
    }

    /// Offers these versions only.
    #[must_use]
    pub fn versions(mut self, versions: &[Version]) -> Self {
        self.versions = versions.to_vec();
        self.built = Arc::default();
        self
    }

    /// Offers these suites only, by their IANA names as rustls spells them.
    #[must_use]
    pub fn suites(mut self, suites: &[&'static str]) -> Self {
        self.suites = suites.to_vec();
        self.built = Arc::default();
        self
    }

    /// Offers these groups only.
    #[must_use]
    pub fn groups(mut self, groups: &[&'static str]) -> Self {
        self.groups = groups.to_vec();
        self.built = Arc::default();
        self
    }

    /// Sends these bytes before the handshake: a PROXY protocol header.
    #[must_use]
    pub fn before(mut self, bytes: &[u8]) -> Self {
        self.before = bytes.to_vec();
        self
    }

    /// The configuration for rustls.
    pub(super) fn config(&self) -> ClientConfig {
        let provider = provider(&self.suites, &self.groups);
        let versions: Vec<_> = self.versions.iter().map(|v| v.supported()).collect();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .expect("versions that our suites serve")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key())
                .expect("certificate and key fit"),
        };
        config.alpn_protocols = self.alpn.iter().map(|p| p.clone().into_bytes()).collect();
        config.resumption = Resumption::in_memory_sessions(32);
        config.enable_sni = self.name.is_some();
        config
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        let name = self.name.clone().unwrap_or_else(|| "unnamed.test".into());
        ServerName::try_from(name).expect("a server name")
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// How the handshake ended. With TLS 1.3 a server that dislikes our certificate says so behind the handshake:
    /// see [`Link::wait_ending`].
    pub fn try_connect(&self, address: SocketAddr) -> Result<Link, Ending> {
        use std::io::Write;
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.write_all(&self.before)?;
        self.try_over(socket)
    }

    /// Shakes hands on a connected socket.
    ///
    /// # Errors
    /// How the handshake ended.
    pub fn try_over(&self, socket: TcpStream) -> Result<Link, Ending> {
        let (plain, inner) = relay::pair();
        let state = Arc::new(State::default());
        let (tell, told) = mpsc::channel::<Result<Facts, Ending>>();
        let connector = TlsConnector::from(Arc::clone(self.built.get_or_init(|| Arc::new(self.config()))));
        let (name, kept, handle) = (self.server_name(), Arc::clone(&state), socket.try_clone()?);
        relay::runtime().spawn(async move {
            let streams = relay::adopt(socket).and_then(|s| Ok((s, relay::adopt(inner)?)));
            let shake = async {
                let (socket, inner) = streams?;
                let tls = tokio::time::timeout(PATIENCE, connector.connect(name, socket)).await;
                io::Result::Ok((tls.map_err(|_| io::ErrorKind::TimedOut)??, inner))
            };
            match shake.await {
                // Nobody waits any more when the receiver is gone.
                Err(error) => drop(tell.send(Err(error.into()))),
                Ok((tls, inner)) => {
                    let _ = tell.send(Ok(Facts::of(tls.get_ref().1)));
                    relay::pump(tls, inner, handle, &kept).await;
                }
            }
        });
        let facts = told.recv().unwrap_or_else(|_| Err(Ending::Fault("the relay is gone".into())))?;
        Ok(Link { plain, facts, state })
    }

    /// As [`Client::try_connect`], for handshakes that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> Link {
        match self.try_connect(address) {
            Ok(link) => link,
            Err(ending) => {
                assert_eq!(ending, Ending::Clean, "a handshake with {address}");
                unreachable!("the assertion above always fails")
            }
        }
    }

    /// As [`Client::refusal`]; `None` when the connection stays open for a second.
    pub fn try_refusal(&self, address: SocketAddr) -> Option<Ending> {
        match self.try_connect(address) {
            Ok(link) => wait::until(Duration::from_secs(1), || link.ending()),
            Err(ending) => Some(ending),
        }
    }

    /// How the peer refuses this client: during the handshake or behind it.
    ///
    /// # Panics
    /// When the peer does not end the connection.
    #[track_caller]
    pub fn refusal(&self, address: SocketAddr) -> Ending {
        match self.try_connect(address) {
            Ok(link) => link.wait_ending(),
            Err(ending) => ending,
        }
    }
}

impl From<Ending> for io::Error {
    fn from(ending: Ending) -> Self {
        Self::other(format!("{ending:?}"))
    }
}

/// A connection after its handshake.
pub struct Link {
    plain: TcpStream,
    /// What was agreed upon.
    pub facts: Facts,
    state: Arc<State>,
}

impl Deref for Link {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Link {
    /// The plain socket.
    pub fn into_plain(self) -> TcpStream {
        self.plain
    }

    fn handle(&self) -> TcpStream {
        self.plain.try_clone().expect("a second handle")
    }

    /// An HTTP/1.1 client, or one for any bytes.
    pub fn raw(&self) -> raw::Client {
        raw::Client::over(self.handle())
    }

    /// An HTTP/2 client.
    pub fn h2(&self) -> h2::Client {
        h2::Client::over(self.handle())
    }

    /// A client of either version.
    pub fn caller(&self, version: Http) -> Caller {
        match version {
            Http::Http1 => Caller::Http1(self.raw()),
            Http::Http2 => Caller::Http2(Box::new(self.h2())),
        }
    }
}

/// Believes every certificate; signatures must be right all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
