//! Lines on their way from a shard to the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use millrace_base::Time;
use millrace_config::{AccessLog, AccessLogSink};

use super::{StreamInfo, render_line, wanted};

/// A buffer of this size is handed over at once.
pub const LOG_BUFFER_BYTES: usize = 64 * 1024;

/// Longest line; longer ones are cut and end in a newline.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// Lines of one sink.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) sink: AccessLogSink,
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u32,
    pub(super) by_timer: bool,
}

/// Batches from all shards to the one writer, and empty vectors back. Bounded and free of locks.
#[derive(Debug)]
pub struct LogQueue {
    pub(super) batches: ArrayQueue<Batch>,
    pub(super) spare: ArrayQueue<Vec<u8>>,
    dropped: AtomicU64,
}

impl LogQueue {
    /// A queue of `batches` buffers of [`LOG_BUFFER_BYTES`].
    pub fn new(batches: usize) -> Arc<Self> {
        let batches = batches.max(1);
        Arc::new(Self {
            batches: ArrayQueue::new(batches),
            spare: ArrayQueue::new(batches),
            dropped: AtomicU64::new(0),
        })
    }

    /// Lines dropped because the writer fell behind, since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// True when the writer has something to do.
    pub fn has_work(&self) -> bool {
        !self.batches.is_empty()
    }
}

#[derive(Debug)]
struct Buffer {
    sink: AccessLogSink,
    bytes: Vec<u8>,
    lines: u32,
    /// When the first line came; meaningless while empty.
    since: Time,
}

/// A shard's lines, one buffer per sink.
#[derive(Debug)]
pub struct LogBuffers {
    queue: Arc<LogQueue>,
    interval: Duration,
    buffers: Vec<Buffer>,
    scratch: Vec<u8>,
}

impl LogBuffers {
    /// Nothing yet. `interval` is how long a line may wait (`--file-flush-interval-msec`, 10 s).
    pub fn new(queue: Arc<LogQueue>, interval: Duration) -> Self {
        Self { queue, interval, buffers: Vec::new(), scratch: Vec::new() }
    }

    /// Renders a line unless the log's filter refuses it. `random` is one draw of the shard's generator.
    /// Returns true when a line was written.
    pub fn log(&mut self, log: &AccessLog, info: &StreamInfo<'_>, random: u64, now: Time) -> bool {
        if log.filter.as_ref().is_some_and(|filter| !wanted(filter, info, random)) {
            return false;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        self.line(&log.sink, now, |out| render_line(&log.format, info, &mut scratch, out));
        self.scratch = scratch;
        true
    }

    /// Appends a line that is no access log's. `render` ends it with a newline.
    pub fn line(&mut self, sink: &AccessLogSink, now: Time, render: impl FnOnce(&mut Vec<u8>)) {
        let at = self.buffer_of(sink);
        let buffer = &mut self.buffers[at];
        let start = buffer.bytes.len();
        if buffer.lines == 0 {
            buffer.since = now;
        }
        render(&mut buffer.bytes);
        if buffer.bytes.len() - start > LINE_BYTES_MAX {
            buffer.bytes.truncate(start + LINE_BYTES_MAX);
            buffer.bytes.push(b'\n');
        }
        buffer.lines += 1;
        if buffer.bytes.len() >= LOG_BUFFER_BYTES {
            self.hand_over(at, false);
        }
    }

    /// How long a line may wait.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// When [`LogBuffers::flush_due`] has something to do; `None` while everything is empty.
    pub fn deadline(&self) -> Option<Time> {
        self.buffers.iter().filter(|b| b.lines > 0).map(|b| b.since + self.interval).min()
    }

    /// Hands over what waited for the interval. Returns true when the writer should be woken.
    pub fn flush_due(&mut self, now: Time) -> bool {
        let interval = self.interval;
        self.flush_where(|buffer| buffer.since + interval <= now)
    }

    /// Hands over everything, at the end of a drain. Returns true when the writer should be woken.
    pub fn flush_all(&mut self) -> bool {
        self.flush_where(|_| true)
    }

    fn flush_where(&mut self, due: impl Fn(&Buffer) -> bool) -> bool {
        let mut any = false;
        for at in 0..self.buffers.len() {
            if self.buffers[at].lines > 0 && due(&self.buffers[at]) {
                self.hand_over(at, true);
                any = true;
            }
        }
        any
    }

    fn buffer_of(&mut self, sink: &AccessLogSink) -> usize {
        // Few sinks exist; clones of one `Arc` are the usual case.
        let same = |known: &AccessLogSink| match (known, sink) {
            (AccessLogSink::File(a), AccessLogSink::File(b)) => Arc::ptr_eq(a, b) || a == b,
            (a, b) => a == b,
        };
        if let Some(at) = self.buffers.iter().position(|buffer| same(&buffer.sink)) {
            return at;
        }
        // A sink that nobody uses any more makes room, so that updates cannot pile up buffers.
        let new = Buffer { sink: sink.clone(), bytes: Vec::new(), lines: 0, since: Time::ZERO };
        match self.buffers.iter().position(|buffer| buffer.lines == 0).filter(|_| self.buffers.len() >= 16) {
            Some(at) => {
                self.buffers[at] = new;
                at
            }
            None => {
                self.buffers.push(new);
                self.buffers.len() - 1
            }
        }
    }

    fn hand_over(&mut self, at: usize, by_timer: bool) {
        let fresh = self.queue.spare.pop().unwrap_or_default();
        let buffer = &mut self.buffers[at];
        let batch = Batch {
            sink: buffer.sink.clone(),
            bytes: std::mem::replace(&mut buffer.bytes, fresh),
            lines: std::mem::take(&mut buffer.lines),
            by_timer,
        };
        if let Err(mut batch) = self.queue.batches.push(batch) {
            self.queue.dropped.fetch_add(u64::from(batch.lines), Ordering::Relaxed);
            batch.bytes.clear();
            buffer.bytes = batch.bytes;
        }
    }
}
