//! A gRPC service of plain bytes and calls to it, by tonic. `tools/grpc_peer.py` is the same by grpcio, so that each side
//! of the proxy can be either.
//!
//! Methods of `/interop.Test/`, which all stream both ways on the wire: `Echo` sends messages back as they come, `Count`
//! answers `messages:octets` at the end, `Send` answers a request `count:size` with so many messages, `Fail` ends with the
//! status in its request `code:message`, `FailLate` does so behind two messages, `Sleep` never answers, `Cancelled` says how
//! many sleeps were cancelled. Metadata named `x-echo` and `x-echo-bin` come back: as initial metadata, and those of `Fail`
//! with its status.

mod client;
mod server;

pub use client::run;
pub use server::Server;

/// Where the methods are.
const SERVICE: &str = "/interop.Test/";

/// Splits `number:rest`.
fn split(text: &[u8]) -> (usize, String) {
    let text = String::from_utf8_lossy(text);
    let (number, rest) = text.split_once(':').unwrap_or_default();
    (number.parse().unwrap_or(0), rest.to_owned())
}
