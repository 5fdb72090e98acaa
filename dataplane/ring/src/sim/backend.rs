//! The back end of one shard on the simulated network.

use super::faults::strikes;
use super::net::{Net, ReadResult};
use super::peer::SimNet;
use super::relaying::Relaying;
use crate::{
    Accepted, BufferPool, Config, ConnectOptions, Event, IoError, Op, OpenError, Payload, RecvEnd, Socket,
    SocketAddress, Token, Waker,
};
use millrace_base::Time;
use std::cell::RefMut;
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads of one socket in one turn.
const READS_PER_TURN: u64 = 4;

/// An operation that may make progress from `not_before` on.
#[derive(Debug)]
pub(super) struct Pending<T> {
    pub(super) token: Token,
    pub(super) not_before: Time,
    pub(super) work: T,
}

#[derive(Debug)]
struct Sending {
    payload: Payload,
    sent: usize,
}

#[derive(Debug)]
struct Connecting {
    address: SocketAddress,
    options: Box<ConnectOptions>,
    /// Decided by the fault plan at the start.
    fails: Option<IoError>,
}

#[derive(Debug, Default)]
struct Watched {
    accept: Option<Pending<()>>,
    /// Work: whether it is for one buffer.
    recv: Option<Pending<bool>>,
    send: Option<Pending<Sending>>,
    shutdown_after_send: bool,
}

/// A back end in virtual time.
#[derive(Debug)]
pub struct Sim {
    pub(super) net: SimNet,
    pool: BufferPool,
    waker: Waker,
    /// By socket id; only sockets with operations.
    watched: BTreeMap<i32, Watched>,
    connecting: Vec<Pending<Connecting>>,
    pub(super) relays: Vec<Pending<Relaying>>,
    /// Events of closed sockets that come later.
    pub(super) late: Vec<(Time, Event)>,
}

impl Sim {
    /// A back end on `net`; several shards may share the network.
    ///
    /// # Errors
    /// The host has no memory or descriptor for the buffers and the waker.
    pub fn open(net: &SimNet, config: &Config) -> Result<Self, OpenError> {
        let pool = BufferPool::new(config).map_err(|e| OpenError::System("mmap of buffers", e))?;
        let waker = Waker::new().map_err(|e| OpenError::System("eventfd", e))?;
        let (watched, connecting, late) = (BTreeMap::new(), Vec::new(), Vec::new());
        let relays = Vec::new();
        Ok(Self { net: net.clone(), pool, waker, watched, connecting, relays, late })
    }

    /// The receive buffers.
    pub fn buffers(&self) -> &BufferPool {
        &self.pool
    }

    /// A handle that makes the next turn report [`Event::Wake`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// As [`Backend::turn`](crate::Backend::turn), in virtual time: when nothing is due the clock is moved to
    /// the next thing that is, or to the timeout. With no timeout and nothing to come it returns at once.
    pub fn turn(&mut self, ops: &mut Vec<Op>, timeout: Option<Duration>, events: &mut Vec<Event>) {
        let before = events.len();
        for op in ops.drain(..) {
            self.start(op, events);
        }
        if self.waker.finish_sleep() {
            events.push(Event::Wake);
        }
        let deadline = timeout.map(|timeout| self.net.now() + timeout);
        self.disturb_clock();
        let mut net = self.net.0.borrow_mut();
        if strikes_net(&mut net, |plan| plan.empty_turns) {
            return;
        }
        drop(net);
        loop {
            self.collect(events);
            let now = self.net.now();
            let next = self.next_due();
            let target = match (next, deadline) {
                (Some(next), Some(deadline)) => next.min(deadline),
                (Some(next), None) => next,
                (None, Some(deadline)) => deadline,
                (None, None) => return,
            };
            if events.len() > before || deadline.is_some_and(|deadline| now >= deadline) {
                return;
            }
            self.net.0.borrow_mut().now = target.max(now);
        }
    }

    /// When this back end would have something to report if nobody else did anything.
    pub fn next_due(&self) -> Option<Time> {
        let net = self.net.0.borrow();
        let late = self.late.iter().map(|(due, _)| *due);
        let connects = self.connecting.iter().map(|connect| connect.not_before);
        let sockets = self.watched.iter().flat_map(|(id, watched)| {
            let accept = watched.accept.as_ref().map(|accept| accept.not_before);
            let recv = watched.recv.as_ref().and_then(|recv| {
                let starved = self.pool.none_free();
                net.arrival(*id).filter(|_| !starved).map(|arrival| arrival.max(recv.not_before))
            });
            let send = watched.send.as_ref().filter(|_| net.room(*id) > 0).map(|send| send.not_before);
            // A listener without a connection waiting has nothing due.
            let accept = accept.filter(|_| net.has_backlog(*id));
            [accept, recv, send].into_iter().flatten()
        });
        let relays = self.relays.iter().filter_map(|relay| relay.work.next_due(&net, relay.not_before));
        late.chain(connects).chain(sockets).chain(relays).min()
    }

    fn disturb_clock(&self) {
        let mut net = self.net.0.borrow_mut();
        if strikes_net(&mut net, |plan| plan.clock_jumps) {
            let most = net.plan.clock_jump_max.as_nanos() as u64;
            let jump = Duration::from_nanos(net.rng.below(most + 1));
            net.now = net.now + jump;
        }
    }

    fn start(&mut self, op: Op, events: &mut Vec<Event>) {
        match op {
            Op::Accept { listener, token } => {
                let accept = self.pending(token, ());
                self.watched.entry(listener.raw()).or_default().accept.get_or_insert(accept);
            }
            Op::StopAccept { listener } => {
                if let Some(watched) = self.watched.get_mut(&listener.raw()) {
                    watched.accept = None;
                }
            }
            Op::Connect { token, address, options } => self.start_connect(token, address, options),
            Op::CancelConnect { token } => {
                if let Some(index) = self.connecting.iter().position(|connect| connect.token == token) {
                    self.connecting.remove(index);
                    events.push(Event::Connected { token, result: Err(IoError::CANCELED) });
                }
            }
            Op::Recv { socket, token } => self.start_recv(socket, token, false),
            Op::RecvOnce { socket, token } => self.start_recv(socket, token, true),
            Op::StopRecv { socket } => {
                let recv = self.watched.get_mut(&socket.raw()).and_then(|watched| watched.recv.take());
                events.extend(
                    recv.map(|recv| Event::RecvEnded { token: recv.token, reason: RecvEnd::Stopped }),
                );
            }
            Op::Send { socket, token, mut payload } => {
                let send = self.pending(token, ());
                let watched = self.watched.entry(socket.raw()).or_default();
                if watched.send.is_some() {
                    payload.clear();
                    let result = Err(IoError::from_errno(libc::EALREADY));
                    return events.push(Event::Sent { token, result, payload });
                }
                let work = Sending { payload, sent: 0 };
                watched.send = Some(Pending { token, not_before: send.not_before, work });
            }
            Op::Relay { from, to, token, limit } => {
                let relay = self.pending(token, Relaying::new(from, to, limit));
                self.relays.push(relay);
            }
            Op::Shutdown { socket } if self.shutdown_after_relay(socket) => {}
            Op::Shutdown { socket } => match self.watched.get_mut(&socket.raw()) {
                Some(watched) if watched.send.is_some() => watched.shutdown_after_send = true,
                _ => self.net.0.borrow_mut().shutdown(socket.raw()),
            },
            Op::Close { socket, reset } => self.close(socket, reset, events),
        }
    }

    /// An operation that starts now, or is delayed by the fault plan.
    fn pending<T>(&self, token: Token, work: T) -> Pending<T> {
        Pending { token, not_before: delayed(&mut self.net.0.borrow_mut()), work }
    }

    fn start_recv(&mut self, socket: Socket, token: Token, once: bool) {
        let recv = self.pending(token, once);
        self.watched.entry(socket.raw()).or_default().recv.get_or_insert(recv);
    }

    fn start_connect(&mut self, token: Token, address: SocketAddress, options: Box<ConnectOptions>) {
        let mut net = self.net.0.borrow_mut();
        let round_trip = net.plan.clone().latency(&mut net.rng) * 2;
        let mut not_before = delayed(&mut net) + round_trip;
        let mut fails = strikes_net(&mut net, |plan| plan.connect_refused).then_some(IoError::REFUSED);
        if fails.is_none() && strikes_net(&mut net, |plan| plan.connect_timeouts) {
            fails = Some(IoError::TIMED_OUT);
            not_before = net.now + net.plan.connect_timeout_after;
        }
        drop(net);
        let work = Connecting { address, options, fails };
        self.connecting.push(Pending { token, not_before, work });
    }

    fn close(&mut self, socket: Socket, reset: bool, events: &mut Vec<Event>) {
        let watched = self.watched.remove(&socket.raw()).unwrap_or_default();
        let mut net = self.net.0.borrow_mut();
        if let Some(token) = watched.accept.map(|accept| accept.token) {
            accept_queued(&mut net, socket.raw(), token, events);
        }
        let late = strikes_net(&mut net, |plan| plan.late_events);
        let when = net.now + net.plan.delay_max / 2;
        if let Some(recv) = watched.recv.filter(|_| late) {
            if let Some(data) = self.pool.copy_from(b"late bytes of a closed socket") {
                self.late.push((when, Event::Received { token: recv.token, data }));
            }
            let reason = RecvEnd::Error(IoError::CANCELED);
            self.late.push((when, Event::RecvEnded { token: recv.token, reason }));
        }
        drop(net);
        self.close_relays(socket, late.then_some(when), events);
        self.net.0.borrow_mut().close(socket.raw(), reset);
        if let Some(send) = watched.send {
            let mut payload = send.work.payload;
            payload.clear();
            let sent = Event::Sent { token: send.token, result: Err(IoError::CANCELED), payload };
            if late {
                self.late.push((when, sent));
            } else {
                events.push(sent);
            }
        }
    }

    /// Appends everything that is due now.
    fn collect(&mut self, events: &mut Vec<Event>) {
        let now = self.net.now();
        for (due, event) in std::mem::take(&mut self.late) {
            match due <= now {
                true => events.push(event),
                false => self.late.push((due, event)),
            }
        }
        for connect in std::mem::take(&mut self.connecting) {
            match connect.not_before <= now {
                true => self.finish_connect(connect, events),
                false => self.connecting.push(connect),
            }
        }
        // Sockets in an order of the seed's choice; events of one socket stay in order.
        let mut ids: Vec<i32> = self.watched.keys().copied().collect();
        let start = self.net.0.borrow_mut().rng.below(ids.len() as u64) as usize;
        ids.rotate_left(start);
        for id in ids {
            let Some(mut watched) = self.watched.remove(&id) else { continue };
            self.accept_some(id, &mut watched, now, events);
            self.read_some(id, &mut watched, now, events);
            self.send_some(id, &mut watched, now, events);
            self.watched.insert(id, watched);
        }
        self.pump_relays(now, events);
    }

    fn finish_connect(&mut self, connect: Pending<Connecting>, events: &mut Vec<Event>) {
        let Connecting { address, options, fails } = connect.work;
        let result = match fails {
            Some(error) => Err(error),
            None => self.net.0.borrow_mut().connect(&address, options.source, None).map(Socket::from_raw),
        };
        events.push(Event::Connected { token: connect.token, result });
    }

    fn accept_some(&self, id: i32, watched: &mut Watched, now: Time, events: &mut Vec<Event>) {
        let Some(token) = watched.accept.as_ref().filter(|a| a.not_before <= now).map(|a| a.token) else {
            return;
        };
        let mut net = self.net.0.borrow_mut();
        while net.has_backlog(id) {
            if strikes_net(&mut net, |plan| plan.accept_errors) {
                watched.accept = None;
                let result = Err(IoError::from_errno(libc::EMFILE));
                return events.push(Event::Accepted { token, result, more: false });
            }
            accept_one(&mut net, id, token, events);
        }
    }

    fn read_some(&self, id: i32, watched: &mut Watched, now: Time, events: &mut Vec<Event>) {
        let mut net = self.net.0.borrow_mut();
        for _ in 0..1 + net.rng.below(READS_PER_TURN) {
            let Some(recv) = watched.recv.as_mut().filter(|recv| recv.not_before <= now) else { return };
            if self.pool.none_free() {
                return;
            }
            let token = recv.token;
            let reason = match net.read(id, self.pool.buffer_bytes()) {
                ReadResult::Nothing => return,
                ReadResult::Bytes(bytes) => {
                    recv.not_before = delayed(&mut net);
                    events.extend(self.pool.copy_from(&bytes).map(|data| Event::Received { token, data }));
                    if !recv.work {
                        continue;
                    }
                    RecvEnd::Stopped
                }
                ReadResult::Eof => RecvEnd::Eof,
                ReadResult::Reset => RecvEnd::Error(IoError::RESET),
            };
            watched.recv = None;
            return events.push(Event::RecvEnded { token, reason });
        }
    }

    fn send_some(&self, id: i32, watched: &mut Watched, now: Time, events: &mut Vec<Event>) {
        let mut net = self.net.0.borrow_mut();
        let Some(send) = watched.send.as_mut().filter(|send| send.not_before <= now) else { return };
        let Sending { payload, sent } = &mut send.work;
        let mut result = Ok(0);
        while *sent < payload.len() {
            // No more than fits: what is left is looked at again on the next turn.
            let room = net.room(id).max(1);
            let piece: Vec<u8> = payload.slices_from(*sent).flatten().copied().take(room).collect();
            result = net.write(id, &piece);
            match result {
                Ok(0) => break,
                Ok(count) => *sent += count,
                Err(_) => break,
            }
        }
        if result.is_ok() && *sent < payload.len() {
            send.not_before = delayed(&mut net);
            return;
        }
        let result = result.map(|_| *sent);
        if let Some(send) = watched.send.take() {
            let mut payload = send.work.payload;
            payload.clear();
            events.push(Event::Sent { token: send.token, result, payload });
        }
        if std::mem::take(&mut watched.shutdown_after_send) {
            net.shutdown(id);
        }
    }
}

pub(super) fn strikes_net(net: &mut RefMut<'_, Net>, rate: impl Fn(&super::FaultPlan) -> u16) -> bool {
    let rate = rate(&net.plan);
    strikes(&mut net.rng, rate)
}

/// Now, or a little later if the fault plan has it so.
pub(super) fn delayed(net: &mut RefMut<'_, Net>) -> Time {
    if !strikes_net(net, |plan| plan.delays) {
        return net.now;
    }
    let most = net.plan.delay_max.as_nanos() as u64;
    net.now + Duration::from_nanos(net.rng.below(most + 1))
}

fn accept_one(net: &mut Net, listener: i32, token: Token, events: &mut Vec<Event>) {
    let Some(socket) = net.backlog(listener).and_then(|backlog| backlog.pop_front()) else { return };
    let Some(peer) = net.stream(socket).map(|endpoint| endpoint.remote.clone()) else { return };
    let accepted = Accepted { socket: Socket::from_raw(socket), peer };
    events.push(Event::Accepted { token, result: Ok(accepted), more: true });
}

/// Takes what waits for a listener that is about to be closed.
fn accept_queued(net: &mut Net, listener: i32, token: Token, events: &mut Vec<Event>) {
    while net.has_backlog(listener) {
        accept_one(net, listener, token, events);
    }
}
