//! Whole-proxy scenarios.
fn main() {}
