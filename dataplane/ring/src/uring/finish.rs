//! From a completion to events.

use super::{RecvState, Uring, WAKE, WORK, Work};
use crate::{Accepted, Event, Filled, IoError, RecvEnd, Socket, Token, sys};
use io_uring::cqueue;
use millrace_base::Key;

/// A completion taken apart.
struct Outcome {
    key: Key,
    result: Result<u32, IoError>,
    /// The multishot operation goes on.
    more: bool,
}

impl Uring {
    /// Handles every completion taken so far; handling one may submit and take more.
    pub(super) fn finish_all(&mut self, events: &mut Vec<Event>) -> Result<(), IoError> {
        let mut next = 0;
        while let Some(completion) = self.completions.get(next).cloned() {
            next += 1;
            self.finish(&completion, events)?;
        }
        self.completions.clear();
        Ok(())
    }

    fn finish(&mut self, completion: &cqueue::Entry, events: &mut Vec<Event>) -> Result<(), IoError> {
        let (result, flags) = (completion.result(), completion.flags());
        let result = u32::try_from(result).map_err(|_| IoError::from_errno(result));
        let more = cqueue::more(flags);
        // The buffer comes home whoever it was for.
        let data = cqueue::buffer_select(flags).and_then(|buffer| match result {
            Ok(length @ 1..) => Some(self.lending.take_filled(buffer, length)),
            _ => {
                self.lending.take_unused(buffer);
                None
            }
        });
        let user_data = completion.user_data();
        if user_data == WAKE {
            return if more { Ok(()) } else { self.rearm_wake() };
        }
        let (kind, key) = Key::unpack(user_data);
        if kind != WORK {
            return Ok(());
        }
        let outcome = Outcome { key, result, more };
        match self.works.get_mut(key) {
            Some(Work::Recv { .. }) => self.finish_recv(&outcome, data, events),
            Some(Work::Send { .. }) => self.finish_send(&outcome, events),
            Some(Work::Accept { .. }) => self.finish_accept(&outcome, events),
            Some(Work::Connect { .. }) => {
                self.finish_connect(&outcome, events);
                Ok(())
            }
            Some(Work::Relay { waiting, .. }) => {
                *waiting = false;
                self.relays.push_back(key);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn rearm_wake(&mut self) -> Result<(), IoError> {
        self.waker.reset();
        self.push_wake()
    }

    fn finish_recv(
        &mut self,
        outcome: &Outcome,
        data: Option<Filled>,
        events: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        let key = outcome.key;
        let Some(Work::Recv { socket, token, once, state, next }) = self.works.get_mut(key) else {
            return Ok(());
        };
        let (socket, token, once, next) = (*socket, *token, *once, *next);
        if *state == RecvState::Detached {
            if !outcome.more {
                self.works.remove(key);
            }
            return Ok(());
        }
        if let Some(data) = data {
            events.push(Event::Received { token, data });
        }
        if outcome.more {
            return Ok(());
        }
        // A single shot that brought bytes is through, as one that was stopped.
        let stopping = *state == RecvState::Stopping || (once && matches!(outcome.result, Ok(1..)));
        let reason = match outcome.result {
            Ok(0) => RecvEnd::Eof,
            Err(error) if ends_stream(error, stopping) => RecvEnd::Error(error),
            _ if stopping => RecvEnd::Stopped,
            Err(error) if error.errno() == libc::ENOBUFS => {
                *state = RecvState::Starved;
                self.starved.push_back(key);
                self.lending.widen();
                return Ok(());
            }
            // The kernel ended the multishot (full completion queue): nothing is lost, go on.
            _ => return self.push_recv(key, socket, once),
        };
        self.works.remove(key);
        self.state(socket).input = None;
        events.push(Event::RecvEnded { token, reason });
        match next {
            Some((token, once)) => self.start_recv(socket, token, once),
            None => Ok(()),
        }
    }

    fn finish_send(&mut self, outcome: &Outcome, events: &mut Vec<Event>) -> Result<(), IoError> {
        let key = outcome.key;
        let Some(Work::Send { payload, sent, detached, .. }) = self.works.get_mut(key) else {
            return Ok(());
        };
        let result = match outcome.result {
            Ok(length) => {
                *sent += length as usize;
                match *sent >= payload.len() {
                    true => Ok(payload.len()),
                    false if *detached => Err(IoError::CANCELED),
                    false => return self.push_send(key),
                }
            }
            Err(error) if is_again(error) && !*detached => return self.push_send(key),
            Err(error) => Err(error),
        };
        if let Some(Work::Send { socket, token, mut payload, detached, .. }) = self.works.remove(key) {
            payload.clear();
            events.push(Event::Sent { token, result, payload });
            if !detached {
                let state = self.state(socket);
                state.send = None;
                if std::mem::take(&mut state.shutdown_after_send) {
                    sys::shutdown_write(socket);
                }
            }
        }
        Ok(())
    }

    fn finish_accept(&mut self, outcome: &Outcome, events: &mut Vec<Event>) -> Result<(), IoError> {
        let key = outcome.key;
        let Some(Work::Accept { listener, token, detached }) = self.works.get(key) else { return Ok(()) };
        let (listener, token, detached) = (*listener, *token, *detached);
        if let Ok(fd) = outcome.result {
            // Also of a listener that was closed meanwhile: the client was told that it is connected.
            report_accepted(Socket::from_raw(fd as i32), token, events);
        }
        if outcome.more {
            return Ok(());
        }
        if detached {
            self.works.remove(key);
            return Ok(());
        }
        match outcome.result {
            Err(error) if !is_transient_accept(error) => {
                self.works.remove(key);
                self.state(listener).input = None;
                events.push(Event::Accepted { token, result: Err(error), more: false });
                Ok(())
            }
            _ => self.push_accept(key, listener),
        }
    }

    fn finish_connect(&mut self, outcome: &Outcome, events: &mut Vec<Event>) {
        self.connecting.retain(|key| *key != outcome.key);
        let Some(Work::Connect { socket, token, canceled }) = self.works.remove(outcome.key) else { return };
        let result = match outcome.result {
            Ok(_) if !canceled => Ok(socket),
            Err(error) if !canceled => Err(error),
            _ => Err(IoError::CANCELED),
        };
        if result.is_err() {
            sys::close(socket);
        }
        events.push(Event::Connected { token, result });
    }
}

/// True for an error of the connection itself, not of the way we receive.
fn ends_stream(error: IoError, stopping: bool) -> bool {
    match error.errno() {
        libc::ENOBUFS | libc::EAGAIN | libc::EINTR => false,
        libc::ECANCELED => !stopping,
        _ => true,
    }
}

fn is_again(error: IoError) -> bool {
    matches!(error.errno(), libc::EAGAIN | libc::EINTR)
}

/// Errors of the connection that was being accepted, not of the listener (accept(2), "Error handling").
pub(crate) fn is_transient_accept(error: IoError) -> bool {
    matches!(
        error.errno(),
        libc::ECONNABORTED
            | libc::EINTR
            | libc::EAGAIN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENONET
    )
}

fn report_accepted(socket: Socket, token: Token, events: &mut Vec<Event>) {
    // A connection that is reset by now has no peer name: nobody is left to talk to.
    match sys::address_of(socket, true) {
        Ok(peer) => events.push(Event::Accepted { token, result: Ok(Accepted { socket, peer }), more: true }),
        Err(_) => sys::close(socket),
    }
}
