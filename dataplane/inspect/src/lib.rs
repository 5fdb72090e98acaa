//! The first bytes of a connection, before anybody is chosen to serve it: what a TLS ClientHello offers, whether clear
//! text is HTTP, and what a PROXY protocol header says.
//!
//! Every parser takes all bytes that have come so far, gives a verdict or asks for more, and never changes a verdict
//! when more bytes follow. Nothing here owns a socket, reads a clock or knows the configuration.

#![forbid(unsafe_code)]

mod client_hello;
#[doc(hidden)]
pub mod fuzz;
mod http_version;
pub mod proxy_protocol;

pub use client_hello::{
    CLIENT_HELLO_BYTES_MAX, ClientHello, HelloError, client_hello, client_hello_missing, client_hello_within,
};
pub use http_version::{HTTP_INSPECT_BYTES_MAX, HttpSniff, http_version};
