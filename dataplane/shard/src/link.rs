//! One socket as the shard drives it: what is being received, what is queued, and how it ends.
//!
//! A link never looks into a byte. It keeps one receive and one send in flight, gathers everything that was
//! written during a turn into the next send, and turns reading off and on for back-pressure.

use millrace_base::Time;
use millrace_ring::{BufferPool, Filled, IoError, Op, Payload, RecvEnd, Socket, Token};

/// What the links of a shard share: the batch for the kernel, empty payloads, and who has something to send.
#[derive(Debug)]
pub(crate) struct Io {
    /// Handed to the back end at the end of the turn.
    pub(crate) ops: Vec<Op>,
    /// Tokens of links with unsent bytes.
    pub(crate) dirty: Vec<Token>,
    /// The turn's time.
    pub(crate) now: Time,
    pool: BufferPool,
    spare: Vec<Payload>,
}

/// Bytes of one send. A send is answered when all of it was taken, so its size and the write-stall timeout
/// set the slowest reader that is still served (128 KiB in 60 s).
const SEND_BYTES_MAX: usize = 128 * 1024;
/// Bytes queued towards one socket at the most before its source is paused (one piece more may arrive).
const QUEUE_HIGH_BYTES: usize = 128 * 1024;
/// The same while more than half of the receive buffers are on their way.
const QUEUE_TIGHT_BYTES: usize = 64 * 1024;
/// Empty payloads kept for reuse.
const SPARE_PAYLOADS_MAX: usize = 256;

impl Io {
    pub(crate) fn new(pool: BufferPool) -> Self {
        Self { ops: Vec::new(), dirty: Vec::new(), now: Time::ZERO, pool, spare: Vec::new() }
    }

    /// True when so few receive buffers are left that bytes which must wait are better copied: slow peers may
    /// hold three quarters of the buffers, never all of them.
    pub(crate) fn is_scarce(&self) -> bool {
        self.pool.outstanding() > self.pool.count() / 4 * 3
    }

    /// True when more than half of the receive buffers are on their way: queues are kept short.
    fn is_tight(&self) -> bool {
        self.pool.outstanding() > self.pool.count() / 2
    }

    /// Bytes queued towards a socket above which its source is no longer read. `limit` is
    /// `per_connection_buffer_limit_bytes`; a queue that keeps the socket busy needs less, and while receive
    /// buffers are in demand every queue is kept short, so that bulk traffic need not be copied.
    pub(crate) fn high_watermark(&self, limit: usize) -> usize {
        limit.min(if self.is_tight() { QUEUE_TIGHT_BYTES } else { QUEUE_HIGH_BYTES })
    }

    /// The buffers of the back end, for the invariant that all of them come home.
    pub(crate) fn pool(&self) -> &BufferPool {
        &self.pool
    }

    fn payload(&mut self) -> Payload {
        self.spare.pop().unwrap_or_default()
    }

    fn recycle(&mut self, mut payload: Payload) {
        payload.clear();
        if self.spare.len() < SPARE_PAYLOADS_MAX {
            self.spare.push(payload);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// Never asked, or stopped.
    No,
    /// Asked for, events may come.
    Yes,
    /// Asked to stop; `wanted` says what happens then.
    Stopping,
    /// The peer sent FIN, or the socket failed.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    No,
    /// After the queued bytes.
    Wanted,
    Sent,
}

/// The queue is short enough for its source to be read again.
pub(crate) fn low_watermark(limit: usize) -> usize {
    limit.min(QUEUE_HIGH_BYTES) / 2
}

/// One connected socket.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Socket,
    token: Token,
    receiving: Receiving,
    wanted: bool,
    sending: bool,
    dirty: bool,
    closed: bool,
    fin: Fin,
    in_flight: u32,
    /// When the send in flight began; a slow reader is found by it.
    pub(crate) send_started: Time,
    out: Payload,
}

impl Link {
    pub(crate) fn new(socket: Socket, token: Token) -> Self {
        Self {
            socket,
            token,
            receiving: Receiving::No,
            wanted: false,
            sending: false,
            dirty: false,
            closed: false,
            fin: Fin::No,
            in_flight: 0,
            send_started: Time::ZERO,
            out: Payload::new(),
        }
    }

    /// Bytes written but not yet taken by the kernel.
    pub(crate) fn queued(&self) -> usize {
        self.out.len() + self.in_flight as usize
    }

    /// True while a send is in the kernel's hands.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending
    }

    /// True when the peer has closed its write half or the socket failed.
    pub(crate) fn is_ended(&self) -> bool {
        self.receiving == Receiving::Ended
    }

    /// True when bytes are neither read nor about to be.
    pub(crate) fn is_paused(&self) -> bool {
        !self.wanted && self.receiving != Receiving::Ended
    }

    /// Starts reading, or goes on with it.
    pub(crate) fn resume(&mut self, io: &mut Io) {
        self.wanted = true;
        if self.receiving == Receiving::No && !self.closed {
            self.receiving = Receiving::Yes;
            io.ops.push(Op::Recv { socket: self.socket, token: self.token });
        }
    }

    /// Stops reading; bytes already taken from the kernel still arrive.
    pub(crate) fn pause(&mut self, io: &mut Io) {
        self.wanted = false;
        if self.receiving == Receiving::Yes && !self.closed {
            self.receiving = Receiving::Stopping;
            io.ops.push(Op::StopRecv { socket: self.socket });
        }
    }

    /// Takes the end of a receive. `Some` when the stream itself ended: `Ok` for FIN, `Err` for a failure.
    pub(crate) fn receive_ended(&mut self, reason: RecvEnd, io: &mut Io) -> Option<Result<(), IoError>> {
        match reason {
            RecvEnd::Stopped => {
                self.receiving = Receiving::No;
                if self.wanted {
                    self.resume(io);
                }
                None
            }
            RecvEnd::Eof => {
                self.receiving = Receiving::Ended;
                Some(Ok(()))
            }
            RecvEnd::Error(error) => {
                self.receiving = Receiving::Ended;
                Some(Err(error))
            }
        }
    }

    /// Lets `fill` append to the next send. Nothing is written to a closed or shut link.
    pub(crate) fn write(&mut self, io: &mut Io, fill: impl FnOnce(&mut Payload)) {
        if self.closed || self.fin != Fin::No {
            return;
        }
        if self.out.is_empty() && !self.dirty {
            self.out = io.payload();
        }
        fill(&mut self.out);
        self.mark(io);
    }

    /// Passes received bytes on, without a copy unless buffers are scarce.
    pub(crate) fn write_buffer(&mut self, io: &mut Io, data: Filled) {
        let copy = io.is_scarce();
        self.write(io, |payload| match copy {
            true => payload.push_bytes(&data),
            false => payload.push_buffer(data),
        });
    }

    /// Sends FIN behind everything written so far.
    pub(crate) fn shutdown(&mut self, io: &mut Io) {
        if self.fin == Fin::No && !self.closed {
            self.fin = Fin::Wanted;
            self.mark(io);
        }
    }

    fn mark(&mut self, io: &mut Io) {
        if !self.dirty && !self.sending {
            self.dirty = true;
            io.dirty.push(self.token);
        }
    }

    /// Hands the gathered bytes to the kernel; called once a turn for dirty links.
    pub(crate) fn flush(&mut self, io: &mut Io) {
        self.dirty = false;
        if self.sending || self.closed {
            return;
        }
        if !self.out.is_empty() {
            let payload = if self.out.len() > SEND_BYTES_MAX {
                let mut piece = io.payload();
                self.out.move_front(SEND_BYTES_MAX, &mut piece);
                piece
            } else {
                std::mem::take(&mut self.out)
            };
            self.in_flight = payload.len() as u32;
            self.sending = true;
            self.send_started = io.now;
            io.ops.push(Op::Send { socket: self.socket, token: self.token, payload });
        } else if self.fin == Fin::Wanted {
            self.fin = Fin::Sent;
            io.ops.push(Op::Shutdown { socket: self.socket });
        }
    }

    /// Takes the answer to a send and goes on with what was written meanwhile.
    pub(crate) fn sent(&mut self, payload: Payload, io: &mut Io) {
        self.sending = false;
        self.in_flight = 0;
        io.recycle(payload);
        self.flush(io);
    }

    /// Takes back the payload of a send whose link is gone.
    pub(crate) fn orphaned(payload: Payload, io: &mut Io) {
        io.recycle(payload);
    }

    /// Closes the socket at once; unsent bytes are dropped.
    pub(crate) fn close(&mut self, io: &mut Io, reset: bool) {
        if !self.closed {
            self.closed = true;
            self.out.clear();
            io.ops.push(Op::Close { socket: self.socket, reset });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> (Link, Io) {
        let config = millrace_ring::Config { buffers: 4, buffer_bytes: 64, ..Default::default() };
        (Link::new(Socket::from_raw(7), Token(9)), Io::new(BufferPool::new(&config).unwrap()))
    }

    #[test]
    fn one_send_in_flight_and_everything_else_is_gathered() {
        let (mut link, mut io) = link();
        link.write(&mut io, |p| p.push_bytes(b"a"));
        link.write(&mut io, |p| p.push_bytes(b"b"));
        assert_eq!(io.dirty.len(), 1);
        link.flush(&mut io);
        let Some(Op::Send { payload, .. }) = io.ops.pop() else { panic!("a send") };
        assert_eq!(payload.to_vec(), b"ab");
        link.write(&mut io, |p| p.push_bytes(b"c"));
        assert_eq!((link.queued(), io.dirty.len()), (3, 1), "a link that is sending needs no mark");
        link.shutdown(&mut io);
        link.sent(payload, &mut io);
        let Some(Op::Send { payload, .. }) = io.ops.pop() else { panic!("the rest") };
        assert_eq!((link.queued(), io.ops.len()), (1, 0), "no FIN before the last byte");
        link.sent(payload, &mut io);
        assert!(matches!(io.ops.pop(), Some(Op::Shutdown { .. })));
    }

    #[test]
    fn a_resume_during_a_stop_reads_again_once_it_took_effect() {
        let (mut link, mut io) = link();
        link.resume(&mut io);
        link.pause(&mut io);
        link.resume(&mut io);
        assert_eq!(io.ops.len(), 2, "one receive, one stop");
        assert!(link.receive_ended(RecvEnd::Stopped, &mut io).is_none());
        assert!(matches!(io.ops.last(), Some(Op::Recv { .. })));
        assert_eq!(link.receive_ended(RecvEnd::Eof, &mut io), Some(Ok(())));
        link.resume(&mut io);
        assert_eq!(io.ops.len(), 3, "an ended stream is not read again");
    }
}
