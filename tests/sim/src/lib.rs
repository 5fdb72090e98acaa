//! Deterministic simulation of the shard: a configuration built by hand, a simulated kernel, scripted
//! clients and upstreams, and the checks that must hold whatever goes wrong.
//!
//! [`setup`] names the modes, [`run`] many seeds of one, [`bed`] one step after the other, [`world`] drives one run, [`client`], [`upstream`] and [`pipe`] are the peers
//! with [`wire`] as their own HTTP reader, [`h2`] those that speak HTTP/2, [`net`] and [`tls`] what lies between them and the network, [`churn`] changes the configuration meanwhile, [`ledger`] knows what
//! every request is owed, [`check`] looks at what is left afterwards.

mod asked;
pub mod bed;
pub mod check;
pub mod churn;
pub mod client;
mod custom;
mod features;
pub mod fixture;
pub mod h2;
pub mod ledger;
mod loads;
pub mod net;
pub mod pipe;
pub mod run;
pub mod setup;
mod swap;
pub mod tls;
mod trace;
pub mod upstream;
pub mod wire;
pub mod world;
