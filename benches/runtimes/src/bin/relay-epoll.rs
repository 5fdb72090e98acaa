//! The relay on bare epoll: edge-triggered, one thread, no runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use runtimes::{BUFFER_BYTES, Ends, Failure, report};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Stands for the listener; a pair's sockets are twice its index and that plus one.
const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 1024;

/// One socket of a pair and what waits to be sent to it.
struct End {
    stream: TcpStream,
    queued: Vec<u8>,
    sent: usize,
    /// The other end has said all; FIN follows the queue.
    finish: bool,
    finished: bool,
}

impl End {
    fn new(stream: TcpStream) -> Self {
        Self { stream, queued: Vec::new(), sent: 0, finish: false, finished: false }
    }

    /// Sends what is queued, then FIN when it is due.
    fn flush(&mut self) -> std::io::Result<()> {
        while self.sent < self.queued.len() {
            match self.stream.write(&self.queued[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.queued.clear();
        self.sent = 0;
        if self.finish && !self.finished {
            self.finished = true;
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Sends at once what the queue is not in the way of, and queues the rest.
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut sent = 0;
        while self.queued.is_empty() && sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(length) => sent += length,
                Err(error) if would_block(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.queued.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}

/// Connecting counts as blocked: the first edge comes when it is over.
fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted)
}

struct Relay {
    ends: Ends,
    poll: OwnedFd,
    listener: TcpListener,
    pairs: Vec<Option<[End; 2]>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

impl Relay {
    fn accept(&mut self) -> Result<(), Failure> {
        loop {
            let downstream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let upstream = connect(&self.ends)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            for (side, stream) in [&downstream, &upstream].into_iter().enumerate() {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let data = EventData::new_u64((2 * index + side) as u64);
                epoll::add(&self.poll, stream, data, flags)?;
            }
            self.pairs[index] = Some([End::new(downstream), End::new(upstream)]);
        }
    }

    fn ready(&mut self, index: usize, side: usize, flags: EventFlags) {
        let Some(pair) = self.pairs.get_mut(index).and_then(Option::as_mut) else { return };
        let done = turn(pair, side, flags, &mut self.buffer).unwrap_or_else(|error| {
            report(Err(error));
            true
        });
        if done {
            self.pairs[index] = None;
            self.free.push(index);
        }
    }
}

/// Moves what one event allows; true when both directions are over.
fn turn(pair: &mut [End; 2], side: usize, flags: EventFlags, buffer: &mut [u8]) -> std::io::Result<bool> {
    let [downstream, upstream] = pair;
    let (here, there) = if side == 0 { (downstream, upstream) } else { (upstream, downstream) };
    let full = !here.queued.is_empty();
    if flags.contains(EventFlags::OUT) && (full || here.finish) {
        here.flush()?;
        if full {
            // What came meanwhile was left in the other socket, perhaps with its end.
            pump(there, here, true, buffer)?;
        }
    }
    let over = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
    if over || flags.contains(EventFlags::IN) {
        pump(here, there, over, buffer)?;
    }
    let broken = flags.contains(EventFlags::ERR) && there.finish;
    Ok(broken || (here.finished && there.finished))
}

/// Reads while the other end takes everything. A short read has emptied the socket, and the next edge tells of more;
/// only when the end may have come already does it take a read that finds nothing.
fn pump(from: &mut End, to: &mut End, to_the_end: bool, buffer: &mut [u8]) -> std::io::Result<()> {
    while !to.finish && to.queued.is_empty() {
        match from.stream.read(buffer) {
            Ok(0) => {
                to.finish = true;
                to.flush()?;
            }
            Ok(length) => {
                to.send(&buffer[..length])?;
                if length < buffer.len() && !to_the_end {
                    return Ok(());
                }
            }
            Err(error) if would_block(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts to connect; the socket does not block.
fn connect(ends: &Ends) -> Result<TcpStream, Failure> {
    let family = if ends.upstream.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &ends.upstream) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

fn main() -> Result<(), Failure> {
    let ends = Ends::from_command_line()?;
    let listener = ends.listener()?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let buffer = vec![0; BUFFER_BYTES];
    let mut relay = Relay { ends, poll, listener, pairs: Vec::new(), free: Vec::new(), buffer };
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&relay.poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut waiting = false;
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            match usize::try_from(data) {
                Ok(number) if data != LISTENER => relay.ready(number / 2, number % 2, flags),
                _ => waiting = true,
            }
        }
        // Last, so that a slot freed in this round is not taken while events for it may follow.
        if waiting {
            relay.accept()?;
        }
    }
}
