//! What stands between a TLS socket and a plain one: bytes both ways, and how either side ended.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio_rustls::rustls::{AlertDescription, CommonState, Error, HandshakeKind};

use crate::{wait, wire};

/// What a handshake agreed upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1_2`, `TLSv1_3`.
    pub version: String,
    /// `TLS13_AES_128_GCM_SHA256` and the like.
    pub cipher: String,
    /// `X25519` and the like.
    pub group: String,
    /// The protocol agreed upon.
    pub alpn: Option<String>,
    /// DER of the peer's chain, leaf first.
    pub peer: Vec<Vec<u8>>,
    /// The session was resumed.
    pub resumed: bool,
}

impl Facts {
    pub(super) fn of(state: &CommonState) -> Self {
        let group = state.negotiated_key_exchange_group();
        Self {
            version: state.protocol_version().map(|v| format!("{v:?}")).unwrap_or_default(),
            cipher: state.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite())).unwrap_or_default(),
            group: group.map(|g| format!("{:?}", g.name())).unwrap_or_default(),
            alpn: state.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()),
            peer: state.peer_certificates().unwrap_or_default().iter().map(|c| c.to_vec()).collect(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// How the peer ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// close_notify.
    Clean,
    /// FIN without close_notify.
    Truncated,
    /// RST.
    Reset,
    /// A fatal alert.
    Alert(AlertDescription),
    /// Something else that rustls complained about.
    Fault(String),
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::AlertReceived(alert)) => Self::Alert(*alert),
            Some(other) => Self::Fault(other.to_string()),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof => Self::Truncated,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
                kind => Self::Fault(kind.to_string()),
            },
        }
    }
}

/// How our end of the plain socket ends the TLS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// close_notify, then FIN.
    #[default]
    Clean,
    /// FIN without close_notify.
    Truncate,
}

/// What is known of one relay.
#[derive(Debug, Default)]
pub struct State {
    ending: Mutex<Option<Ending>>,
    truncate: AtomicBool,
}

impl State {
    /// How the peer ended the connection, if it did.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the peer's end.
    ///
    /// # Panics
    /// When it does not come within [`wait::PATIENCE`].
    #[track_caller]
    pub fn wait_ending(&self) -> Ending {
        let ending = wait::until(wait::PATIENCE, || self.ending());
        ending.expect("an end of the TLS connection")
    }

    /// What our own end will look like.
    pub fn finish_with(&self, finish: Finish) {
        self.truncate.store(finish == Finish::Truncate, Ordering::SeqCst);
    }

    fn set(&self, ending: Ending) {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ending);
    }
}

/// The runtime of all relays, one thread.
pub(super) fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

/// Two ends of one loopback connection.
pub(super) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind an ephemeral port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect to ourselves");
    let far = listener.accept().expect("our own connection").0;
    // Only the timing of small pieces depends on these.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    (near, far)
}

/// Moves a blocking socket into the runtime; must run inside of it.
pub(super) fn adopt(socket: TcpStream) -> io::Result<tokio::net::TcpStream> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(socket)
}

/// Pumps until both directions are over. `socket` is a second handle of the TLS connection's socket.
pub(super) async fn pump<S>(tls: S, plain: tokio::net::TcpStream, socket: TcpStream, state: &State)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut secret_in, mut secret_out) = tokio::io::split(tls);
    let handle = plain.into_std().and_then(|s| Ok((adopt(s.try_clone()?)?, s)));
    let Ok((plain, plain_handle)) = handle else { return };
    let (mut plain_in, mut plain_out) = plain.into_split();
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match secret_in.read(&mut buffer).await {
                Ok(0) => {
                    state.set(Ending::Clean);
                    // The other end may already be gone.
                    let _ = plain_out.shutdown().await;
                    return Ok(());
                }
                Ok(n) if plain_out.write_all(&buffer[..n]).await.is_ok() => {}
                Ok(_) => return Err(()),
                Err(error) => {
                    state.set(error.into());
                    wire::reset(&plain_handle);
                    return Err(());
                }
            }
        }
    };
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match plain_in.read(&mut buffer).await {
                Ok(0) if state.truncate.load(Ordering::SeqCst) => {
                    let _ = secret_out.flush().await;
                    let _ = socket.shutdown(Shutdown::Write);
                    return Ok(());
                }
                Ok(0) => {
                    let _ = secret_out.shutdown().await;
                    return Ok(());
                }
                // A dead peer shows on the other direction, with its reason.
                Ok(n) => {
                    let sent = async {
                        secret_out.write_all(&buffer[..n]).await?;
                        secret_out.flush().await
                    };
                    if sent.await.is_err() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        return Err(());
                    }
                }
                Err(_) => {
                    wire::reset(&socket);
                    return Err(());
                }
            }
        }
    };
    // One direction in error ends the other, too.
    let _ = tokio::try_join!(down, up);
}
