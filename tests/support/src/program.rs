//! Programs of ours in other languages: they obey lines, answer in lines, and end with their input.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::wait;

/// A program of ours that obeys lines and answers in lines.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start the program");
        let input = child.stdin.take();
        let output = child.stdout.take().expect("a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, input, lines }
    }

    /// Everything that it said.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells it something.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("an open pipe");
        writeln!(input, "{line}").expect("the program listens");
    }

    /// Waits for a line that starts so, after that many others, and returns its rest.
    ///
    /// # Panics
    /// When patience runs out.
    #[track_caller]
    pub fn wait(&self, after: usize, start: &str) -> String {
        let found = wait::until(3 * wait::PATIENCE, || {
            self.lines().into_iter().skip(after).find_map(|l| Some(l.strip_prefix(start)?.trim().to_owned()))
        });
        assert!(found.is_some(), "waited in vain for {start:?} in {:#?}", self.lines());
        found.unwrap_or_default()
    }

    /// The address that it says it listens at.
    ///
    /// # Panics
    /// When it does not say one.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.wait(0, "listening ").parse().expect("an address")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // They end with their input.
        drop(self.input.take());
        let ended = wait::until(wait::PATIENCE / 2, || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- what the program said\n{}", self.lines().join("\n"));
        }
    }
}
