//! Access logs: what is known about a request or connection, and the lines made of it.
//!
//! A shard renders lines into [`LogBuffers`]; full or old buffers go through a bounded [`LogQueue`] to the
//! control thread, whose [`LogWriter`] is the only one that touches files. Nothing here ever waits: when
//! the queue is full, lines are dropped and counted.

mod buffers;
mod filter;
mod health_check;
mod line;
mod outlier;
mod stream_info;
mod writer;

pub use buffers::{LOG_BUFFER_BYTES, LogBuffers, LogQueue};
pub use filter::wanted;
pub use health_check::{HealthCheckEvent, HealthCheckLine, render_health_check};
pub use line::{render_json, render_line};
pub use outlier::{OutlierLine, render_outlier};
pub use stream_info::{AccessLogType, Attempt, Bytes, CloseType, StreamInfo, Times};
pub use writer::LogWriter;

#[cfg(test)]
mod tests;
