//! Deterministic simulation of the shard
