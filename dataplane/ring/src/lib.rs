//! Kernel I/O behind plain values: io_uring, epoll and a seeded simulator.
//!
//! A shard appends [`Op`] values, hands them to a back end's `turn`, and gets [`Event`] values back. The
//! three back ends keep one contract (tested by one suite); which one runs is invisible above this crate.
//! This is the only crate of the workspace that holds `unsafe` code. It owns file descriptors, kernel
//! rings, receive buffers, socket options, CPU affinity and the timer wheel; it never looks into a byte it
//! moves and never decides what to do about an error.

mod address;
pub mod affinity;
mod backend;
mod buffer;
mod config;
mod epoll;
mod error;
mod event;
pub mod memory;
mod op;
mod payload;
mod relay;
pub mod sim;
pub mod sockets;
mod sys;
pub mod timer;
mod uring;
mod waker;

pub use address::{SocketAddress, UnixAddress};
pub use backend::Backend;
pub use buffer::{BufferPool, Filled};
pub use config::{Config, IoChoice, OpenError, OpenReport};
pub use error::{IoError, IoErrorKind};
pub use event::{Accepted, Event, RecvEnd, RelayEnd};
pub use op::{ConnectOptions, Keepalive, Op, RawOption, Socket, Token};
pub use payload::Payload;
pub use waker::Waker;
