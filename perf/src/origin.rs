//! The origin behind every proxy: a one-thread epoll loop that parses no more than it must, so that it
//! costs less than any proxy in front of it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::event::epoll;
use rustix::fd::AsRawFd;

/// What the origin does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
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

/// Prints its port and serves for ever.
pub(crate) fn serve(role: Role, body: usize) -> Result<(), String> {
    run(role, body).map_err(|e| format!("origin: {e}"))
}

fn run(role: Role, body: usize) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    let payload = match role {
        Role::Http => response(body),
        Role::Echo | Role::Stream => vec![b'x'; body.max(1)],
    };
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN)?;
    let mut connections: BTreeMap<u64, Connection> = BTreeMap::new();
    let mut buffer = vec![0u8; 256 * 1024];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key == u64::MAX {
                accept(&listener, &poll, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&key)
                && !turn(connection, role, &payload, &mut buffer)
            {
                connections.remove(&key);
            }
        }
    }
}

fn response(body: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body}\r\n\r\n");
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
