//! Temp.
use millrace_config::AccessLog;
use millrace_observe::access_log::StreamInfo;
use std::sync::Arc;
/// Temp.
#[derive(Debug, Default)]
pub struct LogBuffers;
impl LogBuffers {
    /// Temp.
    pub fn write(&mut self, _l: &[Arc<AccessLog>], _i: &StreamInfo<'_>, _r: u64) {}
    /// Temp.
    pub fn flush(&mut self) {}
}
