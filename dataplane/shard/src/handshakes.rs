//! How many steps of clients' handshakes one turn takes: a signature costs as much as dozens of requests, and whoever is
//! connected shall not wait for a crowd that is not.
//!
//! What does not fit waits in order, and is not read further. When receive buffers are scarce nothing waits here.

use std::collections::VecDeque;

use millrace_base::Key;
use millrace_ring::Filled;

use crate::downstream::Protocol;
use crate::shard::Shard;

/// Steps of a turn: about a millisecond with ECDSA, three with RSA.
const STEPS_MAX: usize = 4;

/// Handshakes whose next step waits for another turn.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    taken: usize,
    waiting: VecDeque<(Key, Filled)>,
}

impl Handshakes {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Shard {
    /// The steps that have waited for this turn.
    pub(crate) fn run_handshakes(&mut self) {
        self.tls.handshakes.taken = 0;
        while self.tls.handshakes.taken < STEPS_MAX
            && let Some((key, data)) = self.tls.handshakes.waiting.pop_front()
        {
            // Its time may be over.
            let Some(downstream) = self.downstreams.get_mut(key) else { continue };
            downstream.link.resume(&mut self.io);
            self.tls.handshakes.taken += 1;
            self.open_downstream_data(key, data);
        }
    }

    /// Gives `data` back if it may be looked at now; keeps it for another turn otherwise.
    pub(crate) fn admit_handshake(&mut self, key: Key, data: Filled) -> Option<Filled> {
        let downstream = self.downstreams.get_mut(key)?;
        let handshakes = &mut self.tls.handshakes;
        let behind = handshakes.waiting.iter().any(|(waiting, _)| *waiting == key);
        let begins = matches!(downstream.protocol, Protocol::Securing(_));
        let full = begins && handshakes.taken >= STEPS_MAX && !self.io.is_scarce();
        if !behind && !full {
            handshakes.taken += usize::from(begins);
            return Some(data);
        }
        downstream.link.hold();
        handshakes.waiting.push_back((key, data));
        None
    }
}
