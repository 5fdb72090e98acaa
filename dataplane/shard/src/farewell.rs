//! The last bytes on sockets whose connections are gone: TLS alerts and `close_notify`.
//!
//! A connection is forgotten at once; its socket stays here until the bytes have left. After an alert it stays a moment
//! longer, because closing a socket with unread bytes resets it, and the reset would overtake the alert.

use std::time::Duration;

use millrace_base::Key;
use millrace_ring::timer::TimerId;
use millrace_ring::{Op, Payload, Socket};

use crate::link::Link;
use crate::shard::Shard;
use crate::token::Kind;

/// Sockets kept at the most; those above are closed without a word.
const PARTINGS_MAX: usize = 1024;
/// How long the last bytes may take.
const SEND_TIME: Duration = Duration::from_secs(1);
/// How long a socket lingers after an alert.
const LINGER_TIME: Duration = Duration::from_millis(200);

/// One such socket.
#[derive(Debug)]
pub(crate) struct Parting {
    socket: Socket,
    linger: bool,
    sent: bool,
    timer: TimerId,
}

impl Shard {
    /// Sends what the connections that ended in this turn have left to say.
    pub(crate) fn part(&mut self) {
        while let Some(farewell) = self.io.farewells.pop() {
            if self.farewells.len() >= PARTINGS_MAX {
                self.io.ops.push(Op::Close { socket: farewell.socket, reset: false });
                Link::orphaned(farewell.payload, &mut self.io);
                continue;
            }
            let (socket, linger) = (farewell.socket, farewell.linger);
            let (wheel, by) = (&mut self.wheel, self.io.now + SEND_TIME);
            let key = self.farewells.insert_with(|key| {
                let timer = wheel.insert(by, Kind::Farewell.token(key).0);
                Parting { socket, linger, sent: false, timer }
            });
            let token = Kind::Farewell.token(key);
            self.io.ops.push(Op::Send { socket, token, payload: farewell.payload });
        }
    }

    pub(crate) fn farewell_sent(&mut self, key: Key, delivered: bool, payload: Payload) {
        Link::orphaned(payload, &mut self.io);
        let Some(parting) = self.farewells.get_mut(key) else { return };
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
        self.close_parting(key);
    }

    fn close_parting(&mut self, key: Key) {
        if let Some(parting) = self.farewells.remove(key) {
            self.io.ops.push(Op::Close { socket: parting.socket, reset: !parting.sent });
        }
    }
}
