//! Counters, histograms and access logs, rendered only when somebody reads them.
//!
//! [`stats`] owns names and numbers; [`access_log`] turns what is known about a finished request or
//! connection into lines; [`mod@format`] evaluates the substitution formats that the configuration compiled.
//! Nothing here forwards traffic, reads a clock or opens a socket; only the control thread's
//! log writer touches files.

pub mod access_log;
pub mod format;
mod json;
pub mod stats;
