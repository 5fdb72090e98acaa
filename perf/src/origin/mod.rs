//! The origin behind every proxy: a one-thread epoll loop that parses no more than it must, so that it
//! costs less than any proxy in front of it.

mod answer;
mod http2;
mod socket;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use answer::Answer;
use http2::Session;
use rustix::event::epoll;
use rustix::fd::AsRawFd;
use rustls::ServerConfig;
use socket::Socket;

use crate::credentials;

/// What the origin does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Answers each request head with the same bytes.
    Http,
    /// The same over HTTP/2, by prior knowledge.
    Http2,
    /// Sends back what it receives.
    Echo,
    /// Sends without end.
    Stream,
}

/// What the origin sends, and when.
struct Service {
    role: Role,
    /// Bytes of an HTTP/1.1 response, or of a message.
    payload: Vec<u8>,
    /// Of the HTTP/2 origin.
    answer: Answer,
    /// Requests that must be open at once before the first of them is answered; 0: none waits.
    hold: usize,
    tls: Option<Arc<ServerConfig>>,
}

struct Connection {
    stream: Socket,
    session: Option<Box<Session>>,
    /// Bytes of `\r\n\r\n` seen so far.
    matched: usize,
    /// What is still to be sent: whole responses, or octets of an echo.
    owed: usize,
    /// Sent octets of the response in progress.
    sent: usize,
}

/// Keys of the listening sockets in epoll stand above this.
const LISTENERS: u64 = u64::MAX - 16;
/// The origin is reachable under each of these, so that a cluster can have several endpoints.
const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// How long requests are held once all of them are there.
const HELD: Duration = Duration::from_millis(1500);

/// How the origin is called: `perf origin ROLE BODY HEADERS HOLD [--grpc]`.
#[derive(clap::Args)]
pub(crate) struct Options {
    role: String,
    /// Octets of a response's body or of a message.
    body: usize,
    /// Further fields of each response.
    headers: usize,
    /// HTTP/2: requests that must be open at once before the first of them is answered.
    hold: usize,
    /// HTTP/2: answers have the shape of a unary gRPC call's.
    #[arg(long)]
    grpc: bool,
    /// Answers under every address of this host.
    #[arg(long)]
    anywhere: bool,
    /// Speaks TLS and verifies clients, with the certificates in this directory.
    #[arg(long)]
    tls: Option<PathBuf>,
}

/// Prints its port and serves for ever.
pub(crate) fn serve(options: &Options) -> Result<(), String> {
    let role = match options.role.as_str() {
        "http" => Role::Http,
        "http2" => Role::Http2,
        "echo" => Role::Echo,
        "stream" => Role::Stream,
        other => return Err(format!("unknown origin {other:?}")),
    };
    let (body, headers) = (options.body, options.headers);
    let payload = match role {
        Role::Http => response(body, headers),
        Role::Http2 => Vec::new(),
        Role::Echo | Role::Stream => vec![b'x'; body.max(1)],
    };
    let fields = if role == Role::Http2 { headers } else { 0 };
    let answer = Answer::new(body, fields, options.grpc)?;
    let alpn = if role == Role::Http2 { "h2" } else { "http/1.1" };
    let tls = options.tls.as_ref().map(|directory| credentials::origin(directory, alpn)).transpose()?;
    let service = Service { role, payload, answer, hold: options.hold, tls };
    run(service, options.anywhere).map_err(|e| format!("origin: {e}"))
}

fn listeners(anywhere: bool) -> std::io::Result<Vec<TcpListener>> {
    if anywhere {
        return Ok(vec![TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?]);
    }
    let mut tries = 0;
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let others: std::io::Result<Vec<_>> =
            ADDRESSES.iter().skip(1).map(|a| TcpListener::bind((*a, port))).collect();
        tries += 1;
        match others {
            Ok(others) => return Ok(std::iter::once(first).chain(others).collect()),
            Err(e) if tries > 20 => return Err(e),
            // Somebody has that port on another address: take the next one.
            Err(_) => {}
        }
    }
}

fn run(mut service: Service, anywhere: bool) -> std::io::Result<()> {
    let listeners = listeners(anywhere)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (n, listener) in listeners.iter().enumerate() {
        rustix::net::listen(listener, 4096)?;
        listener.set_nonblocking(true)?;
        let key = epoll::EventData::new_u64(LISTENERS + n as u64);
        epoll::add(&poll, listener, key, epoll::EventFlags::IN)?;
    }
    if let Some(first) = listeners.first() {
        println!("{}", first.local_addr()?.port());
    }
    let mut connections: BTreeMap<u64, Connection> = BTreeMap::new();
    let mut buffer = vec![0u8; 256 * 1024];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let key = event.data.u64();
            if let Some(listener) = key.checked_sub(LISTENERS).and_then(|n| listeners.get(n as usize)) {
                accept(listener, &poll, &service, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&key)
                && !turn(connection, &service, &mut buffer)
            {
                connections.remove(&key);
            }
        }
        if service.hold > 0 {
            release(&mut service, &mut connections);
        }
    }
}

/// Once enough requests are held it waits a while, and then answers all of them.
fn release(service: &mut Service, connections: &mut BTreeMap<u64, Connection>) {
    let held: usize = connections.values().filter_map(|c| c.session.as_ref()).map(|s| s.held()).sum();
    if held < service.hold {
        return;
    }
    std::thread::sleep(HELD);
    service.hold = 0;
    connections.retain(|_, connection| {
        if let Some(session) = &mut connection.session {
            session.release(&service.answer);
        }
        flush(connection, service)
    });
}

/// A response as an application server sends it, with `headers` more fields.
fn response(body: usize, headers: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body}\r\n");
    for n in 0..headers {
        head.push_str(&format!("x-response-field-{n}: a value of ordinary length, number {n}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), &vec![b'x'; body]].concat()
}

fn accept(
    listener: &TcpListener,
    poll: &rustix::fd::OwnedFd,
    service: &Service,
    connections: &mut BTreeMap<u64, Connection>,
) -> std::io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = u64::try_from(stream.as_raw_fd()).unwrap_or(0);
        // Edge-triggered: one registration for a connection's whole life.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(poll, &stream, epoll::EventData::new_u64(key), flags)?;
        let session = (service.role == Role::Http2).then(|| Box::new(Session::new(service.hold > 0)));
        let stream = Socket::new(stream, service.tls.as_ref())?;
        connections.insert(key, Connection { stream, session, matched: 0, owed: 0, sent: 0 });
    }
}

/// Reads and writes until the socket blocks; false when the connection is over.
fn turn(connection: &mut Connection, service: &Service, buffer: &mut [u8]) -> bool {
    loop {
        match connection.stream.read(buffer) {
            Ok(0) => return false,
            Ok(n) => {
                let bytes = &buffer[..n];
                match service.role {
                    Role::Http => connection.owed += heads(bytes, &mut connection.matched),
                    Role::Http2 => {
                        let session = connection.session.as_mut();
                        if session.is_some_and(|session| !session.receive(bytes, &service.answer)) {
                            return false;
                        }
                    }
                    Role::Echo => connection.owed += n,
                    Role::Stream => {}
                }
                if !flush(connection, service) {
                    return false;
                }
                // A short read means the socket is empty; the next edge tells of more.
                if n < buffer.len() && connection.stream.is_plain() {
                    return true;
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return flush(connection, service),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// Counts the ends of heads; requests here have no body.
fn heads(bytes: &[u8], matched: &mut usize) -> usize {
    const END: &[u8; 4] = b"\r\n\r\n";
    let mut count = 0;
    for byte in bytes {
        *matched = if *byte == END[*matched] { *matched + 1 } else { usize::from(*byte == b'\r') };
        if *matched == END.len() {
            *matched = 0;
            count += 1;
        }
    }
    count
}

fn flush(connection: &mut Connection, service: &Service) -> bool {
    if let Some(session) = &mut connection.session {
        return flush_session(&mut connection.stream, session, &mut connection.sent, &service.answer);
    }
    let (role, payload) = (service.role, &service.payload);
    if !connection.stream.push() {
        return false;
    }
    loop {
        let (from, to) = match role {
            Role::Http if connection.owed > 0 => (connection.sent, payload.len()),
            Role::Echo if connection.owed > 0 => (0, connection.owed.min(payload.len())),
            Role::Stream => (0, payload.len()),
            Role::Http | Role::Http2 | Role::Echo => return true,
        };
        match connection.stream.write(&payload[from..to]) {
            Ok(n) => match role {
                Role::Http => {
                    connection.sent += n;
                    if connection.sent == payload.len() {
                        connection.sent = 0;
                        connection.owed -= 1;
                    }
                }
                Role::Echo => connection.owed -= n,
                Role::Http2 | Role::Stream => {}
            },
            Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// Writes what a session has to say until it has nothing more or the socket blocks.
fn flush_session(stream: &mut Socket, session: &mut Session, sent: &mut usize, answer: &Answer) -> bool {
    if !stream.push() {
        return false;
    }
    loop {
        if *sent == session.out.len() {
            session.out.clear();
            *sent = 0;
            session.fill(answer);
            if session.out.is_empty() {
                return true;
            }
        }
        match stream.write(&session.out[*sent..]) {
            Ok(n) => *sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_across_pieces() {
        let mut matched = 0;
        assert_eq!(heads(b"GET / HTTP/1.1\r\nhost: a\r", &mut matched), 0);
        assert_eq!(heads(b"\n\r\n", &mut matched), 1);
        assert_eq!(heads(b"a\r\n\r\nb\r\n\r\nc", &mut matched), 2);
        assert_eq!(matched, 0);
    }
}
