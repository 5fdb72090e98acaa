//! The load that no HTTP generator can make: lock-step TCP messages, and a stream that is only read. One
//! thread, epoll, closed loop.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::Tally;

struct Peer {
    stream: TcpStream,
    received: usize,
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).map_err(|e| format!("client: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// Messages of `size` octets out and back on every connection; with `size` 0 it only reads, and counts octets.
/// Prints what was done and how many connections broke.
pub(crate) fn run(address: SocketAddr, connections: usize, size: usize, seconds: f64) -> Result<(), String> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let mut peers = BTreeMap::new();
    for key in 0..connections as u64 {
        let stream = connect(address)?;
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(key), flags).map_err(|e| e.to_string())?;
        peers.insert(key, Peer { stream, received: 0 });
    }
    let message = vec![b'm'; size];
    let (mut done, mut errors) = (0, 0);
    for peer in peers.values_mut() {
        peer.stream.write_all(&message).map_err(|e| format!("client: first message: {e}"))?;
    }
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0u8; 256 * 1024]);
    let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while Instant::now() < deadline && !peers.is_empty() {
        events.clear();
        let space = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&poll, space, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(format!("client: {e}")),
        }
        for event in &events {
            let key = event.data.u64();
            let Some(peer) = peers.get_mut(&key) else { continue };
            match turn(peer, &message, &mut buffer) {
                Some(more) => done += more,
                None => {
                    errors += 1;
                    peers.remove(&key);
                }
            }
        }
    }
    println!("{done} {errors}");
    Ok(())
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

/// Reads what `run` printed about messages.
pub(super) fn read_echo(text: &str) -> Option<Tally> {
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    let (done, errors) = (words.next()?.ok()?, words.next()?.ok()?);
    Some(Tally { operations: done as f64, errors, latency: None })
}

/// Reads what `run` printed about octets of a stream; operations are MiB.
pub(super) fn read_stream(text: &str) -> Option<Tally> {
    let tally = read_echo(text)?;
    Some(Tally { operations: tally.operations / 1_048_576.0, ..tally })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        assert_eq!(read_echo("12 3\n").map(|t| (t.operations, t.errors)), Some((12.0, 3)));
        assert_eq!(read_stream("2097152 0\n").map(|t| (t.operations, t.errors)), Some((2.0, 0)));
        assert!(read_echo("12").is_none() && read_echo("a b").is_none());
    }
}
