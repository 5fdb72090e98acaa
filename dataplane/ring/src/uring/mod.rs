//! The io_uring back end: multishot accept and receive with provided buffers, one `io_uring_enter` a turn.
//!
//! Every operation in flight is an entry of a generational slab, and `user_data` carries its key; a
//! completion of a socket that was closed finds its entry detached, whatever the descriptor means by then.

mod finish;
mod lend;
mod open;
mod relaying;
mod scratch;
mod start;

pub(crate) use finish::is_transient_accept;

use crate::relay::{Pipes, Relay};
use crate::{BufferPool, Event, IoError, Op, Payload, Socket, Token, Waker};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use lend::Lending;
use millrace_base::{Key, Slab};
use scratch::Scratch;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// `user_data` of completions that nobody waits for.
const IGNORED: u64 = 0;
/// `user_data` of the poll on the waker.
const WAKE: u64 = 1 << 56;
/// `Key::pack` kind of slab entries.
const WORK: u8 = 2;
/// The only buffer group.
const BUFFER_GROUP: u16 = 0;
/// Rounds of cancelling that dropping the back end may take, 10 ms each at most.
const DRAIN_ROUNDS_MAX: u32 = 100;

/// An operation that the kernel has, or (a starved receive) will get again.
enum Work {
    Accept {
        listener: Socket,
        token: Token,
        detached: bool,
    },
    Connect {
        socket: Socket,
        token: Token,
        canceled: bool,
    },
    /// `once`: a single shot. `next`: asked for while this one is being stopped, and whether as a single shot.
    Recv {
        socket: Socket,
        token: Token,
        once: bool,
        state: RecvState,
        next: Option<(Token, bool)>,
    },
    Send {
        socket: Socket,
        token: Token,
        payload: Payload,
        sent: usize,
        detached: bool,
    },
    /// `waiting`: a poll of one of its sockets is in flight.
    Relay {
        relay: Box<Relay>,
        waiting: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RecvState {
    Armed,
    /// The kernel had no buffer; armed again when there are some.
    Starved,
    /// Cancelled on the shard's request.
    Stopping,
    /// The socket was closed.
    Detached,
}

/// What is in flight on a descriptor that was not closed.
#[derive(Clone, Copy, Default)]
struct SocketState {
    /// The receive, or a listener's accept.
    input: Option<Key>,
    send: Option<Key>,
    shutdown_after_send: bool,
}

/// One ring. The field order matters: the ring is closed before the memory it uses goes away.
pub struct Uring {
    ring: IoUring,
    lending: Lending,
    scratch: Scratch,
    works: Slab<Work>,
    /// Indexed by descriptor.
    sockets: Vec<SocketState>,
    starved: VecDeque<Key>,
    connecting: Vec<Key>,
    /// Relays that can go on without waiting.
    relays: VecDeque<Key>,
    pipes: Pipes,
    /// Completions taken off the ring and not handled yet.
    completions: Vec<cqueue::Entry>,
    waker: Waker,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uring({} in flight, {:?})", self.works.len(), self.lending.pool())
    }
}

impl Uring {
    /// See [`Backend::turn`](crate::Backend::turn).
    pub(crate) fn turn(
        &mut self,
        ops: &mut Vec<Op>,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        let before = events.len();
        if self.lending.refill() && !self.starved.is_empty() {
            self.feed_starved()?;
        }
        for op in ops.drain(..) {
            self.start(op, events)?;
        }
        let may_sleep = events.len() == before
            && self.completions.is_empty()
            && self.relays.is_empty()
            && timeout.is_none_or(|t| !t.is_zero())
            && self.waker.prepare_sleep();
        let entered = if may_sleep { self.enter(1, timeout) } else { self.enter(0, None) };
        if self.waker.finish_sleep() {
            events.push(Event::Wake);
        }
        entered?;
        self.finish_all(events)?;
        self.pump_relays(events)
    }

    pub(crate) fn buffers(&self) -> &BufferPool {
        self.lending.pool()
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Submits what is queued, waits for `want` completions, and takes all there are off the ring.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> Result<(), IoError> {
        let result = match timeout {
            Some(timeout) if want > 0 => {
                let timespec = types::Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
                let args = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(want, &args)
            }
            _ => {
                let queued = self.ring.submission().len();
                // SAFETY: no argument is passed; the submitted entries point to living memory (see `push`).
                unsafe {
                    self.ring.submitter().enter::<libc::sigset_t>(
                        queued as u32,
                        want as u32,
                        // Without it deferred completions would not be run.
                        EnterFlags::GETEVENTS.bits(),
                        None,
                    )
                }
            }
        };
        self.completions.extend(self.ring.completion());
        if self.ring.submission().is_empty() {
            self.scratch.clear();
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error().unwrap_or(libc::EIO) {
                // EBUSY and EAGAIN: completions must be taken, or memory given back, before more is submitted.
                libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN => Ok(()),
                errno => Err(IoError::from_errno(errno)),
            },
        }
    }

    /// Makes room for one more entry and its scratch memory.
    fn make_room(&mut self) -> Result<(), IoError> {
        for _ in 0..1_000 {
            if !self.scratch.is_full() && !self.ring.submission().is_full() {
                return Ok(());
            }
            self.enter(0, None)?;
        }
        Err(IoError::from_errno(libc::EBUSY))
    }

    /// Queues an entry. What it points to is either scratch memory, which is kept until the submission, or
    /// the content of a `Work::Send`, which stays in the slab until its completion, or a lent buffer.
    fn push(&mut self, entry: &squeue::Entry) -> Result<(), IoError> {
        loop {
            // SAFETY: the entry's pointers are good for as long as the doc comment says.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.make_room()?;
        }
    }

    /// State of a descriptor, made on first use.
    fn state(&mut self, socket: Socket) -> &mut SocketState {
        let index = usize::try_from(socket.raw()).unwrap_or(0);
        if index >= self.sockets.len() {
            self.sockets.resize(index + 1, SocketState::default());
        }
        &mut self.sockets[index]
    }

    fn push_cancel(&mut self, key: Key) -> Result<(), IoError> {
        let entry = opcode::AsyncCancel::new(key.pack(WORK)).build().user_data(IGNORED);
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS))
    }

    fn push_recv(&mut self, key: Key, socket: Socket, once: bool) -> Result<(), IoError> {
        let (fd, room) = (types::Fd(socket.raw()), self.lending.pool().buffer_bytes() as u32);
        let entry = match once {
            // No address: the kernel picks a lent buffer.
            true => opcode::Recv::new(fd, std::ptr::null_mut(), room)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            false => opcode::RecvMulti::new(fd, BUFFER_GROUP).build(),
        };
        self.push(&entry.user_data(key.pack(WORK)))
    }

    fn push_accept(&mut self, key: Key, listener: Socket) -> Result<(), IoError> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let entry = opcode::AcceptMulti::new(types::Fd(listener.raw())).flags(flags).build();
        self.push(&entry.user_data(key.pack(WORK)))
    }

    fn push_wake(&mut self) -> Result<(), IoError> {
        let poll = opcode::PollAdd::new(types::Fd(self.waker.descriptor()), libc::POLLIN as u32);
        self.push(&poll.multi(true).build().user_data(WAKE))
    }

    /// Queues what is left of a send.
    fn push_send(&mut self, key: Key) -> Result<(), IoError> {
        self.make_room()?;
        let Some(Work::Send { socket, payload, sent, .. }) = self.works.get(key) else { return Ok(()) };
        let fd = types::Fd(socket.raw());
        // WAITALL: the kernel itself goes on after a partial send.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let first_two = {
            let mut slices = payload.slices_from(*sent);
            (slices.next(), slices.next())
        };
        let entry = match first_two {
            (Some(only), None) => {
                let length = u32::try_from(only.len()).unwrap_or(u32::MAX);
                opcode::Send::new(fd, only.as_ptr(), length).flags(flags).build()
            }
            _ => {
                let header = self.scratch.message(payload, *sent);
                opcode::SendMsg::new(fd, header).flags(flags as u32).build()
            }
        };
        self.push(&entry.user_data(key.pack(WORK)))
    }

    /// Arms as many starved receives as there are lent buffers, longest waiting first.
    fn feed_starved(&mut self) -> Result<(), IoError> {
        for _ in 0..self.lending.lent() {
            let Some(key) = self.starved.pop_front() else { break };
            // An entry that was stopped or closed meanwhile is gone from the slab.
            if let Some(Work::Recv { socket, once, state, .. }) = self.works.get_mut(key) {
                *state = RecvState::Armed;
                let (socket, once) = (*socket, *once);
                self.push_recv(key, socket, once)?;
            }
        }
        Ok(())
    }
}

impl Drop for Uring {
    /// Cancels everything and waits until the kernel lets go of our memory.
    fn drop(&mut self) {
        let mut events = Vec::new();
        self.drop_relays();
        for key in self.works.keys().collect::<Vec<_>>() {
            self.detach(key);
        }
        for _ in 0..DRAIN_ROUNDS_MAX {
            if self.works.is_empty() {
                return;
            }
            let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build().user_data(IGNORED);
            let done = self.push(&all).and_then(|()| self.enter(1, Some(Duration::from_millis(10))));
            if done.and_then(|()| self.finish_all(&mut events)).is_err() {
                break;
            }
        }
        // The kernel may still read or write there: leak it rather than reuse it.
        std::mem::forget(self.lending.pool().clone());
        std::mem::forget(std::mem::take(&mut self.works));
    }
}
