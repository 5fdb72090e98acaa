//! Deterministic simulation of the shard: a configuration built by hand, a simulated kernel, scripted
//! clients and upstreams, and the checks that must hold whatever goes wrong.

pub mod fixture;
pub mod world;
