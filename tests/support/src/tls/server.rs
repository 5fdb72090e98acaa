//! A TLS server that records every handshake and passes the bytes on to a plain upstream of this crate.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{Acceptor, ClientHello};
use tokio_rustls::rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

use super::relay::{self, Ending, Facts, State};
use super::{Identity, Version, provider};
use crate::wait;

/// One connection as the server saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The PROXY protocol header before the handshake.
    pub header: Vec<u8>,
    /// The server name asked for.
    pub name: Option<String>,
    /// The protocols offered, in order.
    pub offered: Vec<String>,
    /// What was agreed upon; `None` when the handshake failed.
    pub facts: Option<Facts>,
    /// Why it failed.
    pub failure: Option<Ending>,
    state: Arc<State>,
}

impl Deref for Seen {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// What a server is like.
#[derive(Clone)]
pub struct Options {
    identity: Identity,
    alpn: Vec<String>,
    versions: Vec<Version>,
    suites: Vec<&'static str>,
    header: bool,
    refuses: bool,
    targets: Vec<(String, SocketAddr)>,
    finish: relay::Finish,
}

impl Options {
    /// A server that shows this certificate, asks for one, agrees upon no protocol, and passes on to `target`.
    pub fn new(identity: &Identity, target: SocketAddr) -> Self {
        Self {
            identity: identity.clone(),
            alpn: Vec::new(),
            versions: Version::BOTH.to_vec(),
            suites: Vec::new(),
            header: false,
            refuses: false,
            targets: vec![(String::new(), target)],
            finish: relay::Finish::Clean,
        }
    }

    /// Agrees upon the first of these that is offered.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|p| (*p).into()).collect();
        self
    }

    /// Passes connections that agreed upon `protocol` on to `target`.
    #[must_use]
    pub fn target(mut self, protocol: &str, target: SocketAddr) -> Self {
        self.targets.insert(0, (protocol.into(), target));
        self
    }

    /// Speaks these versions only.
    #[must_use]
    pub fn versions(mut self, versions: &[Version]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    /// Speaks these suites only.
    #[must_use]
    pub fn suites(mut self, suites: &[&'static str]) -> Self {
        self.suites = suites.to_vec();
        self
    }

    /// Demands a PROXY protocol header of either version before the handshake.
    #[must_use]
    pub fn header(mut self) -> Self {
        self.header = true;
        self
    }

    /// Refuses every client certificate, and clients without one.
    #[must_use]
    pub fn refuses(mut self) -> Self {
        self.refuses = true;
        self
    }

    /// How connections end when the target has ended them.
    #[must_use]
    pub fn finish(mut self, finish: relay::Finish) -> Self {
        self.finish = finish;
        self
    }

    fn config(&self, hello: &ClientHello<'_>) -> ServerConfig {
        let provider = provider(&self.suites, &[]);
        let tls12: Vec<_> = self.versions.iter().map(|v| v.supported()).collect();
        let verifier = Arc::new(Anyone { provider: provider.clone(), refuses: self.refuses });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&tls12)
            .expect("versions that our suites serve")
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.identity.chain.clone(), self.identity.key())
            .expect("certificate and key fit");
        let offered: Vec<Vec<u8>> = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
        let agreed = self.alpn.iter().find(|p| offered.contains(&p.as_bytes().to_vec()));
        config.alpn_protocols = agreed.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }
}

struct Shared {
    /// What is exchanged when a certificate rotates.
    options: Mutex<Options>,
    seen: Mutex<Vec<Seen>>,
    stop: AtomicBool,
    tickets: Arc<dyn tokio_rustls::rustls::server::ProducesTickets>,
}

/// The server; stops when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts it.
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind an ephemeral port");
        let address = listener.local_addr().expect("address of a bound socket");
        let tickets = tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer::new().expect("ticket keys");
        let shared = Arc::new(Shared {
            options: Mutex::new(options),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
            tickets,
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Some(socket) = crate::accept::next(&listener) {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                relay::runtime().spawn(async move { serve(socket, &shared).await });
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every handshake so far, in the order of their ends.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for handshake number `n`, from 0.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn wait_seen(&self, n: usize) -> Seen {
        let seen = wait::until(wait::PATIENCE, || self.seen().into_iter().nth(n));
        seen.expect("a handshake at the TLS server")
    }

    /// Shows another certificate from now on.
    pub fn rotate(&self, identity: &Identity) {
        self.shared.options.lock().unwrap_or_else(PoisonError::into_inner).identity = identity.clone();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; when this fails the listener is already gone.
        let _ = TcpStream::connect(self.address);
    }
}

async fn serve(socket: TcpStream, shared: &Shared) {
    let options = shared.options.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut seen = Seen::default();
    seen.state.finish_with(options.finish);
    let Ok(handle) = socket.try_clone() else { return };
    let _ = socket.set_nodelay(true);
    let record = |seen: Seen| shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    match shake(socket, &options, shared, &mut seen).await {
        Err(error) => {
            seen.failure = Some(error.into());
            record(seen);
        }
        Ok((tls, plain)) => {
            let state = Arc::clone(&seen.state);
            record(seen);
            relay::pump(tls, plain, handle, &state).await;
        }
    }
}

type Streams = (tokio_rustls::server::TlsStream<tokio::net::TcpStream>, tokio::net::TcpStream);

async fn shake(
    socket: TcpStream,
    options: &Options,
    shared: &Shared,
    seen: &mut Seen,
) -> std::io::Result<Streams> {
    let mut socket = relay::adopt(socket)?;
    if options.header {
        seen.header = header(&mut socket).await?;
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let hello = start.client_hello();
    seen.name = hello.server_name().map(str::to_owned);
    let offered = hello.alpn().into_iter().flatten();
    seen.offered = offered.map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    let mut config = options.config(&hello);
    config.ticketer = Arc::clone(&shared.tickets);
    let tls = start.into_stream(Arc::new(config)).await?;
    let facts = Facts::of(tls.get_ref().1);
    let agreed = facts.alpn.clone().unwrap_or_default();
    seen.facts = Some(facts);
    let target = options.targets.iter().find(|(protocol, _)| protocol.is_empty() || *protocol == agreed);
    let target = target.ok_or(std::io::ErrorKind::NotFound)?.1;
    Ok((tls, tokio::net::TcpStream::connect(target).await?))
}

/// Reads one PROXY protocol header and not a byte more.
async fn header(socket: &mut tokio::net::TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![socket.read_u8().await?];
    if bytes[0] == b'P' {
        while !bytes.ends_with(b"\r\n") && bytes.len() < 108 {
            bytes.push(socket.read_u8().await?);
        }
        return Ok(bytes);
    }
    while bytes.len() < 16 {
        bytes.push(socket.read_u8().await?);
    }
    let mut rest = vec![0; usize::from(u16::from_be_bytes([bytes[14], bytes[15]]))];
    socket.read_exact(&mut rest).await?;
    Ok([bytes, rest].concat())
}

/// Believes every client certificate, or none.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
    refuses: bool,
}

impl ClientCertVerifier for Anyone {
    fn client_auth_mandatory(&self) -> bool {
        self.refuses
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.refuses {
            return Err(Error::InvalidCertificate(tokio_rustls::rustls::CertificateError::UnknownIssuer));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
