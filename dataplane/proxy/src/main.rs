//! The Millrace binary.
fn main() {}
