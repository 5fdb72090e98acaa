//! The simulated kernel: seeded, in virtual time, with a fault plan. Same operations, same events.
//!
//! A [`SimNet`] is the network, the clock and the far side of every connection (a test's clients and
//! upstreams). A [`Sim`] is the back end of one shard on it. The whole run follows from the seed: the same
//! operations in the same order give the same events at the same virtual times.

mod backend;
mod faults;
mod net;
mod peer;
mod relaying;

pub use backend::Sim;
pub use faults::FaultPlan;
pub use peer::{Peer, PeerListener, PeerRead, SimNet};
