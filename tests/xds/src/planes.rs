//! Real control planes in processes of their own: a Go program on go-control-plane, a Python one on grpcio and
//! xds-protos, Sovereign, and gRPC's own xDS client. `planes/prepare.sh` brings them.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use millrace_support::wait;

/// The folder of the planes' sources.
pub const PLANES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/planes");

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
        let mut child = command.spawn().expect("start a control plane");
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
        writeln!(input, "{line}").expect("the control plane listens");
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
            eprintln!("--- what the control plane said\n{}", self.lines().join("\n"));
        }
    }
}

/// The target folder of this build.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).unwrap_or(Path::new("target")).to_owned()
}

/// A prepared file, or `None` after saying what is missing.
///
/// # Panics
/// When it is missing and `CI=true`: there nothing is skipped.
#[track_caller]
fn prepared(relative: &str) -> Option<PathBuf> {
    let path = target().join(relative);
    if path.exists() {
        return Some(path);
    }
    let reason = format!("{} is missing; tests/xds/planes/prepare.sh makes it", path.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    eprintln!("skipped: {reason}");
    None
}

/// The Python interpreter with the packages of `planes/requirements.txt`.
#[track_caller]
pub fn python() -> Option<PathBuf> {
    prepared("xds-venv/prepared")?;
    prepared("xds-venv/bin/python")
}

/// The program of `planes/go`.
#[track_caller]
pub fn go() -> Option<PathBuf> {
    prepared("xds-go/control-plane")
}

/// The `sovereign` command.
#[track_caller]
pub fn sovereign() -> Option<PathBuf> {
    prepared("xds-venv/bin/sovereign")
}
