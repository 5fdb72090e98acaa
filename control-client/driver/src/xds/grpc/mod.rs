//! gRPC to a control plane: `connection` is HTTP/2 that streams share, `method` names the calls, `metadata` fills their
//! headers, `stream` runs one of discovery, `load` one of load reports and `health` one of health discovery.

mod connection;
mod health;
mod load;
mod metadata;
mod method;
mod stream;

pub(super) use connection::Service;
pub(super) use health::HealthStream;
pub(super) use load::{Ended, LoadStream};
pub(super) use method::{Method, method};
pub(super) use stream::{Request, Response, StreamEvent, StreamTask};
