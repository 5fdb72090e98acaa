//! Random blocks.
