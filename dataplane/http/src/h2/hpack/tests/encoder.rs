//! What the encoder indexes, and when.
