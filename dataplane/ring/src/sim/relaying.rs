//! Relays of the simulator: bytes go through a small pipe, in pieces, and end for every reason there is.

use super::backend::{Pending, Sim, delayed, strikes_net};
use super::net::{Net, ReadResult};
use crate::{Event, IoError, RelayEnd, Socket};
use millrace_base::Time;
use std::collections::VecDeque;

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 5000;

/// One relay.
#[derive(Debug)]
pub(super) struct Relaying {
    from: Socket,
    to: Socket,
    left: u64,
    unlimited: bool,
    held: VecDeque<u8>,
    source_end: Option<RelayEnd>,
    shutdown_after: bool,
}

impl Relaying {
    pub(super) fn new(from: Socket, to: Socket, limit: u64) -> Self {
        let unlimited = limit == u64::MAX;
        Self {
            from,
            to,
            left: limit,
            unlimited,
            held: VecDeque::new(),
            source_end: None,
            shutdown_after: false,
        }
    }

    pub(super) fn next_due(&self, net: &Net, not_before: Time) -> Option<Time> {
        if self.held.is_empty() && self.source_end.is_none() && self.left > 0 {
            return net.arrival(self.from.raw()).map(|arrival| arrival.max(not_before));
        }
        (self.held.is_empty() || net.room(self.to.raw()) > 0).then_some(not_before)
    }

    /// One exchange with each socket; tells what the sink took.
    fn pump(&mut self, net: &mut Net, empty_is_idle: bool) -> (usize, Option<RelayEnd>) {
        if self.held.is_empty() {
            match self.source_end {
                _ if self.left == 0 => return (0, Some(RelayEnd::Limit)),
                Some(end) => return (0, Some(end)),
                None => {}
            }
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIPE_BYTES);
            match net.read(self.from.raw(), most) {
                ReadResult::Nothing if self.unlimited && empty_is_idle => return (0, Some(RelayEnd::Idle)),
                ReadResult::Nothing => return (0, None),
                ReadResult::Eof => return (0, Some(RelayEnd::Eof)),
                ReadResult::Reset => return (0, Some(RelayEnd::From(IoError::RESET))),
                ReadResult::Bytes(bytes) => {
                    self.left -= bytes.len() as u64;
                    self.held.extend(bytes);
                }
            }
        }
        let piece: Vec<u8> = self.held.iter().copied().take(net.room(self.to.raw()).max(1)).collect();
        match net.write(self.to.raw(), &piece) {
            Ok(count) => {
                self.held.drain(..count);
                (count, None)
            }
            Err(error) => (0, Some(RelayEnd::To(error))),
        }
    }
}

impl Sim {
    /// Moves what is due. A relay may also find that the kernel has no pipe for it.
    pub(super) fn pump_relays(&mut self, now: Time, events: &mut Vec<Event>) {
        let mut net = self.net.0.borrow_mut();
        self.relays.retain_mut(|relay: &mut Pending<Relaying>| {
            let work = &mut relay.work;
            let blocked = !work.held.is_empty() && net.room(work.to.raw()) == 0;
            if relay.not_before > now || blocked {
                return true;
            }
            let empty_is_idle = net.rng.below(2) == 0;
            let no_pipe = work.held.is_empty() && strikes_net(&mut net, |plan| plan.short_writes / 8);
            let (bytes, end) = match no_pipe {
                true => (0, Some(work.source_end.unwrap_or(RelayEnd::Unavailable))),
                false => work.pump(&mut net, empty_is_idle),
            };
            relay.not_before = delayed(&mut net);
            let sink_full = !relay.work.held.is_empty() && end.is_none();
            if bytes > 0 || sink_full || end.is_some() {
                events.push(Event::Relayed { token: relay.token, bytes, sink_full, end });
            }
            if end.is_some() && relay.work.shutdown_after {
                net.shutdown(relay.work.to.raw());
            }
            end.is_none()
        });
    }

    /// Puts a FIN behind the relay to this socket; false when there is none.
    pub(super) fn shutdown_after_relay(&mut self, socket: Socket) -> bool {
        let relay = self.relays.iter_mut().find(|relay| relay.work.to == socket);
        relay.map(|relay| relay.work.shutdown_after = true).is_some()
    }

    /// A socket is about to be closed: a relay from it still empties its pipe, a relay to it is over.
    pub(super) fn close_relays(&mut self, socket: Socket, late: Option<Time>, events: &mut Vec<Event>) {
        for relay in self.relays.extract_if(.., |relay| relay.work.to == socket) {
            let end = Some(RelayEnd::To(IoError::CANCELED));
            let event = Event::Relayed { token: relay.token, bytes: 0, sink_full: false, end };
            match late {
                Some(when) => self.late.push((when, event)),
                None => events.push(event),
            }
        }
        for relay in self.relays.iter_mut().filter(|relay| relay.work.from == socket) {
            relay.work.source_end = Some(RelayEnd::From(IoError::CANCELED));
        }
    }
}
