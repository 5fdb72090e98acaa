//! Network filters in front of the terminal one: who is let in.

use millrace_base::{Key, Time};
use millrace_config::{ConnectionGate, FilterChain};
use millrace_observe::stats::{connection_limit, local_rate_limit};

use crate::downstream::{Downstream, Protocol};
use crate::shard::Shard;

/// A connection above a `connection_limit` with a `delay`: nothing is done for it but to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// When it is closed.
    pub(crate) until: Time,
    /// How many gates of its chain count it.
    gates: usize,
}

/// What the gates say of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It goes on. So it does when it is refused with a delay, for that time.
    In(Option<Refused>),
    /// It is closed at once.
    Closed,
}

impl Shard {
    /// Asks the gates of a chain, in order, about a new connection. What is let in must be followed by
    /// [`Shard::leave_gates`] once the connection is gone.
    pub(crate) fn pass_gates(&mut self, chain: &FilterChain) -> Passage {
        for (at, gate) in chain.gates.iter().enumerate() {
            let passes = match gate {
                // It is written once the connection is in service.
                ConnectionGate::SetFilterState(_) => true,
                ConnectionGate::RateLimit(limit) => {
                    let passes = !limit.enabled || limit.bucket.take_one(self.io.now);
                    if !passes {
                        self.stats.inc(limit.scope, local_rate_limit::RATE_LIMITED);
                    }
                    passes
                }
                ConnectionGate::Limit(limit) => {
                    let passes = !limit.enabled || limit.open();
                    match passes {
                        true if limit.enabled => {
                            self.stats.gauge_inc(limit.scope, connection_limit::ACTIVE_CONNECTIONS);
                        }
                        true => {}
                        false => {
                            self.stats.inc(limit.scope, connection_limit::LIMITED_CONNECTIONS);
                            if !limit.delay.is_zero() {
                                limit.open_above();
                                self.stats.gauge_inc(limit.scope, connection_limit::ACTIVE_CONNECTIONS);
                                let until = self.io.now + limit.delay;
                                return Passage::In(Some(Refused { until, gates: at + 1 }));
                            }
                        }
                    }
                    passes
                }
                // The connection waits for it when it is open: `tcp/naming.rs`.
                ConnectionGate::SniForwardProxy(_) => true,
            };
            if !passes {
                self.leave(&chain.gates[..at]);
                return Passage::Closed;
            }
        }
        Passage::In(None)
    }

    /// A connection that passed the gates of its chain is gone.
    pub(crate) fn leave_gates(&mut self, downstream: &Downstream) {
        let gates = &downstream.origin.chain.gates;
        match downstream.protocol {
            Protocol::Refused(Refused { gates: counted, .. }) => self.leave(&gates[..counted]),
            Protocol::Tcp(_) | Protocol::Http(_) | Protocol::Securing(_) => self.leave(gates),
        }
    }

    /// The `delay` of a refused connection may be over.
    pub(crate) fn refused_timer(&mut self, key: Key) {
        if let Some(Protocol::Refused(refused)) = self.downstreams.get(key).map(|d| &d.protocol)
            && refused.until <= self.io.now
        {
            self.close_downstream(key, false);
        }
    }

    /// The chain of a connection that was let in has no filters to serve it.
    pub(crate) fn leave_empty_chain(&mut self, chain: &FilterChain) {
        self.leave(&chain.gates);
    }

    fn leave(&mut self, gates: &[ConnectionGate]) {
        for gate in gates {
            if let ConnectionGate::Limit(limit) = gate
                && limit.enabled
            {
                limit.close();
                self.stats.gauge_dec(limit.scope, connection_limit::ACTIVE_CONNECTIONS);
            }
        }
    }
}
