//! Neutral HTTP: heads, header maps and stream events, plus the sans-io codecs of HTTP/1.1 and HTTP/2.
//!
//! Bytes in, heads and ranges out. Nothing here owns a socket, reads a clock, routes a request or knows
//! the configuration; the crate is `no_std` + `alloc` and free of unsafe code.
//!
//! Read [`header`] first (how a field is stored), then [`head`], [`h1`] in the order a message travels
//! (`scan`, `request`, `framing`, `body`, `encode`), [`h2`] beside it (a whole connection, HPACK within), then the policies
//! [`hop`] and [`path`].

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub(crate) mod block;
pub mod date;
pub mod event;
#[doc(hidden)]
pub mod fuzz;
pub mod h1;
pub mod h2;
pub mod head;
pub mod header;
pub mod hop;
pub mod path;

pub use event::StreamEvent;
pub use head::{Method, RequestHead, ResponseHead, Version};
pub use header::{HeaderId, HeaderMap};
