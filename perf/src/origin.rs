//! The origin behind every proxy: a one-thread epoll loop that parses no more than it must, so that it
//! costs less than any proxy in front of it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::event::epoll;
use rustix::fd::AsRawFd;

/// What the origin does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Answers each request head with the same bytes.
    Http,
    /// Sends back what it receives.
    Echo,
    /// Sends without end.
    Stream,
}

struct Connection {
    stream: TcpStream,
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

/// Prints its port and serves for ever. `headers` further fields stand in each response.
pub(crate) fn serve(role: &str, body: usize, headers: usize) -> Result<(), String> {
    let role = match role {
        "http" => Role::Http,
        "echo" => Role::Echo,
        "stream" => Role::Stream,
        other => return Err(format!("unknown origin {other:?}")),
    };
    let payload = match role {
        Role::Http => response(body, headers),
        Role::Echo | Role::Stream => vec![b'x'; body.max(1)],
    };
    run(role, &payload).map_err(|e| format!("origin: {e}"))
}

fn listeners() -> std::io::Result<Vec<TcpListener>> {
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

fn run(role: Role, payload: &[u8]) -> std::io::Result<()> {
    let listeners = listeners()?;
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
                accept(listener, &poll, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&key)
                && !turn(connection, role, payload, &mut buffer)
            {
                connections.remove(&key);
            }
        }
    }
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
        connections.insert(key, Connection { stream, matched: 0, owed: 0, sent: 0 });
    }
}

/// Reads and writes until the socket blocks; false when the connection is over.
fn turn(connection: &mut Connection, role: Role, payload: &[u8], buffer: &mut [u8]) -> bool {
    loop {
        match connection.stream.read(buffer) {
            Ok(0) => return false,
            Ok(n) => {
                match role {
                    Role::Http => connection.owed += heads(&buffer[..n], &mut connection.matched),
                    Role::Echo => connection.owed += n,
                    Role::Stream => {}
                }
                if !flush(connection, role, payload) {
                    return false;
                }
                // A short read means the socket is empty; the next edge tells of more.
                if n < buffer.len() {
                    return true;
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return flush(connection, role, payload),
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

fn flush(connection: &mut Connection, role: Role, payload: &[u8]) -> bool {
    loop {
        let (from, to) = match role {
            Role::Http if connection.owed > 0 => (connection.sent, payload.len()),
            Role::Echo if connection.owed > 0 => (0, connection.owed.min(payload.len())),
            Role::Stream => (0, payload.len()),
            Role::Http | Role::Echo => return true,
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
                Role::Stream => {}
            },
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
