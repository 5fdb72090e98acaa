//! The last bytes on sockets whose connections are gone: TLS alerts and `close_notify`.
//!
//! A connection is forgotten at once; its socket stays here until the bytes have left, behind whatever was on its way.
//! After an alert it stays a moment longer, because closing a socket with unread bytes resets it, and the reset would
//! overtake the alert.

use std::time::Duration;

use millrace_base::{Key, Slab};
use millrace_ring::timer::TimerId;
use millrace_ring::{Op, Payload, Socket, Token};

use crate::link::Link;
use crate::shard::Shard;
use crate::token::Kind;

/// Sockets kept at the most; those above are closed without a word.
const PARTINGS_MAX: usize = 1024;
/// How long the last bytes may take.
const SEND_TIME: Duration = Duration::from_secs(1);
/// How long a socket lingers after an alert.
const LINGER_TIME: Duration = Duration::from_millis(200);

/// All such sockets of a shard.
#[derive(Debug, Default)]
pub(crate) struct Partings {
    sockets: Slab<Parting>,
    /// Those that wait for a send of their connection; mostly none.
    waiting: Vec<(Token, Key, Payload)>,
}

/// One such socket.
#[derive(Debug)]
struct Parting {
    socket: Socket,
    linger: bool,
    sent: bool,
    timer: TimerId,
}

impl Partings {
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

impl Shard {
    /// Sends what the connections that ended in this turn have left to say.
    pub(crate) fn part(&mut self) {
        while let Some(farewell) = self.io.farewells.pop() {
            if self.farewells.sockets.len() >= PARTINGS_MAX {
                self.io.ops.push(Op::Close { socket: farewell.socket, reset: false });
                Link::orphaned(farewell.payload, &mut self.io);
                continue;
            }
            let (socket, linger) = (farewell.socket, farewell.linger);
            let (wheel, by) = (&mut self.wheel, self.io.now + SEND_TIME);
            let key = self.farewells.sockets.insert_with(|key| {
                let timer = wheel.insert(by, Kind::Farewell.token(key).0);
                Parting { socket, linger, sent: false, timer }
            });
            match farewell.after {
                Some(token) => self.farewells.waiting.push((token, key, farewell.payload)),
                None => self.say_last(key, farewell.payload),
            }
        }
    }

    fn say_last(&mut self, key: Key, payload: Payload) {
        match self.farewells.sockets.get(key) {
            Some(parting) => {
                let token = Kind::Farewell.token(key);
                self.io.ops.push(Op::Send { socket: parting.socket, token, payload });
            }
            None => Link::orphaned(payload, &mut self.io),
        }
    }

    /// Takes back the payload of a connection that is gone; what was waiting for it may leave now.
    pub(crate) fn sent_by_none(&mut self, token: Token, payload: Payload) {
        Link::orphaned(payload, &mut self.io);
        // The connection may have ended in this very turn.
        if let Some(farewell) = self.io.farewells.iter_mut().find(|one| one.after == Some(token)) {
            farewell.after = None;
            return;
        }
        if let Some(at) = self.farewells.waiting.iter().position(|(after, ..)| *after == token) {
            let (_, key, last) = self.farewells.waiting.swap_remove(at);
            self.say_last(key, last);
        }
    }

    pub(crate) fn farewell_sent(&mut self, key: Key, delivered: bool, payload: Payload) {
        Link::orphaned(payload, &mut self.io);
        let Some(parting) = self.farewells.sockets.get_mut(key) else { return };
        parting.sent = true;
        if parting.linger && delivered {
            self.io.ops.push(Op::Shutdown { socket: parting.socket });
            self.wheel.reset(parting.timer, self.io.now + LINGER_TIME);
        } else {
            self.wheel.cancel(parting.timer);
            self.close_parting(key);
        }
    }

    /// The time of a socket is over.
    pub(crate) fn farewell_over(&mut self, key: Key) {
        if let Some(at) = self.farewells.waiting.iter().position(|(_, waiting, _)| *waiting == key) {
            let (.., last) = self.farewells.waiting.swap_remove(at);
            Link::orphaned(last, &mut self.io);
        }
        self.close_parting(key);
    }

    fn close_parting(&mut self, key: Key) {
        if let Some(parting) = self.farewells.sockets.remove(key) {
            self.io.ops.push(Op::Close { socket: parting.socket, reset: !parting.sent });
        }
    }
}
