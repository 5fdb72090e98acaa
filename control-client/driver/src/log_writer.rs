//! When log files are flushed and reopened: a timer around whatever holds the lines.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Something that buffers log lines, for example `millrace_observe`'s log writer. Implementations count
/// their own errors; a log file that cannot be written never stops traffic.
pub trait FlushLogs: Send + 'static {
    /// Writes what is buffered.
    fn flush(&mut self);
    /// Opens every file again.
    fn reopen(&mut self);
}

enum Command {
    Flush,
    Reopen,
    Finish,
}

/// Handle to the flushing thread. Dropping it flushes and ends the thread; [`Self::finish`] also waits.
pub struct LogWriter {
    commands: mpsc::Sender<Command>,
    thread: std::thread::JoinHandle<()>,
}

impl LogWriter {
    /// Starts a thread that flushes every `interval` (`--file-flush-interval-msec`; at least 1 ms). A thread
    /// of its own, because writing to a slow disk blocks and the control thread must not.
    pub fn start(mut logs: impl FlushLogs, interval: Duration) -> std::io::Result<Self> {
        let (commands, mut inbox) = mpsc::channel(8);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("log_flush".to_owned()).stack_size(256 * 1024).spawn(
            move || {
                runtime.block_on(async {
                    let period = interval.max(Duration::from_millis(1));
                    let mut ticks = interval_at(Instant::now() + period, period);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    loop {
                        tokio::select! {
                            _ = ticks.tick() => logs.flush(),
                            command = inbox.recv() => match command {
                                Some(Command::Flush) => logs.flush(),
                                Some(Command::Reopen) => {
                                    // Lines of before belong into the old file.
                                    logs.flush();
                                    logs.reopen();
                                }
                                Some(Command::Finish) | None => break,
                            },
                        }
                    }
                    logs.flush();
                });
            },
        )?;
        Ok(Self { commands, thread })
    }

    /// Flushes soon: a shard's buffer has passed `--file-flush-min-size-kb`. Never waits.
    pub fn flush_soon(&self) {
        // A full inbox means that a flush is due anyway.
        let _ = self.commands.try_send(Command::Flush);
    }

    /// Reopens files (SIGUSR1, `/reopen_logs`).
    pub async fn reopen(&self) {
        // The thread lives as long as this handle.
        let _ = self.commands.send(Command::Reopen).await;
    }

    /// Writes everything and waits for it.
    pub async fn finish(self) {
        let _ = self.commands.send(Command::Finish).await;
        drop(self.commands);
        // The thread panics only if the implementation does; its lines are lost then either way.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Record(Arc<Mutex<Vec<&'static str>>>);

    impl FlushLogs for Record {
        fn flush(&mut self) {
            self.0.lock().unwrap().push("flush");
        }
        fn reopen(&mut self) {
            self.0.lock().unwrap().push("reopen");
        }
    }

    fn run(interval: Duration, wait: Duration, reopen: bool) -> Vec<&'static str> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let writer = LogWriter::start(Record(Arc::clone(&seen)), interval).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::sleep(wait).await;
            if reopen {
                writer.reopen().await;
            }
            writer.finish().await;
        });
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    #[test]
    fn flushes_on_time_and_at_the_end() {
        assert_eq!(run(Duration::from_secs(3600), Duration::ZERO, false), ["flush"]);
        assert!(run(Duration::from_millis(5), Duration::from_millis(100), false).len() >= 3);
    }

    #[test]
    fn old_lines_go_to_the_old_file() {
        assert_eq!(run(Duration::from_secs(3600), Duration::ZERO, true), ["flush", "reopen", "flush"]);
    }
}
