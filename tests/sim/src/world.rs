//! Drives the shard.
