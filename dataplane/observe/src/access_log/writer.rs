//! The control thread's end: files, stdout and stderr.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;

use millrace_config::{AccessLogSink, ScopeId};

use super::buffers::{Batch, LOG_BUFFER_BYTES, LogQueue};
use crate::stats::{ShardStats, filesystem};

/// Writes batches to their sinks. Owned by the control thread; the only code here that may block.
#[derive(Debug)]
pub struct LogWriter {
    queue: Arc<LogQueue>,
    scope: ScopeId,
    files: BTreeMap<Arc<str>, File>,
}

impl LogWriter {
    /// A writer that counts in `scope`, which must be of kind `Filesystem`.
    pub fn new(queue: Arc<LogQueue>, scope: ScopeId) -> Self {
        Self { queue, scope, files: BTreeMap::new() }
    }

    /// Opens a sink when the configuration that names it is loaded, so that an unwritable path is refused
    /// with its reason instead of losing lines later.
    pub fn open(&mut self, sink: &AccessLogSink) -> io::Result<()> {
        if let AccessLogSink::File(path) = sink
            && standard(path).is_none()
            && !self.files.contains_key(path)
        {
            self.files.insert(Arc::clone(path), append(path)?);
        }
        Ok(())
    }

    /// Writes everything that is queued; returns how many batches that were.
    pub fn run(&mut self, stats: &mut ShardStats) -> usize {
        let dropped = self.queue.take_dropped();
        if dropped > 0 {
            stats.add(self.scope, filesystem::WRITE_DROPPED, dropped);
        }
        // At most one queue's worth a call: shards that never stop writing must not keep the thread here.
        let mut done = 0;
        while done < self.queue.batches.capacity()
            && let Some(batch) = self.queue.batches.pop()
        {
            self.write(batch, stats);
            done += 1;
        }
        done
    }

    fn write(&mut self, mut batch: Batch, stats: &mut ShardStats) {
        stats.add(self.scope, filesystem::WRITE_BUFFERED, u64::from(batch.lines));
        if batch.by_timer {
            stats.inc(self.scope, filesystem::FLUSHED_BY_TIMER);
        }
        let written = match &batch.sink {
            AccessLogSink::Stdout => io::stdout().lock().write_all(&batch.bytes),
            AccessLogSink::Stderr => io::stderr().lock().write_all(&batch.bytes),
            AccessLogSink::File(path) => match standard(path) {
                Some(AccessLogSink::Stderr) => io::stderr().lock().write_all(&batch.bytes),
                Some(_) => io::stdout().lock().write_all(&batch.bytes),
                None => self.file(path).and_then(|file| file.write_all(&batch.bytes)),
            },
        };
        let counter = if written.is_ok() { filesystem::WRITE_COMPLETED } else { filesystem::WRITE_FAILED };
        stats.inc(self.scope, counter);
        batch.bytes.clear();
        batch.bytes.shrink_to(2 * LOG_BUFFER_BYTES);
        // A full spare queue means that enough vectors are about; this one is freed.
        drop(self.queue.spare.push(batch.bytes));
        let _ = io::stdout().flush();
    }

    fn file(&mut self, path: &Arc<str>) -> io::Result<&mut File> {
        match self.files.entry(Arc::clone(path)) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => Ok(entry.insert(append(path)?)),
        }
    }

    /// SIGUSR1: opens every file again by its path. A file that cannot be opened keeps its old handle.
    pub fn reopen(&mut self, stats: &mut ShardStats) {
        for (path, file) in &mut self.files {
            match append(path) {
                Ok(fresh) => *file = fresh,
                Err(_) => stats.inc(self.scope, filesystem::REOPEN_FAILED),
            }
        }
    }

    /// Closes files that no configuration names any more.
    pub fn retain(&mut self, used: impl Fn(&str) -> bool) {
        self.files.retain(|path, _| used(path));
    }
}

fn append(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The paths that mean our own standard streams, which may be pipes that cannot be opened by path.
fn standard(path: &str) -> Option<AccessLogSink> {
    match path {
        "/dev/stdout" => Some(AccessLogSink::Stdout),
        "/dev/stderr" => Some(AccessLogSink::Stderr),
        _ => None,
    }
}
