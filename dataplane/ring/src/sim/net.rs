//! Sockets and wires of the simulated network.

use super::faults::{FaultPlan, part_of, strikes};
use crate::{IoError, SocketAddress};
use millrace_base::{Rng, Time};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What travels to an endpoint.
#[derive(Debug)]
pub(super) enum Segment {
    Bytes(VecDeque<u8>),
    Fin,
    Reset,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) local: SocketAddress,
    pub(super) remote: SocketAddress,
    pub(super) original: Option<SocketAddress>,
    /// The other end, until it is closed.
    peer: Option<i32>,
    inbox: VecDeque<(Time, Segment)>,
    /// Bytes in the inbox, arrived or not.
    inbox_bytes: usize,
    last_arrival: Time,
    written: u64,
    /// The connection breaks when that many bytes were written here.
    reset_at: Option<u64>,
    wrote_fin: bool,
    broken: bool,
}

#[derive(Debug)]
pub(super) enum Entry {
    Free,
    Listener { address: SocketAddress, backlog: VecDeque<i32> },
    Stream(Box<Endpoint>),
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadResult {
    Nothing,
    Bytes(Vec<u8>),
    Eof,
    Reset,
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Time,
    pub(super) rng: Rng,
    pub(super) plan: FaultPlan,
    entries: Vec<Entry>,
    next_port: u16,
}

impl Net {
    pub(super) fn new(seed: u64, plan: FaultPlan) -> Self {
        Self { now: Time(1_000_000_000), rng: Rng::new(seed), plan, entries: Vec::new(), next_port: 1024 }
    }

    /// Stores an entry under the lowest free id, as the kernel does with descriptors.
    fn add(&mut self, entry: Entry) -> i32 {
        let free = self.entries.iter().position(|entry| matches!(entry, Entry::Free));
        let index = free.unwrap_or(self.entries.len());
        match self.entries.get_mut(index) {
            Some(slot) => *slot = entry,
            None => self.entries.push(entry),
        }
        index as i32
    }

    pub(super) fn stream(&self, id: i32) -> Option<&Endpoint> {
        match self.entries.get(usize::try_from(id).ok()?)? {
            Entry::Stream(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    pub(super) fn stream_mut(&mut self, id: i32) -> Option<&mut Endpoint> {
        match self.entries.get_mut(usize::try_from(id).ok()?)? {
            Entry::Stream(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    pub(super) fn backlog(&mut self, id: i32) -> Option<&mut VecDeque<i32>> {
        match self.entries.get_mut(usize::try_from(id).ok()?)? {
            Entry::Listener { backlog, .. } => Some(backlog),
            _ => None,
        }
    }

    pub(super) fn has_backlog(&self, id: i32) -> bool {
        let entry = usize::try_from(id).ok().and_then(|index| self.entries.get(index));
        matches!(entry, Some(Entry::Listener { backlog, .. }) if !backlog.is_empty())
    }

    pub(super) fn listener_address(&self, id: i32) -> Option<&SocketAddress> {
        match self.entries.get(usize::try_from(id).ok()?)? {
            Entry::Listener { address, .. } => Some(address),
            _ => None,
        }
    }

    /// An address with a port of its own.
    pub(super) fn fresh_address(&mut self, ip: IpAddr) -> SocketAddress {
        self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        SocketAddress::Inet(SocketAddr::new(ip, self.next_port))
    }

    pub(super) fn listen(&mut self, address: SocketAddress) -> Result<i32, IoError> {
        match self.find_listener(&address, false) {
            Some(_) => Err(IoError::from_errno(libc::EADDRINUSE)),
            None => Ok(self.add(Entry::Listener { address, backlog: VecDeque::new() })),
        }
    }

    fn find_listener(&self, wanted: &SocketAddress, wildcard: bool) -> Option<usize> {
        self.entries.iter().position(|entry| match entry {
            Entry::Listener { address, .. } if address == wanted => true,
            Entry::Listener { address: SocketAddress::Inet(a), .. } if wildcard => {
                a.ip().is_unspecified() && Some(a.port()) == wanted.port()
            }
            _ => false,
        })
    }

    /// Connects to the listener of `to`; returns the connecting end. The other end waits in the backlog.
    /// `original` is where the connection was going before a redirect.
    pub(super) fn connect(
        &mut self,
        to: &SocketAddress,
        from: Option<SocketAddr>,
        original: Option<SocketAddress>,
    ) -> Result<i32, IoError> {
        let found = self.find_listener(to, false).or_else(|| self.find_listener(to, true));
        let listener = found.ok_or(IoError::REFUSED)?;
        let from = match from {
            Some(address) if address.port() != 0 => SocketAddress::Inet(address),
            Some(address) => self.fresh_address(address.ip()),
            None => self.fresh_address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        let near = self.endpoint(from.clone(), to.clone(), None);
        let near = self.add(Entry::Stream(near));
        let mut far = self.endpoint(to.clone(), from, original);
        far.peer = Some(near);
        let far = self.add(Entry::Stream(far));
        if let Some(endpoint) = self.stream_mut(near) {
            endpoint.peer = Some(far);
        }
        if let Entry::Listener { backlog, .. } = &mut self.entries[listener] {
            backlog.push_back(far);
        }
        Ok(near)
    }

    fn endpoint(
        &mut self,
        local: SocketAddress,
        remote: SocketAddress,
        original: Option<SocketAddress>,
    ) -> Box<Endpoint> {
        let resets = strikes(&mut self.rng, self.plan.resets);
        let reset_at = resets.then(|| self.rng.below(self.plan.reset_within + 1));
        Box::new(Endpoint {
            local,
            remote,
            original,
            peer: None,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            last_arrival: Time::ZERO,
            written: 0,
            reset_at,
            wrote_fin: false,
            broken: false,
        })
    }

    /// Puts a segment on the wire to `id`; segments arrive in order.
    fn deliver(&mut self, id: i32, segment: Segment) {
        let arrival = self.now + self.plan.latency(&mut self.rng);
        if let Some(endpoint) = self.stream_mut(id) {
            let arrival = arrival.max(endpoint.last_arrival);
            endpoint.last_arrival = arrival;
            if let Segment::Bytes(bytes) = &segment {
                endpoint.inbox_bytes += bytes.len();
            }
            endpoint.inbox.push_back((arrival, segment));
        }
    }

    /// Writes what fits into the window.
    pub(super) fn write(&mut self, id: i32, bytes: &[u8]) -> Result<usize, IoError> {
        let window = self.plan.window;
        let Some(endpoint) = self.stream(id) else { return Err(IoError::from_errno(libc::EBADF)) };
        if endpoint.broken || endpoint.wrote_fin {
            return Err(IoError::from_errno(libc::EPIPE));
        }
        let reset =
            |(arrival, segment): &(Time, Segment)| *arrival <= self.now && matches!(segment, Segment::Reset);
        if endpoint.inbox.iter().any(reset) {
            return Err(IoError::RESET);
        }
        let (written, reset_at) = (endpoint.written, endpoint.reset_at);
        let Some(peer) = endpoint.peer else {
            // The other side is closed: its kernel answers with a RST.
            self.deliver(id, Segment::Reset);
            return Ok(bytes.len());
        };
        let space = window.saturating_sub(self.stream(peer).map_or(0, |peer| peer.inbox_bytes));
        let mut count = space.min(bytes.len());
        if count > 0 && strikes(&mut self.rng, self.plan.short_writes) {
            count = part_of(&mut self.rng, count);
        }
        let breaks = reset_at.filter(|at| written + count as u64 >= *at);
        if let Some(at) = breaks {
            count = at.saturating_sub(written) as usize;
        }
        if count > 0 {
            self.deliver(peer, Segment::Bytes(bytes[..count].iter().copied().collect()));
        }
        if let Some(endpoint) = self.stream_mut(id) {
            endpoint.written += count as u64;
        }
        if breaks.is_some() {
            for end in [id, peer] {
                self.deliver(end, Segment::Reset);
            }
            if let Some(endpoint) = self.stream_mut(id) {
                endpoint.reset_at = None;
                endpoint.broken = true;
            }
            // Taken by the kernel, and lost.
            return Ok(bytes.len());
        }
        Ok(count)
    }

    /// When the next segment arrives, or arrived.
    pub(super) fn arrival(&self, id: i32) -> Option<Time> {
        self.stream(id)?.inbox.front().map(|(arrival, _)| *arrival)
    }

    /// Bytes that a write would take, or fail on, at once.
    pub(super) fn room(&self, id: i32) -> usize {
        let Some(endpoint) = self.stream(id) else { return self.plan.window };
        if endpoint.broken || endpoint.wrote_fin {
            return self.plan.window;
        }
        let unread = endpoint.peer.and_then(|peer| self.stream(peer)).map_or(0, |peer| peer.inbox_bytes);
        self.plan.window.saturating_sub(unread)
    }

    /// Reads up to `room` bytes of what has arrived.
    pub(super) fn read(&mut self, id: i32, room: usize) -> ReadResult {
        let now = self.now;
        let mut room = room;
        if strikes(&mut self.rng, self.plan.short_reads) {
            room = part_of(&mut self.rng, room);
        }
        let overtakes = strikes(&mut self.rng, self.plan.resets_overtake);
        let Some(endpoint) = self.stream_mut(id) else { return ReadResult::Reset };
        let arrived_reset =
            |(arrival, segment): &(Time, Segment)| *arrival <= now && matches!(segment, Segment::Reset);
        if overtakes && endpoint.inbox.iter().any(arrived_reset) {
            endpoint.inbox.retain(|(_, segment)| matches!(segment, Segment::Reset));
            endpoint.inbox_bytes = 0;
        }
        let mut bytes = Vec::new();
        while room > bytes.len()
            && let Some((_, segment)) = endpoint.inbox.front_mut().filter(|(arrival, _)| *arrival <= now)
        {
            match segment {
                Segment::Bytes(more) => {
                    let count = more.len().min(room - bytes.len());
                    bytes.extend(more.drain(..count));
                    endpoint.inbox_bytes -= count;
                    if more.is_empty() {
                        endpoint.inbox.pop_front();
                    }
                }
                _ if !bytes.is_empty() => break,
                // Stays: every later read sees the end as well.
                Segment::Fin => return ReadResult::Eof,
                Segment::Reset => {
                    endpoint.broken = true;
                    return ReadResult::Reset;
                }
            }
        }
        if bytes.is_empty() { ReadResult::Nothing } else { ReadResult::Bytes(bytes) }
    }

    /// Closes the write half.
    pub(super) fn shutdown(&mut self, id: i32) {
        let Some(endpoint) = self.stream_mut(id) else { return };
        let broken = endpoint.broken;
        let first = !std::mem::replace(&mut endpoint.wrote_fin, true);
        if let Some(peer) = endpoint.peer.filter(|_| first && !broken) {
            self.deliver(peer, Segment::Fin);
        }
    }

    /// Closes a socket or listener; its id is free at once.
    pub(super) fn close(&mut self, id: i32, reset: bool) {
        let Ok(index) = usize::try_from(id) else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        match std::mem::replace(entry, Entry::Free) {
            Entry::Free => {}
            Entry::Listener { backlog, .. } => backlog.into_iter().for_each(|id| self.close(id, true)),
            Entry::Stream(endpoint) => {
                let Some(peer) = endpoint.peer else { return };
                // Closing over unread bytes is a RST, as in TCP.
                if reset || endpoint.inbox_bytes > 0 {
                    self.deliver(peer, Segment::Reset);
                } else if !endpoint.wrote_fin && !endpoint.broken {
                    self.deliver(peer, Segment::Fin);
                }
                if let Some(other) = self.stream_mut(peer) {
                    other.peer = None;
                }
            }
        }
    }

    /// Sockets and listeners that are open, on all sides.
    pub(super) fn open_count(&self) -> usize {
        self.entries.iter().filter(|entry| !matches!(entry, Entry::Free)).count()
    }
}
