//! The sans-io HTTP/2 codec (RFC 9113).

pub mod hpack;
