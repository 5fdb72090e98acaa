//! Network and HTTP filters as static dispatch over pure state.
//!
//! Everything here is a decision over heads, the immutable model and plain facts; sockets, timers and
//! buffers belong to `shard`. A request meets [`http::connection_manager`] first, then the filters of
//! [`http::chain`], the last of which is [`http::router`]; raw TCP meets [`network::tcp_proxy`].

pub mod http;
mod jitter;
pub mod network;

pub use jitter::jitter;
