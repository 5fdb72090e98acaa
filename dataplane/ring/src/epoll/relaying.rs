//! Relays: pumped once a turn for as long as both sockets go along, then woken by an edge.

use super::{Epoll, Role};
use crate::relay::{Relay, Step};
use crate::{Event, IoError, RelayEnd, Socket, Token, sys};
use millrace_base::Key;

/// A relay and whether it is in the queue of those to pump.
pub(super) struct Relaying {
    relay: Relay,
    queued: bool,
}

impl Epoll {
    pub(super) fn start_relay(
        &mut self,
        from: Socket,
        to: Socket,
        token: Token,
        limit: u64,
        events: &mut Vec<Event>,
    ) {
        let source = self.state(from);
        let busy = source.recv.is_some() || source.relay.is_some();
        let busy = busy || !matches!(self.state(to).role, Role::Idle);
        debug_assert!(!busy, "a relay has both sockets to itself");
        let ready = if busy { Err(IoError::from_errno(libc::EALREADY)) } else { Ok(()) };
        if ready.and_then(|()| self.register(from)).and_then(|()| self.register(to)).is_err() {
            return events.push(Event::Relayed {
                token,
                bytes: 0,
                sink_full: false,
                end: Some(RelayEnd::Unavailable),
            });
        }
        let key = self.relays.insert(Relaying { relay: Relay::new(from, to, token, limit), queued: false });
        self.state(from).relay = Some(key);
        self.state(to).role = Role::Relayed(key);
        self.queue_relay(key);
    }

    /// Something happened to one of the relay's sockets.
    pub(super) fn queue_relay(&mut self, key: Key) {
        if let Some(relaying) = self.relays.get_mut(key)
            && !std::mem::replace(&mut relaying.queued, true)
        {
            self.to_relay.push_back(key);
        }
    }

    /// Gives every relay that can go on a turn.
    pub(super) fn pump_relays(&mut self, events: &mut Vec<Event>) {
        for _ in 0..self.to_relay.len() {
            let Some(key) = self.to_relay.pop_front() else { return };
            let Some(relaying) = self.relays.get_mut(key) else { continue };
            relaying.queued = false;
            let (bytes, step) = relaying.relay.pump(&mut self.pipes);
            let token = relaying.relay.token;
            let end = match step {
                Step::End(end) => Some(end),
                Step::Again | Step::WaitFrom | Step::WaitTo => None,
            };
            let sink_full = step == Step::WaitTo;
            if bytes > 0 || sink_full || end.is_some() {
                events.push(Event::Relayed { token, bytes, sink_full, end });
            }
            if step == Step::Again {
                self.queue_relay(key);
            } else if end.is_some() {
                self.end_relay(key);
            }
        }
    }

    /// Takes a relay off its sockets, whichever of them are still its own.
    fn end_relay(&mut self, key: Key) {
        let Some(Relaying { mut relay, .. }) = self.relays.remove(key) else { return };
        relay.release(&mut self.pipes);
        let source = self.state(relay.from);
        if source.relay == Some(key) {
            source.relay = None;
            // Edges were spent on the relay: the next receive looks for itself.
            source.readable = true;
        }
        let sink = self.state(relay.to);
        if matches!(sink.role, Role::Relayed(other) if other == key) {
            sink.role = Role::Idle;
            if std::mem::take(&mut sink.shutdown_after_send) {
                sys::shutdown_write(relay.to);
            }
        }
    }

    /// A socket is about to be closed: a relay from it still empties its pipe, a relay to it is over.
    pub(super) fn close_relays(&mut self, socket: Socket, events: &mut Vec<Event>) {
        if let Some(key) = self.state(socket).relay
            && let Some(relaying) = self.relays.get_mut(key)
        {
            relaying.relay.source_closed();
            self.queue_relay(key);
        }
        if let Role::Relayed(key) = self.state(socket).role
            && let Some(relaying) = self.relays.get(key)
        {
            let end = Some(RelayEnd::To(IoError::CANCELED));
            events.push(Event::Relayed { token: relaying.relay.token, bytes: 0, sink_full: false, end });
            self.end_relay(key);
        }
    }
}
