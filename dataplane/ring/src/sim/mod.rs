//! Seeded, deterministic back end.
