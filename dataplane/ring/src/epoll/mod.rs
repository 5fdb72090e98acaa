//! The epoll back end: the same contract as io_uring by edge-triggered readiness, for hosts that forbid it.
//!
//! Sends are tried at once. Reads are done at the end of a turn, a bounded number a socket, so that a busy
//! peer cannot starve the others; what is left unread keeps its place in the queue for the next turn.

mod finish;
mod relaying;
mod start;

pub(crate) use finish::accept_queued;

use crate::relay::Pipes;
use crate::sys;
use crate::{BufferPool, Config, Event, IoError, Op, OpenError, Payload, Socket, Token, Waker};
use millrace_base::{Key, Slab};
use relaying::Relaying;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Buffers filled from one socket before the next one has its turn.
const READS_PER_TURN: usize = 4;
/// Connections accepted from one listener in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Connections accepted from a listener that is being closed: as many as the largest usual backlog.
const ACCEPTS_AT_CLOSE: usize = 4096;
/// Readiness reports taken in one call.
const REPORTS_MAX: usize = 256;
/// `epoll_data` of the waker; descriptors are below.
const WAKE: u64 = u64::MAX;

/// What a descriptor waits for.
#[derive(Default)]
struct Watched {
    /// In the epoll set.
    registered: bool,
    /// May have something to read: nothing proved the opposite since the last edge.
    readable: bool,
    /// The peer is done writing, or the connection failed: read on until it says so.
    hang_up: bool,
    /// In the queue of reads.
    queued: bool,
    shutdown_after_send: bool,
    /// The receive is for one buffer.
    once: bool,
    recv: Option<Token>,
    /// The relay that takes its bytes.
    relay: Option<Key>,
    role: Role,
}

/// The part of a descriptor's state that few of them have at a time.
#[derive(Default)]
enum Role {
    #[default]
    Idle,
    /// Key of the payload in `Epoll::sends`.
    Sending(Key),
    /// Key of the relay that gives it bytes.
    Relayed(Key),
    Connecting {
        token: Token,
    },
    Accepting {
        token: Token,
    },
}

struct Sending {
    token: Token,
    payload: Payload,
    sent: usize,
}

/// One epoll set.
pub struct Epoll {
    set: OwnedFd,
    pool: BufferPool,
    /// Indexed by descriptor.
    watched: Vec<Watched>,
    /// Sockets with a receive and something to read, longest waiting first.
    to_read: VecDeque<Socket>,
    connecting: Vec<(Token, Socket)>,
    reports: Vec<libc::epoll_event>,
    /// Sends that wait for room.
    sends: Slab<Sending>,
    relays: Slab<Relaying>,
    /// Relays that may go on, longest waiting first.
    to_relay: VecDeque<Key>,
    pipes: Pipes,
    waker: Waker,
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoll({} to read, {:?})", self.to_read.len(), self.pool)
    }
}

impl Epoll {
    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        let pool = BufferPool::new(config).map_err(|e| OpenError::System("mmap of buffers", e))?;
        let waker = Waker::new().map_err(|e| OpenError::System("eventfd", e))?;
        // SAFETY: creates a descriptor, touches no memory of ours.
        let fd = sys::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
            .map_err(|e| OpenError::System("epoll_create1", e))?;
        // SAFETY: the descriptor is fresh and nobody else owns it.
        let set = unsafe { OwnedFd::from_raw_fd(fd) };
        let epoll = Self {
            set,
            pool,
            watched: Vec::new(),
            to_read: VecDeque::new(),
            connecting: Vec::new(),
            reports: Vec::with_capacity(REPORTS_MAX),
            sends: Slab::new(),
            relays: Slab::new(),
            to_relay: VecDeque::new(),
            pipes: Pipes::default(),
            waker,
        };
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        epoll
            .control(libc::EPOLL_CTL_ADD, epoll.waker.descriptor(), events, WAKE)
            .map_err(|e| OpenError::System("epoll_ctl", e))?;
        Ok(epoll)
    }

    /// See [`Backend::turn`](crate::Backend::turn).
    pub(crate) fn turn(
        &mut self,
        ops: &mut Vec<Op>,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        let before = events.len();
        for op in ops.drain(..) {
            self.start(op, events);
        }
        let work_left = !self.to_read.is_empty() && !self.pool.none_free();
        let may_sleep = events.len() == before
            && !work_left
            && self.to_relay.is_empty()
            && timeout.is_none_or(|t| !t.is_zero())
            && self.waker.prepare_sleep();
        let waited = self.wait(if may_sleep { timeout } else { Some(Duration::ZERO) });
        if self.waker.finish_sleep() {
            events.push(Event::Wake);
        }
        waited?;
        for index in 0..self.reports.len() {
            let report = self.reports[index];
            self.finish(report.u64, report.events, events);
        }
        self.read_ready(events);
        self.pump_relays(events);
        Ok(())
    }

    pub(crate) fn buffers(&self) -> &BufferPool {
        &self.pool
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), IoError> {
        self.reports.clear();
        let (set, buffer) = (self.set.as_raw_fd(), self.reports.as_mut_ptr());
        let room = self.reports.capacity().min(REPORTS_MAX) as libc::c_int;
        // Rounded up, or the loop would spin through the last millisecond before a deadline.
        let millis =
            timeout.map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: the buffer has room for that many reports.
        match sys::check(unsafe { libc::epoll_wait(set, buffer, room, millis) }) {
            Ok(count) => {
                // SAFETY: the kernel filled in that many, at most the capacity.
                unsafe { self.reports.set_len(count as usize) };
                Ok(())
            }
            Err(error) if error.errno() == libc::EINTR => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn control(&self, operation: i32, fd: i32, events: u32, data: u64) -> Result<(), IoError> {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: reads a local.
        sys::check(unsafe { libc::epoll_ctl(self.set.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }

    /// State of a descriptor, made on first use.
    fn state(&mut self, socket: Socket) -> &mut Watched {
        let index = usize::try_from(socket.raw()).unwrap_or(0);
        if index >= self.watched.len() {
            self.watched.resize_with(index + 1, Watched::default);
        }
        &mut self.watched[index]
    }

    /// Puts a connection into the set; the first report tells what it is ready for.
    fn register(&mut self, socket: Socket) -> Result<(), IoError> {
        if self.state(socket).registered {
            return Ok(());
        }
        let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        self.control(libc::EPOLL_CTL_ADD, socket.raw(), events, socket.raw() as u64)?;
        self.state(socket).registered = true;
        Ok(())
    }

    fn unregister(&mut self, socket: Socket) {
        if std::mem::take(&mut self.state(socket).registered) {
            // Fails only for a descriptor that is gone, which is not in the set.
            let _ = self.control(libc::EPOLL_CTL_DEL, socket.raw(), 0, 0);
        }
    }

    /// Queues the socket for reading if it has a receive and may have something to read.
    fn queue_read(&mut self, socket: Socket) {
        let state = self.state(socket);
        if state.recv.is_some() && state.readable && !state.queued {
            state.queued = true;
            self.to_read.push_back(socket);
        }
    }
}

impl Drop for Epoll {
    /// Connects that nobody has heard of yet would leak their sockets.
    fn drop(&mut self) {
        for (_, socket) in self.connecting.drain(..) {
            sys::close(socket);
        }
    }
}
