//! Access logs: what is known about a request or connection, and the lines made of it.

mod stream_info;

pub use stream_info::{AccessLogType, Bytes, StreamInfo, Times};
