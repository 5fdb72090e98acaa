//! Vectors of route selection.
