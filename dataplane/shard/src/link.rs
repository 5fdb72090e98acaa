//! One socket as the shard drives it: what is being received, what is queued, and how it ends.
//!
//! A link never looks into a byte. It keeps one receive and one send in flight, gathers everything that was
//! written during a turn into the next send, and turns reading off and on for back-pressure.

use millrace_base::Time;
use millrace_ring::{Filled, IoError, Op, Payload, RecvEnd, RelayEnd, Socket, Token};

use crate::held::Share;
pub(crate) use crate::io::Io;
use crate::io::{BULK_BUFFERS, QUEUE_HIGH_BYTES};
use crate::secure::Secure;

/// Bytes of one send. A send is answered when all of it was taken, so its size and the write-stall timeout
/// set the slowest reader that is still served (128 KiB in 60 s).
const SEND_BYTES_MAX: usize = 128 * 1024;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// Never asked, or stopped.
    No,
    /// Asked for, events may come.
    Yes,
    /// Asked to stop; `wanted` says what happens then.
    Stopping,
    /// A relay takes the bytes.
    Relayed,
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

/// Whether bytes of this source shall bypass user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bypass {
    No,
    /// As soon as reading has stopped and the sink has nothing left to send.
    Wanted,
    /// The kernel could not do it: not asked again before the next resume.
    Refused,
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
    bypass: Bypass,
    /// Full receive buffers since the last one that was not.
    full_buffers: u8,
    /// The source was bulk lately: of what comes next one buffer is taken to see whether it is again.
    once: bool,
    /// Never more than one buffer is received before somebody has looked at it.
    single: bool,
    /// What is being sent comes from a relay; `stalled` if it is this side that holds it up.
    relaying: bool,
    stalled: bool,
    in_flight: u32,
    /// Bytes in memory of the shard's own among them.
    own_in_flight: u32,
    /// What is queued and in flight of that.
    share: Option<Share>,
    /// Not read until less waits on the shard.
    starved: bool,
    /// When the send in flight began; a slow reader is found by it.
    pub(crate) send_started: Time,
    out: Payload,
    secure: Option<Box<Secure>>,
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
            bypass: Bypass::No,
            full_buffers: 0,
            once: false,
            single: false,
            relaying: false,
            stalled: false,
            in_flight: 0,
            own_in_flight: 0,
            share: None,
            starved: false,
            send_started: Time::ZERO,
            out: Payload::new(),
            secure: None,
        }
    }

    /// True when records of TLS travel here: nothing may bypass user space.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    pub(crate) fn set_secure(&mut self, secure: Secure) {
        self.secure = Some(Box::new(secure));
    }

    pub(crate) fn secure_ref(&self) -> Option<&Secure> {
        self.secure.as_deref()
    }

    pub(crate) fn secure_mut(&mut self) -> Option<&mut Secure> {
        self.secure.as_deref_mut()
    }

    /// The peer has said within the stream that nothing more comes; what still does is not looked at.
    pub(crate) fn end_receiving(&mut self) {
        self.receiving = Receiving::Ended;
    }

    /// Bytes written but not yet taken by the kernel. Records without any, on their way, count as one: whoever closes the
    /// link when nothing is left must not close it over `close_notify`.
    pub(crate) fn queued(&self) -> usize {
        self.out.len() + (self.in_flight as usize).max(usize::from(self.sending))
    }

    /// True while a send is in the kernel's hands.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending
    }

    /// The token that the end of the send in flight will carry.
    pub(crate) fn sending_token(&self) -> Option<Token> {
        self.sending.then_some(self.token)
    }

    /// Since when the peer has taken nothing of what is being sent to it.
    pub(crate) fn stalled_since(&self) -> Option<Time> {
        (self.sending && (!self.relaying || self.stalled)).then_some(self.send_started)
    }

    /// True when the peer has closed its write half or the socket failed.
    pub(crate) fn is_ended(&self) -> bool {
        self.receiving == Receiving::Ended
    }

    /// True when bytes are neither read nor about to be.
    pub(crate) fn is_paused(&self) -> bool {
        !self.wanted && self.receiving != Receiving::Ended
    }

    /// True when back-pressure may stop the reading.
    pub(crate) fn can_pause(&self) -> bool {
        !self.is_paused() && self.bypass != Bypass::Wanted
    }

    /// Starts reading, or goes on with it. A relay that has not begun is no longer wanted; one that was refused
    /// may be asked for again.
    pub(crate) fn resume(&mut self, io: &mut Io) {
        self.wanted = true;
        self.bypass = Bypass::No;
        if self.receiving == Receiving::No && !self.closed {
            self.receiving = Receiving::Yes;
            let (socket, token) = (self.socket, self.token);
            io.ops.push(match std::mem::take(&mut self.once) || self.single {
                true => Op::RecvOnce { socket, token },
                false => Op::Recv { socket, token },
            });
        }
    }

    /// Does not read on behind the one buffer that was just received; of links that take one buffer at a time.
    pub(crate) fn hold(&mut self) {
        self.wanted = false;
    }

    /// One buffer at a time or not, from the next receive on.
    pub(crate) fn set_single(&mut self, single: bool) {
        self.single = single;
    }

    /// From now on takes one buffer at a time: bytes that may have to wait come no faster than they are looked at. A
    /// receive that goes on by itself may bring half a megabyte before it hears of a pause.
    pub(crate) fn receive_singly(&mut self, io: &mut Io) {
        if std::mem::replace(&mut self.single, true) || self.receiving != Receiving::Yes || self.closed {
            return;
        }
        self.receiving = Receiving::Stopping;
        io.ops.push(Op::StopRecv { socket: self.socket });
    }

    /// Stops reading; bytes already taken from the kernel still arrive.
    pub(crate) fn pause(&mut self, io: &mut Io) {
        self.wanted = false;
        if self.receiving == Receiving::Yes && !self.closed {
            self.receiving = Receiving::Stopping;
            io.ops.push(Op::StopRecv { socket: self.socket });
        }
    }

    /// Stops reading until less waits on the shard, or whoever reads from here says otherwise.
    pub(crate) fn starve(&mut self, io: &mut Io) {
        self.pause(io);
        if !std::mem::replace(&mut self.starved, true) {
            io.held.starved.push_back(self.token);
        }
    }

    /// True from [`Link::starve`] on until the shard has looked at it again.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// The shard looks at it again.
    pub(crate) fn feed(&mut self) {
        self.starved = false;
    }

    /// Takes the end of a receive. `Some` when the stream itself ended: `Ok` for FIN, `Err` for a failure.
    pub(crate) fn receive_ended(&mut self, reason: RecvEnd, io: &mut Io) -> Option<Result<(), IoError>> {
        if self.receiving == Receiving::Ended {
            return None;
        }
        match reason {
            RecvEnd::Stopped => {
                self.receiving = Receiving::No;
                if self.wanted && self.bypass != Bypass::Wanted {
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

    /// Looks at the size of what was received; true when the source sends in bulk.
    pub(crate) fn is_bulk(&mut self, data: &Filled) -> bool {
        if self.is_secure() {
            return false;
        }
        let full = data.len() == data.buffer_bytes();
        self.full_buffers = if full { self.full_buffers.saturating_add(1) } else { 0 };
        usize::from(self.full_buffers) >= BULK_BUFFERS && self.bypass != Bypass::Refused
    }

    /// Takes bytes of this source one buffer at a time once it sends in bulk: those that no relay can carry (TLS) wait
    /// for their turn in the kernel, not in the shard's buffers.
    pub(crate) fn pace_bulk(&mut self, data: &Filled, io: &mut Io) {
        let full = data.len() == data.buffer_bytes();
        self.full_buffers = if full { self.full_buffers.saturating_add(1) } else { 0 };
        if usize::from(self.full_buffers) >= BULK_BUFFERS && !self.single {
            self.receive_singly(io);
        }
    }

    /// Asks for a relay: reading stops, and [`Link::start_relay`] begins once everything has left.
    pub(crate) fn want_relay(&mut self, io: &mut Io) {
        let possible = matches!(self.receiving, Receiving::Yes | Receiving::Stopping);
        if self.bypass == Bypass::No && possible && self.wanted && !self.closed {
            self.pause(io);
            self.bypass = Bypass::Wanted;
            // Not paused: nobody has to resume it.
            self.wanted = true;
        }
    }

    /// True when a relay from here could begin now.
    pub(crate) fn is_ready_for_relay(&self) -> bool {
        self.bypass == Bypass::Wanted && self.receiving == Receiving::No && !self.closed
    }

    /// Begins the relay that `from` wants, if both ends are ready for it.
    pub(crate) fn start_relay(from: &mut Self, to: &mut Self, limit: u64, io: &mut Io) -> bool {
        let sink_ready = !to.sending && !to.closed && to.out.is_empty() && to.fin == Fin::No;
        if !from.is_ready_for_relay() || !sink_ready {
            return false;
        }
        (from.receiving, from.bypass, from.full_buffers) = (Receiving::Relayed, Bypass::No, 0);
        (to.sending, to.relaying, to.stalled) = (true, true, false);
        // Something is on its way for as long as the relay runs.
        to.in_flight = 1;
        io.ops.push(Op::Relay { from: from.socket, to: to.socket, token: to.token, limit });
        true
    }

    /// Takes a report of the relay to this link. After its end the link sends again.
    pub(crate) fn relayed(&mut self, bytes: usize, sink_full: bool, over: bool, io: &mut Io) {
        if bytes > 0 || !self.stalled {
            self.send_started = io.now;
        }
        self.stalled = sink_full;
        if over {
            (self.sending, self.relaying, self.stalled) = (false, false, false);
            self.in_flight = 0;
            self.flush(io);
        }
    }

    /// Takes the end of the relay from this link, and reads on. `Some` as in [`Link::receive_ended`].
    pub(crate) fn relay_ended(&mut self, end: RelayEnd, io: &mut Io) -> Option<Result<(), IoError>> {
        if self.receiving != Receiving::Relayed {
            return None;
        }
        match end {
            RelayEnd::Eof => self.receive_ended(RecvEnd::Eof, io),
            RelayEnd::From(error) => self.receive_ended(RecvEnd::Error(error), io),
            RelayEnd::Unavailable => {
                let ended = self.receive_ended(RecvEnd::Stopped, io);
                self.bypass = Bypass::Refused;
                ended
            }
            RelayEnd::Limit | RelayEnd::Idle | RelayEnd::To(_) => {
                self.once = true;
                // One full buffer is enough to tell.
                self.full_buffers = BULK_BUFFERS as u8 - 1;
                self.receive_ended(RecvEnd::Stopped, io)
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

    pub(crate) fn mark(&mut self, io: &mut Io) {
        if self.sending {
            // What is written now waits.
            self.weigh(io);
        } else if !self.dirty {
            self.dirty = true;
            io.dirty.push(self.token);
        }
    }

    /// Counts what waits here in memory of the shard's own.
    fn weigh(&mut self, io: &Io) {
        let own = self.out.own_bytes() + self.own_in_flight as usize;
        Share::set(&mut self.share, &io.held, own);
    }

    /// Hands the gathered bytes to the kernel; called once a turn for dirty links.
    pub(crate) fn flush(&mut self, io: &mut Io) {
        self.dirty = false;
        if self.sending || self.closed {
            return;
        }
        if self.secure.is_some() {
            return self.flush_records(io);
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
            self.own_in_flight = payload.own_bytes() as u32;
            self.weigh(io);
            self.sending = true;
            self.send_started = io.now;
            io.ops.push(Op::Send { socket: self.socket, token: self.token, payload });
        } else if self.fin == Fin::Wanted {
            self.fin = Fin::Sent;
            io.ops.push(Op::Shutdown { socket: self.socket });
        }
    }

    /// As [`Link::flush`], through TLS: what waits for the end of the handshake stays.
    fn flush_records(&mut self, io: &mut Io) {
        let Some(secure) = &mut self.secure else { return };
        let finished = self.fin == Fin::Wanted;
        let speaks = !self.out.is_empty() || (finished && secure.owes_close());
        if secure.has_records() || (secure.is_established() && speaks) {
            let mut payload = io.payload();
            let plain = Self::seal_into(secure, &mut self.out, finished, &mut payload, io);
            if !payload.is_empty() {
                self.in_flight = plain as u32;
                self.own_in_flight = payload.own_bytes() as u32;
                self.weigh(io);
                (self.sending, self.send_started) = (true, io.now);
                io.ops.push(Op::Send { socket: self.socket, token: self.token, payload });
                return;
            }
            io.recycle(payload);
        }
        if finished {
            self.fin = Fin::Sent;
            io.ops.push(Op::Shutdown { socket: self.socket });
        }
    }

    /// Takes the answer to a send and goes on with what was written meanwhile. Returns how many bytes were sent, those
    /// of records not counted.
    pub(crate) fn sent(&mut self, payload: Payload, io: &mut Io) -> usize {
        (self.sending, self.own_in_flight) = (false, 0);
        if self.share.is_some() {
            self.weigh(io);
        }
        let sent = std::mem::take(&mut self.in_flight) as usize;
        io.recycle(payload);
        self.flush(io);
        sent
    }

    /// Takes back the payload of a send whose link is gone.
    pub(crate) fn orphaned(payload: Payload, io: &mut Io) {
        io.recycle(payload);
    }

    /// Closes the socket at once; unsent bytes are dropped. TLS says so first, behind records without data that are on
    /// their way; data on its way is cut, and an error still told.
    pub(crate) fn close(&mut self, io: &mut Io, reset: bool) {
        if !self.closed {
            self.closed = true;
            self.share = None;
            self.out.clear();
            let socket = self.socket;
            let speaks =
                self.in_flight == 0 || self.secure.as_ref().is_some_and(|secure| secure.has_failed());
            if self.secure.is_some() && !reset && speaks && self.say_farewell(socket, io) {
                return;
            }
            io.ops.push(Op::Close { socket: self.socket, reset });
        }
    }
}

#[cfg(test)]
mod tests;
