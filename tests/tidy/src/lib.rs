//! Style and layering as a test
