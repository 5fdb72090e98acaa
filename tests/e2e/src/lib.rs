//! The real binary, driven as a user would
