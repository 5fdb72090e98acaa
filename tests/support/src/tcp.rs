//! Raw TCP upstreams, and addresses that refuse or swallow connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::rng::{BodyHash, Rng};

/// What a raw upstream does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Sends every byte back; answers FIN with FIN.
    Echo,
    /// Reads to FIN, then sends the hash of what it read in hexadecimal.
    Sink,
    /// Sends this many bytes of [`Rng`] with seed 1, then FIN.
    Source(usize),
    /// Sends a greeting and FIN at once, then reads to FIN.
    FinishFirst,
    /// Resets at the first byte.
    Reset,
    /// Reads and never writes.
    Silent,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicUsize,
    received: AtomicU64,
    hashes: Mutex<Vec<String>>,
}

/// A raw TCP upstream; stops when dropped.
pub struct TcpUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl TcpUpstream {
    /// Starts one.
    pub fn start(role: Role) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind an ephemeral port");
        let address = listener.local_addr().expect("address of a bound socket");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Some(stream) = crate::accept::next(&listener) {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                accepting.accepted.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve(stream, role, &shared));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes received so far on all connections.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::SeqCst)
    }

    /// The hash of what each finished connection sent, in the order of their FIN.
    pub fn hashes(&self) -> Vec<String> {
        self.shared.hashes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TcpUpstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; when this fails the listener is already gone.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, role: Role, shared: &Shared) {
    // A socket without a timeout would only make a failing test slower.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    match role {
        Role::Source(len) => {
            let _ = stream.write_all(&Rng::new(1).bytes(len));
            let _ = stream.shutdown(Shutdown::Write);
        }
        Role::FinishFirst => {
            let _ = stream.write_all(b"greeting");
            let _ = stream.shutdown(Shutdown::Write);
        }
        Role::Echo | Role::Sink | Role::Reset | Role::Silent => {}
    }
    let mut hash = BodyHash::default();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let n = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) => return,
        };
        shared.received.fetch_add(n as u64, Ordering::SeqCst);
        hash.add(&buffer[..n]);
        match role {
            Role::Reset => return crate::wire::reset(&stream),
            Role::Echo if stream.write_all(&buffer[..n]).is_err() => return,
            _ => {}
        }
    }
    shared.hashes.lock().unwrap_or_else(PoisonError::into_inner).push(hash.hex());
    if matches!(role, Role::Sink) {
        // The peer may have closed both ways; the test then reads the recorded hash.
        let _ = stream.write_all(hash.hex().as_bytes());
    }
}

/// A loopback port that refuses connections for as long as this value lives.
pub struct Refused {
    address: SocketAddr,
    _bound: Socket,
}

impl Refused {
    /// Binds a port without listening on it, so that nobody else can take it.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind an ephemeral port");
        let address =
            socket.local_addr().ok().and_then(|a| a.as_socket()).expect("address of a bound socket");
        Self { address, _bound: socket }
    }

    /// The refusing address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Default for Refused {
    fn default() -> Self {
        Self::new()
    }
}

/// A loopback port where connecting never ends: its accept queue is full and nobody accepts.
pub struct Blackhole {
    address: SocketAddr,
    _held: Vec<Socket>,
}

impl Blackhole {
    /// Fills the accept queue of a fresh listener.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind an ephemeral port");
        listener.listen(0).expect("listen");
        let address =
            listener.local_addr().ok().and_then(|a| a.as_socket()).expect("address of a bound socket");
        let mut held = vec![listener];
        for _ in 0..4 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            // In progress is the point.
            let _ = socket.connect(&address.into());
            held.push(socket);
        }
        std::thread::sleep(Duration::from_millis(20));
        Self { address, _held: held }
    }

    /// The swallowing address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Default for Blackhole {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_and_blackhole_do_what_they_say() {
        let refused = Refused::new();
        let error = TcpStream::connect(refused.address()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let hole = Blackhole::new();
        let error = TcpStream::connect_timeout(&hole.address(), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_sink_reports_the_hash() {
        let sink = TcpUpstream::start(Role::Sink);
        let mut stream = TcpStream::connect(sink.address()).unwrap();
        let bytes = Rng::new(3).bytes(100_000);
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, BodyHash::of(&bytes).hex());
    }
}
