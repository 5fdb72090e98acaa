//! Network filters in front of the terminal one: who is let in.

use millrace_config::{ConnectionGate, FilterChain};
use millrace_observe::stats::{connection_limit, local_rate_limit};

use crate::shard::Shard;

impl Shard {
    /// Asks the gates of a chain, in order, about a new connection. What is true must be followed by
    /// [`Shard::leave_gates`] once the connection is gone.
    pub(crate) fn pass_gates(&mut self, chain: &FilterChain) -> bool {
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
                        false => self.stats.inc(limit.scope, connection_limit::LIMITED_CONNECTIONS),
                    }
                    passes
                }
                // The connection waits for it when it is open: `tcp/naming.rs`.
                ConnectionGate::SniForwardProxy(_) => true,
            };
            if !passes {
                self.leave(&chain.gates[..at]);
                return false;
            }
        }
        true
    }

    /// A connection that passed the gates of its chain is gone.
    pub(crate) fn leave_gates(&mut self, chain: &FilterChain) {
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
