//! HTTP: the connection manager around the filter chain, and the filters.

pub mod chain;
pub mod connection_manager;
pub mod local_reply;
pub mod router;
#[cfg(test)]
mod test;

pub use local_reply::LocalReply;
