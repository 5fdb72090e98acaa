//! What tests of the whole proxy stand on: a strict recording upstream with its own parser, a ledger
//! client, a byte-level client, a chaos proxy, a scripted control plane, and a harness that starts the
//! subject under test.
//!
//! Everything but the control plane is blocking and uses one thread per connection: it must be obviously
//! right, not fast. It shares no code with the proxy, so that a misreading of a standard has to be made twice
//! before a test agrees with it.

pub mod accept;
pub mod access_log;
pub mod any;
pub mod bootstrap;
pub mod chaos;
pub mod dns;
pub mod h2;
pub mod ledger;
pub mod message;
pub mod process;
pub mod program;
pub mod raw;
pub mod rng;
pub mod strict;
pub mod subject;
pub mod tcp;
pub mod tls;
pub mod upstream;
pub mod wait;
pub mod wire;
pub mod xds;
