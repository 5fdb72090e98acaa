//! The load that `wrk` cannot make: lock-step TCP messages, a stream that is only read, and idle
//! connections. One thread, epoll, closed loop.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

/// What a client did: operations or octets, and connections that broke.
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) errors: u64,
}

struct Peer {
    stream: TcpStream,
    received: usize,
}

fn connect(port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("client: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// Messages of `size` octets out and back on every connection; with `size` 0 it only reads, and
/// counts octets.
pub(crate) fn run(port: u16, connections: usize, size: usize, seconds: f64) -> Result<Tally, String> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let mut peers = BTreeMap::new();
    for key in 0..connections as u64 {
        let stream = connect(port)?;
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(key), flags).map_err(|e| e.to_string())?;
        peers.insert(key, Peer { stream, received: 0 });
    }
    let message = vec![b'm'; size];
    let mut tally = Tally { done: 0, errors: 0 };
    for peer in peers.values_mut() {
        peer.stream.write_all(&message).map_err(|e| format!("client: first message: {e}"))?;
    }
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0u8; 256 * 1024]);
    let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while Instant::now() < deadline && !peers.is_empty() {
        events.clear();
        let space = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(&poll, space, Some(&tick)).map_err(|e| e.to_string())?;
        for event in &events {
            let key = event.data.u64();
            let Some(peer) = peers.get_mut(&key) else { continue };
            match turn(peer, &message, &mut buffer) {
                Some(done) => tally.done += done,
                None => {
                    tally.errors += 1;
                    peers.remove(&key);
                }
            }
        }
    }
    Ok(tally)
}

/// One read, and the next message when this one is complete; `None` when the connection broke.
fn turn(peer: &mut Peer, message: &[u8], buffer: &mut [u8]) -> Option<u64> {
    let n = match peer.stream.read(buffer) {
        Ok(0) => return None,
        Ok(n) => n,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Some(0),
        Err(_) => return None,
    };
    if message.is_empty() {
        return Some(n as u64);
    }
    peer.received += n;
    if peer.received < message.len() {
        return Some(0);
    }
    peer.received = 0;
    // A message fits a socket buffer that is empty in lock-step.
    peer.stream.write_all(message).ok()?;
    Some(1)
}

/// Opens connections, lets each serve one request, and holds them while `hold` runs.
pub(crate) fn idle<T>(port: u16, connections: usize, hold: impl FnOnce() -> T) -> Result<(T, Tally), String> {
    let mut kept = Vec::with_capacity(connections);
    let mut errors = 0;
    for _ in 0..connections {
        let mut stream = connect(port)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
        match one_request(&mut stream) {
            Ok(()) => kept.push(stream),
            Err(_) => errors += 1,
        }
    }
    let held = hold();
    Ok((held, Tally { done: kept.len() as u64, errors }))
}

fn one_request(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: perf.test\r\n\r\n")?;
    let mut received = Vec::new();
    let mut buffer = [0u8; 4096];
    while !complete(&received) {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..n]);
    }
    if received.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// True when a response by `content-length` is whole.
fn complete(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|v| v.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_its_body_is() {
        assert!(!complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"));
        assert!(!complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"));
        assert!(complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxy"));
    }
}
