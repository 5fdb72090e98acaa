//! From resources to what the shards serve.
