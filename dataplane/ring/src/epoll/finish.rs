//! From readiness to events.

use super::{ACCEPTS_AT_CLOSE, ACCEPTS_PER_TURN, Epoll, READS_PER_TURN, Role, WAKE};
use crate::sys::{self, RawAddress};
use crate::uring::is_transient_accept;
use crate::{Accepted, Event, IoError, RecvEnd, Socket, Token};

impl Epoll {
    /// Handles one report of the epoll set.
    pub(super) fn finish(&mut self, data: u64, ready: u32, events: &mut Vec<Event>) {
        if data == WAKE {
            return self.waker.reset();
        }
        let socket = Socket::from_raw(data as i32);
        let ready = ready as i32;
        if let Role::Accepting { token } = self.state(socket).role {
            return self.accept_some(socket, token, events);
        }
        let failed = ready & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
        if let Role::Connecting { token } = self.state(socket).role
            && (failed || ready & libc::EPOLLOUT != 0)
        {
            self.finish_connect(socket, token, events);
        }
        if !self.state(socket).registered {
            return;
        }
        if failed || ready & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0 {
            let state = self.state(socket);
            state.readable = true;
            state.hang_up |= failed || ready & libc::EPOLLRDHUP != 0;
            match state.relay {
                Some(relay) => self.queue_relay(relay),
                None => self.queue_read(socket),
            }
        }
        if failed || ready & libc::EPOLLOUT != 0 {
            self.resume_send(socket, events);
        }
    }

    fn finish_connect(&mut self, socket: Socket, token: Token, events: &mut Vec<Event>) {
        let result = match sys::int_option(socket, libc::SOL_SOCKET, libc::SO_ERROR) {
            Ok(0) => Ok(socket),
            Ok(errno) => Err(IoError::from_errno(errno)),
            Err(error) => Err(error),
        };
        self.connecting.retain(|(_, other)| *other != socket);
        self.state(socket).role = Role::Idle;
        if result.is_err() {
            *self.state(socket) = super::Watched::default();
            sys::close(socket);
        }
        events.push(Event::Connected { token, result });
    }

    fn accept_some(&mut self, listener: Socket, token: Token, events: &mut Vec<Event>) {
        for _ in 0..ACCEPTS_PER_TURN {
            match accept(listener) {
                Ok(accepted) => events.push(Event::Accepted { token, result: Ok(accepted), more: true }),
                Err(error) if error.errno() == libc::EAGAIN => return,
                Err(error) if is_transient_accept(error) => {}
                Err(error) => {
                    // Out of the set, or it would be reported again at once.
                    self.unregister(listener);
                    self.state(listener).role = Role::Idle;
                    return events.push(Event::Accepted { token, result: Err(error), more: false });
                }
            }
        }
    }

    /// Reads from every queued socket, as long as there are buffers.
    pub(super) fn read_ready(&mut self, events: &mut Vec<Event>) {
        for _ in 0..self.to_read.len() {
            if self.pool.none_free() {
                return;
            }
            let Some(socket) = self.to_read.pop_front() else { return };
            self.state(socket).queued = false;
            self.read_some(socket, events);
            self.queue_read(socket);
        }
    }

    fn read_some(&mut self, socket: Socket, events: &mut Vec<Event>) {
        let Some(token) = self.state(socket).recv else { return };
        for _ in 0..READS_PER_TURN {
            let Some(buffer) = self.pool.take() else { return };
            let (address, room) = (self.pool.address(buffer), self.pool.buffer_bytes());
            // SAFETY: the buffer was free, is ours now, and has that much room.
            let count = unsafe { libc::recv(socket.raw(), address.as_ptr().cast(), room, 0) };
            if count > 0 {
                // SAFETY: taken just now, and the kernel wrote that many bytes.
                let data = unsafe { self.pool.filled(buffer, count as u32) };
                events.push(Event::Received { token, data });
                // A short read emptied the socket: new bytes make a new edge. An end does not follow again.
                let state = self.state(socket);
                let emptied = (count as usize) < room && !state.hang_up;
                state.readable &= !emptied;
                if state.once {
                    state.recv = None;
                    return events.push(Event::RecvEnded { token, reason: RecvEnd::Stopped });
                }
                if emptied {
                    return;
                }
                continue;
            }
            let error = IoError::last();
            self.pool.put_back(buffer);
            let reason = match count {
                0 => RecvEnd::Eof,
                _ if error.errno() == libc::EINTR => continue,
                _ if error.errno() == libc::EAGAIN => {
                    self.state(socket).readable = false;
                    return;
                }
                _ => RecvEnd::Error(error),
            };
            self.state(socket).recv = None;
            return events.push(Event::RecvEnded { token, reason });
        }
    }
}

/// Takes what waits in the queue of a listener that is about to be closed; the kernel would reset it.
pub(crate) fn accept_queued(listener: Socket, token: Token, events: &mut Vec<Event>) {
    for _ in 0..ACCEPTS_AT_CLOSE {
        match accept(listener) {
            Ok(accepted) => events.push(Event::Accepted { token, result: Ok(accepted), more: true }),
            Err(error) if error.errno() == libc::EAGAIN => return,
            Err(error) if is_transient_accept(error) => {}
            Err(_) => return,
        }
    }
}

fn accept(listener: Socket) -> Result<Accepted, IoError> {
    let mut peer = RawAddress::empty();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (storage, length) = peer.parts_mut();
    // SAFETY: storage and length are those of a local that is large enough for every family.
    let fd = sys::check(unsafe { libc::accept4(listener.raw(), storage, length, flags) })?;
    let socket = Socket::from_raw(fd);
    let peer = peer.get().inspect_err(|_| sys::close(socket))?;
    Ok(Accepted { socket, peer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_from_nothing_is_an_error_of_the_listener() {
        let error = accept(Socket::from_raw(-1)).unwrap_err();
        assert!(error.errno() == libc::EBADF && !is_transient_accept(error));
    }
}
