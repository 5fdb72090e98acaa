//! HTTP/2 (RFC 9113): a sans-io connection of either side. Never opens a socket, reads a clock or keeps a body.
//!
//! [`Connection::receive`] takes bytes and returns one [`Event`] a call; body bytes stay in the caller's buffer, heads
//! land in the caller's [`Heads`]. The `send_*` functions append whole frames to the caller's output. What the peer must
//! be told besides (acknowledgements, resets, windows) waits in a queue that [`Connection::take_control`] hands out.
//!
//! Read in the order a frame travels: `frame`, `settings`, `stream` and `table`, `flow`, then `connection`.

mod closed;
mod connection;
mod counts;
mod error;
mod event;
mod flow;
mod frame;
mod head;
pub mod hpack;
mod limits;
mod options;
mod priority;
mod settings;
mod stream;
mod table;

pub use connection::Connection;
pub use counts::Counts;
pub use error::{ConnectionError, ErrorCode};
pub use event::{Event, GoAway, Heads, Side, Step, StreamRef};
pub use options::{Options, Role};
pub use priority::Priority;

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
