//! gRPC to a control plane: `connection` is HTTP/2 that streams share, `method` names the calls, `metadata` fills their
//! headers and `stream` runs one.

mod connection;
mod metadata;
mod method;
mod stream;

pub(super) use connection::Service;
pub(super) use method::{Method, method};
pub(super) use stream::{Request, Response, StreamEvent, StreamTask};
