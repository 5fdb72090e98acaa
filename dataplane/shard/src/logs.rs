//! Access-log lines on their way out of the shard.

use std::fmt;
use std::sync::Arc;

use millrace_base::{Key, Time};
use millrace_config::{AccessLog, AccessLogSink};
use millrace_observe::access_log::{LogBuffers, LogQueue, StreamInfo};

use crate::housekeeping::HOUSEKEEPING_EVERY;
use crate::shard::Shard;
use crate::token::Kind;

/// The shard's buffers and whom to tell when one of them is full.
pub struct Logs {
    buffers: LogBuffers,
    queue: Arc<LogQueue>,
    wake_writer: Arc<dyn Fn() + Send + Sync>,
    written: bool,
    /// A timer looks whether lines are due.
    is_watched: bool,
}

impl Logs {
    /// `wake_writer` is called at most once a turn, when batches wait in `queue`.
    pub fn new(buffers: LogBuffers, queue: Arc<LogQueue>, wake_writer: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { buffers, queue, wake_writer, written: false, is_watched: false }
    }

    /// One line for every log whose filter wants it.
    pub(crate) fn write(&mut self, logs: &[Arc<AccessLog>], info: &StreamInfo<'_>, random: u64, now: Time) {
        for log in logs {
            self.written |= self.buffers.log(log, info, random, now);
        }
    }

    /// A line that is no access log's.
    pub(crate) fn write_line(&mut self, sink: &AccessLogSink, now: Time, render: impl FnOnce(&mut Vec<u8>)) {
        self.buffers.line(sink, now, render);
        self.written = true;
    }

    /// Wakes the writer if a buffer filled up during the turn. True when lines were written that are due before the
    /// housekeeping looks, and no timer waits for that.
    pub(crate) fn end_turn(&mut self) -> bool {
        if !std::mem::take(&mut self.written) {
            return false;
        }
        if self.queue.has_work() {
            (self.wake_writer)();
        }
        !self.is_watched && self.buffers.interval() < HOUSEKEEPING_EVERY
    }

    /// When the next line is due; whoever asks sets a timer for it.
    fn watch(&mut self) -> Option<Time> {
        let due = self.buffers.deadline();
        self.is_watched = due.is_some();
        due
    }

    /// Hands over what has waited long enough.
    pub(crate) fn flush_due(&mut self, now: Time) {
        if self.buffers.flush_due(now) {
            (self.wake_writer)();
        }
    }

    /// Hands over everything.
    pub(crate) fn flush_all(&mut self) {
        if self.buffers.flush_all() {
            (self.wake_writer)();
        }
    }
}

impl Shard {
    /// Lines leave when they are due, where `--file-flush-interval-msec` is less than a second.
    pub(crate) fn watch_lines(&mut self) {
        if let Some(due) = self.logs.watch() {
            self.wheel.insert(due, Kind::Logs.token(Key { slot: 0, generation: 0 }).0);
        }
    }

    pub(crate) fn hand_over_lines(&mut self) {
        self.logs.flush_due(self.io.now);
        self.watch_lines();
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("buffers", &self.buffers).finish_non_exhaustive()
    }
}
