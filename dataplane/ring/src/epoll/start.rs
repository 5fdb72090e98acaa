//! From an operation to system calls and watched descriptors.

use super::{Epoll, Role, Sending, Watched, accept_queued};
use crate::sys::{self, RawAddress};
use crate::{ConnectOptions, Event, IoError, Op, Payload, RecvEnd, Socket, SocketAddress, Token};

/// Most pieces of a payload handed to the kernel in one call.
const PIECES_MAX: usize = 64;

impl Epoll {
    pub(super) fn start(&mut self, op: Op, events: &mut Vec<Event>) {
        match op {
            Op::Accept { listener, token } => self.start_accept(listener, token, events),
            Op::StopAccept { listener } => {
                if matches!(self.state(listener).role, Role::Accepting { .. }) {
                    self.unregister(listener);
                    self.state(listener).role = Role::Idle;
                }
            }
            Op::Connect { token, address, options } => self.start_connect(token, &address, &options, events),
            Op::CancelConnect { token } => self.cancel_connect(token, events),
            Op::Recv { socket, token } => self.start_recv(socket, token, false, events),
            Op::RecvOnce { socket, token } => self.start_recv(socket, token, true, events),
            Op::StopRecv { socket } => {
                if let Some(token) = self.state(socket).recv.take() {
                    events.push(Event::RecvEnded { token, reason: RecvEnd::Stopped });
                }
            }
            Op::Send { socket, token, payload } => self.start_send(socket, token, payload, events),
            Op::Relay { from, to, token, limit } => self.start_relay(from, to, token, limit, events),
            Op::Shutdown { socket } => {
                let state = self.state(socket);
                match state.role {
                    Role::Sending(_) | Role::Relayed(_) => state.shutdown_after_send = true,
                    _ => sys::shutdown_write(socket),
                }
            }
            Op::Close { socket, reset } => self.close(socket, reset, events),
        }
    }

    fn start_accept(&mut self, listener: Socket, token: Token, events: &mut Vec<Event>) {
        if matches!(self.state(listener).role, Role::Accepting { .. }) {
            return;
        }
        // Level-triggered; exclusive, so that shards sharing a listener are not all woken for one connection.
        let interest = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
        match self.control(libc::EPOLL_CTL_ADD, listener.raw(), interest, listener.raw() as u64) {
            Ok(()) => {
                let state = self.state(listener);
                state.registered = true;
                state.role = Role::Accepting { token };
            }
            Err(error) => events.push(Event::Accepted { token, result: Err(error), more: false }),
        }
    }

    fn start_connect(
        &mut self,
        token: Token,
        address: &SocketAddress,
        options: &ConnectOptions,
        events: &mut Vec<Event>,
    ) {
        let raw = RawAddress::new(address);
        let socket = match sys::connecting_socket(&raw, options) {
            Ok(socket) => socket,
            Err(error) => return events.push(Event::Connected { token, result: Err(error) }),
        };
        // SAFETY: pointer and length describe a living address.
        let connected =
            sys::check(unsafe { libc::connect(socket.raw(), raw.pointer(), raw.length()) }).map(drop);
        let pending = connected.is_err_and(|e| e.errno() == libc::EINPROGRESS);
        let result = if pending { self.register(socket) } else { connected };
        match result {
            Ok(()) if pending => {
                self.state(socket).role = Role::Connecting { token };
                self.connecting.push((token, socket));
            }
            result => {
                if result.is_err() {
                    sys::close(socket);
                }
                events.push(Event::Connected { token, result: result.map(|()| socket) });
            }
        }
    }

    fn cancel_connect(&mut self, wanted: Token, events: &mut Vec<Event>) {
        let Some(index) = self.connecting.iter().position(|(token, _)| *token == wanted) else { return };
        let (token, socket) = self.connecting.swap_remove(index);
        *self.state(socket) = Watched::default();
        sys::close(socket);
        events.push(Event::Connected { token, result: Err(IoError::CANCELED) });
    }

    fn start_recv(&mut self, socket: Socket, token: Token, once: bool, events: &mut Vec<Event>) {
        if self.state(socket).recv.is_some() {
            return;
        }
        if let Err(error) = self.register(socket) {
            return events.push(Event::RecvEnded { token, reason: RecvEnd::Error(error) });
        }
        let state = self.state(socket);
        (state.recv, state.once) = (Some(token), once);
        self.queue_read(socket);
    }

    fn start_send(&mut self, socket: Socket, token: Token, mut payload: Payload, events: &mut Vec<Event>) {
        let busy = matches!(self.state(socket).role, Role::Sending(_) | Role::Relayed(_));
        debug_assert!(!busy, "one send in flight per socket");
        if busy {
            payload.clear();
            let result = Err(IoError::from_errno(libc::EALREADY));
            return events.push(Event::Sent { token, result, payload });
        }
        let mut sent = 0;
        match send_some(socket, &payload, &mut sent) {
            Ok(false) => {
                let watched = self.register(socket);
                if let Err(error) = watched {
                    payload.clear();
                    return events.push(Event::Sent { token, result: Err(error), payload });
                }
                let sending = self.sends.insert(Sending { token, payload, sent });
                self.state(socket).role = Role::Sending(sending);
            }
            result => {
                payload.clear();
                events.push(Event::Sent { token, result: result.map(|_| sent), payload });
            }
        }
    }

    /// The socket takes bytes again: goes on with the send that waited.
    pub(super) fn resume_send(&mut self, socket: Socket, events: &mut Vec<Event>) {
        let key = match self.state(socket).role {
            Role::Sending(key) => key,
            Role::Relayed(key) => return self.queue_relay(key),
            Role::Idle | Role::Connecting { .. } | Role::Accepting { .. } => return,
        };
        let Some(sending) = self.sends.get_mut(key) else { return };
        let result = send_some(socket, &sending.payload, &mut sending.sent);
        if result != Ok(false) {
            let result = result.map(|_| sending.sent);
            self.end_send(socket, result, events);
            if std::mem::take(&mut self.state(socket).shutdown_after_send) {
                sys::shutdown_write(socket);
            }
        }
    }

    fn end_send(&mut self, socket: Socket, result: Result<usize, IoError>, events: &mut Vec<Event>) {
        let Role::Sending(key) = self.state(socket).role else { return };
        self.state(socket).role = Role::Idle;
        if let Some(Sending { token, mut payload, .. }) = self.sends.remove(key) {
            payload.clear();
            events.push(Event::Sent { token, result, payload });
        }
    }

    fn close(&mut self, socket: Socket, reset: bool, events: &mut Vec<Event>) {
        if let Role::Accepting { token } = self.state(socket).role {
            accept_queued(socket, token, events);
        }
        self.end_send(socket, Err(IoError::CANCELED), events);
        self.close_relays(socket, events);
        if reset {
            sys::linger_zero(socket);
        }
        // A descriptor that was handed to another process would stay in the set after the close.
        self.unregister(socket);
        if self.state(socket).queued {
            self.to_read.retain(|queued| *queued != socket);
        }
        *self.state(socket) = Watched::default();
        sys::close(socket);
    }
}

/// Sends from byte `sent` on until all is taken (`true`) or the socket is full (`false`).
fn send_some(socket: Socket, payload: &Payload, sent: &mut usize) -> Result<bool, IoError> {
    let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES_MAX];
    while *sent < payload.len() {
        let mut count = 0;
        for (piece, slice) in pieces.iter_mut().zip(payload.slices_from(*sent)) {
            *piece = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
            count += 1;
        }
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = pieces.as_mut_ptr();
        header.msg_iovlen = count as _;
        // SAFETY: the header names `count` pieces of the payload, borrowed for the call.
        let taken = unsafe { libc::sendmsg(socket.raw(), &raw const header, libc::MSG_NOSIGNAL) };
        match usize::try_from(taken) {
            Ok(taken) => *sent += taken,
            Err(_) => match IoError::last() {
                error if error.errno() == libc::EINTR => {}
                error if error.errno() == libc::EAGAIN => return Ok(false),
                error => return Err(error),
            },
        }
    }
    Ok(true)
}
