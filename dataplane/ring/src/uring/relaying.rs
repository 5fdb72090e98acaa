//! Relays: `splice` is called directly (io_uring would hand it to a worker thread), the ring only waits.

use super::{Uring, WORK, Work};
use crate::relay::{Relay, Step};
use crate::{Event, IoError, RelayEnd, Socket, Token, sys};
use io_uring::{opcode, types};
use millrace_base::Key;

impl Uring {
    pub(super) fn start_relay(
        &mut self,
        from: Socket,
        to: Socket,
        token: Token,
        limit: u64,
        events: &mut Vec<Event>,
    ) {
        let busy = self.state(from).input.is_some() || self.state(to).send.is_some();
        debug_assert!(!busy, "a relay has both sockets to itself");
        if busy {
            return events.push(Event::Relayed {
                token,
                bytes: 0,
                sink_full: false,
                end: Some(RelayEnd::Unavailable),
            });
        }
        let relay = Box::new(Relay::new(from, to, token, limit));
        let key = self.works.insert(Work::Relay { relay, waiting: false });
        self.state(from).input = Some(key);
        self.state(to).send = Some(key);
        self.relays.push_back(key);
    }

    /// Gives every relay that can go on a turn.
    pub(super) fn pump_relays(&mut self, events: &mut Vec<Event>) -> Result<(), IoError> {
        for _ in 0..self.relays.len() {
            let Some(key) = self.relays.pop_front() else { break };
            self.pump_relay(key, events)?;
        }
        Ok(())
    }

    fn pump_relay(&mut self, key: Key, events: &mut Vec<Event>) -> Result<(), IoError> {
        let Some(Work::Relay { relay, waiting: waiting @ false }) = self.works.get_mut(key) else {
            return Ok(());
        };
        let (bytes, step) = relay.pump(&mut self.pipes);
        let token = relay.token;
        let sink_full = step == Step::WaitTo;
        let (socket, interest) = match step {
            Step::End(end) => {
                events.push(Event::Relayed { token, bytes, sink_full: false, end: Some(end) });
                self.end_relay(key);
                return Ok(());
            }
            Step::Again => {
                self.relays.push_back(key);
                events.push(Event::Relayed { token, bytes, sink_full: false, end: None });
                return Ok(());
            }
            Step::WaitFrom => (relay.from, libc::POLLIN | libc::POLLRDHUP),
            Step::WaitTo => (relay.to, libc::POLLOUT),
        };
        *waiting = true;
        if bytes > 0 || sink_full {
            events.push(Event::Relayed { token, bytes, sink_full, end: None });
        }
        // One shot: it looks at the socket first, so nothing that happened since is missed.
        let poll = opcode::PollAdd::new(types::Fd(socket.raw()), interest as u32);
        self.push(&poll.build().user_data(key.pack(WORK)))
    }

    /// Takes a relay off its sockets, whichever of them are still its own.
    fn end_relay(&mut self, key: Key) {
        let Some(Work::Relay { mut relay, .. }) = self.works.remove(key) else { return };
        relay.release(&mut self.pipes);
        let source = self.state(relay.from);
        if source.input == Some(key) {
            source.input = None;
        }
        let sink = self.state(relay.to);
        if sink.send == Some(key) {
            sink.send = None;
            if std::mem::take(&mut sink.shutdown_after_send) {
                sys::shutdown_write(relay.to);
            }
        }
    }

    /// The source of this relay (if it is one) was closed: the pipe's content still leaves.
    pub(super) fn relay_source_closed(&mut self, key: Option<Key>) -> Result<(), IoError> {
        let Some(key) = key else { return Ok(()) };
        let Some(Work::Relay { relay, waiting }) = self.works.get_mut(key) else { return Ok(()) };
        relay.source_closed();
        if *waiting {
            // At most one poll of a relay is in flight: its completion, cancelled or not, brings the next pump.
            return self.push_cancel(key);
        }
        self.relays.push_back(key);
        Ok(())
    }

    /// The sink of this relay (if it is one) was closed.
    pub(super) fn relay_sink_closed(
        &mut self,
        key: Option<Key>,
        events: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        let Some(key) = key else { return Ok(()) };
        let Some(Work::Relay { relay, waiting }) = self.works.get(key) else { return Ok(()) };
        let (token, waiting) = (relay.token, *waiting);
        events.push(Event::Relayed {
            token,
            bytes: 0,
            sink_full: false,
            end: Some(RelayEnd::To(IoError::CANCELED)),
        });
        self.end_relay(key);
        // A poll that stays behind would keep the file open.
        if waiting { self.push_cancel(key) } else { Ok(()) }
    }

    /// Forgets all relays; for the end of the back end.
    pub(super) fn drop_relays(&mut self) {
        for key in self.works.keys().collect::<Vec<_>>() {
            if let Some(Work::Relay { .. }) = self.works.get(key) {
                self.works.remove(key);
            }
        }
    }
}
