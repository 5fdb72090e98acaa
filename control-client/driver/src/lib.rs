//! The work of the control thread that needs files, sockets and timers: the bootstrap file, the admin
//! server, name resolution, the transports of xDS and the flushing of log files.
//!
//! Everything runs on one tokio current-thread runtime and hands results to the control loop through
//! streams; nothing here knows a shard.

pub mod admin_server;
pub mod bootstrap_file;
pub mod dns;
pub mod log_writer;
pub mod xds;
