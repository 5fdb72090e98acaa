//! From an operation to submission entries.

use super::{RecvState, Uring, WORK, Work};
use crate::epoll::accept_queued;
use crate::sys::{self, RawAddress};
use crate::{ConnectOptions, Event, IoError, Op, Payload, RecvEnd, Socket, SocketAddress, Token};
use io_uring::{opcode, squeue, types};
use millrace_base::Key;

impl Uring {
    pub(super) fn start(&mut self, op: Op, events: &mut Vec<Event>) -> Result<(), IoError> {
        match op {
            Op::Accept { listener, token } => self.start_accept(listener, token),
            Op::StopAccept { listener } => self.stop_accept(listener),
            Op::Connect { token, address, options } => self.start_connect(token, &address, &options, events),
            Op::CancelConnect { token } => self.cancel_connect(token),
            Op::Recv { socket, token } => self.start_recv(socket, token, false),
            Op::RecvOnce { socket, token } => self.start_recv(socket, token, true),
            Op::StopRecv { socket } => self.stop_recv(socket, events),
            Op::Send { socket, token, payload } => self.start_send(socket, token, payload, events),
            Op::Relay { from, to, token, limit } => {
                self.start_relay(from, to, token, limit, events);
                Ok(())
            }
            Op::Shutdown { socket } => {
                let state = self.state(socket);
                match state.send {
                    Some(_) => state.shutdown_after_send = true,
                    None => sys::shutdown_write(socket),
                }
                Ok(())
            }
            Op::Close { socket, reset } => self.close(socket, reset, events),
        }
    }

    fn start_accept(&mut self, listener: Socket, token: Token) -> Result<(), IoError> {
        if self.state(listener).input.is_some() {
            return Ok(());
        }
        let key = self.works.insert(Work::Accept { listener, token, detached: false });
        self.state(listener).input = Some(key);
        self.push_accept(key, listener)
    }

    fn stop_accept(&mut self, listener: Socket) -> Result<(), IoError> {
        let Some(key) = self.state(listener).input else { return Ok(()) };
        if !matches!(self.works.get(key), Some(Work::Accept { .. })) {
            return Ok(());
        }
        self.state(listener).input = None;
        match self.detach(key) {
            true => self.push_cancel(key),
            false => Ok(()),
        }
    }

    fn start_connect(
        &mut self,
        token: Token,
        address: &SocketAddress,
        options: &ConnectOptions,
        events: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        let raw = RawAddress::new(address);
        let socket = match sys::connecting_socket(&raw, options) {
            Ok(socket) => socket,
            Err(error) => {
                events.push(Event::Connected { token, result: Err(error) });
                return Ok(());
            }
        };
        self.make_room()?;
        let key = self.works.insert(Work::Connect { socket, token, canceled: false });
        self.connecting.push(key);
        let (pointer, length) = self.scratch.address(raw);
        let entry = opcode::Connect::new(types::Fd(socket.raw()), pointer, length).build();
        self.push(&entry.user_data(key.pack(WORK)))
    }

    fn cancel_connect(&mut self, wanted: Token) -> Result<(), IoError> {
        let works = &self.works;
        let found = self.connecting.iter().copied().find(
            |key| matches!(works.get(*key), Some(Work::Connect { token, canceled: false, .. }) if *token == wanted),
        );
        let Some(key) = found else { return Ok(()) };
        if let Some(Work::Connect { canceled, .. }) = self.works.get_mut(key) {
            *canceled = true;
        }
        self.push_cancel(key)
    }

    pub(super) fn start_recv(&mut self, socket: Socket, token: Token, once: bool) -> Result<(), IoError> {
        if let Some(key) = self.state(socket).input {
            // Still stopping: armed again when the stop is through.
            if let Some(Work::Recv { state: RecvState::Stopping, next, .. }) = self.works.get_mut(key) {
                *next = Some((token, once));
            }
            return Ok(());
        }
        let work = Work::Recv { socket, token, once, state: RecvState::Armed, next: None };
        let key = self.works.insert(work);
        self.state(socket).input = Some(key);
        self.push_recv(key, socket, once)
    }

    fn stop_recv(&mut self, socket: Socket, events: &mut Vec<Event>) -> Result<(), IoError> {
        let Some(key) = self.state(socket).input else { return Ok(()) };
        let Some(Work::Recv { state, token, next, .. }) = self.works.get_mut(key) else { return Ok(()) };
        match *state {
            RecvState::Armed => {
                *state = RecvState::Stopping;
                self.push_cancel(key)
            }
            RecvState::Starved => {
                events.push(Event::RecvEnded { token: *token, reason: RecvEnd::Stopped });
                self.works.remove(key);
                self.state(socket).input = None;
                Ok(())
            }
            RecvState::Stopping => {
                if let Some((token, _)) = next.take() {
                    events.push(Event::RecvEnded { token, reason: RecvEnd::Stopped });
                }
                Ok(())
            }
            RecvState::Detached => Ok(()),
        }
    }

    fn start_send(
        &mut self,
        socket: Socket,
        token: Token,
        mut payload: Payload,
        events: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        let busy = self.state(socket).send.is_some();
        debug_assert!(!busy, "one send in flight per socket");
        if busy || payload.is_empty() {
            payload.clear();
            let result = if busy { Err(IoError::from_errno(libc::EALREADY)) } else { Ok(0) };
            events.push(Event::Sent { token, result, payload });
            return Ok(());
        }
        let key = self.works.insert(Work::Send { socket, token, payload, sent: 0, detached: false });
        self.state(socket).send = Some(key);
        self.push_send(key)
    }

    fn close(&mut self, socket: Socket, reset: bool, events: &mut Vec<Event>) -> Result<(), IoError> {
        let state = std::mem::take(self.state(socket));
        if let Some(Work::Accept { token, .. }) = state.input.and_then(|key| self.works.get(key)) {
            accept_queued(socket, *token, events);
        }
        self.relay_source_closed(state.input)?;
        self.relay_sink_closed(state.send, events)?;
        for key in [state.input, state.send].into_iter().flatten() {
            if self.detach(key) {
                self.push_cancel(key)?;
            }
        }
        if reset {
            sys::linger_zero(socket);
        }
        // Operations in flight hold the file, not the descriptor: it may be reused at once.
        let entry = opcode::Close::new(types::Fd(socket.raw())).build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS))
    }

    /// Cuts an operation off from its socket; true when the kernel has it and must be told.
    pub(super) fn detach(&mut self, key: Key) -> bool {
        match self.works.get_mut(key) {
            Some(Work::Accept { detached, .. } | Work::Send { detached, .. }) => *detached = true,
            Some(Work::Connect { canceled, .. }) => *canceled = true,
            // Its ends are told apart elsewhere; see `relaying`.
            Some(Work::Relay { .. }) => return false,
            Some(Work::Recv { state: RecvState::Starved, .. }) => {
                self.works.remove(key);
                return false;
            }
            Some(Work::Recv { state, next, .. }) => {
                *state = RecvState::Detached;
                *next = None;
            }
            None => return false,
        }
        true
    }
}
