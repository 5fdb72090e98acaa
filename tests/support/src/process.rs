//! A running subject: started with a generated bootstrap in a directory of its own, watched through
//! its admin endpoint, and killed by its pid when dropped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::access_log::AccessLog;
use crate::bootstrap::Bootstrap;
use crate::message::Response;
use crate::raw::Client;
use crate::subject::Subject;
use crate::wait;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A fresh directory, removed when dropped unless the test is failing.
pub struct Directory(PathBuf);

impl Directory {
    /// Creates one under the system's temporary directory.
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("millrace-e2e-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("create a directory for the subject");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it, with `@DIR@` replaced.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text.replace("@DIR@", &self.0.to_string_lossy())).expect("write a test's file");
        path
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("files of the failed subject are left in {}", self.0.display());
        } else {
            // A leftover in /tmp is no reason to fail a test.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// What a subject that ended by itself left behind.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not end within [`wait::PATIENCE`]; it is killed first.
#[track_caller]
pub fn run(mut command: Command) -> Finished {
    let directory = Directory::new();
    let (out, err) = (directory.path().join("stdout"), directory.path().join("stderr"));
    command.stdout(File::create(&out).expect("a file for stdout"));
    command.stderr(File::create(&err).expect("a file for stderr"));
    let mut child = command.spawn().expect("start the subject");
    let status = wait::until(wait::PATIENCE, || child.try_wait().ok().flatten());
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let finished = Finished { code: status.and_then(|s| s.code()), stdout: read(out), stderr: read(err) };
    assert!(status.is_some(), "did not end by itself: {command:?} {finished:?}");
    finished
}

/// A running subject.
pub struct Proxy {
    child: Child,
    directory: Directory,
    admin: SocketAddr,
    status: Option<ExitStatus>,
}

impl Proxy {
    /// Starts with one worker.
    #[track_caller]
    pub fn start(subject: &Subject, bootstrap: &Bootstrap) -> Self {
        Self::start_with(subject, bootstrap, &["--concurrency", "1"])
    }

    /// Starts with these arguments besides the configuration and the harness's own.
    ///
    /// # Panics
    /// When the subject ends, or is not ready in time.
    #[track_caller]
    pub fn start_with(subject: &Subject, bootstrap: &Bootstrap, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        let config = directory.write("bootstrap.yaml", &bootstrap.yaml());
        let mut command = subject.command();
        command.arg("-c").arg(config).args(arguments);
        Self::launch(command, directory)
    }

    /// Starts with one worker, but waits only for the admin endpoint: a control plane that says nothing keeps
    /// the subject from being ready.
    #[track_caller]
    pub fn start_unready(subject: &Subject, bootstrap: &Bootstrap, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        let config = directory.write("bootstrap.yaml", &bootstrap.yaml());
        let mut command = subject.command();
        command.arg("-c").arg(config).args(["--concurrency", "1"]).args(arguments);
        Self::launch_until(command, directory, |admin| Client::try_connect(admin).is_ok())
    }

    /// Waits until `/ready` answers 200.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait::for_true("the subject to be ready", || ready(self.admin));
    }

    /// True when `/ready` answers 200.
    pub fn is_ready(&self) -> bool {
        ready(self.admin)
    }

    /// Starts a command that names its configuration itself.
    #[track_caller]
    pub fn launch(command: Command, directory: Directory) -> Self {
        Self::launch_until(command, directory, ready)
    }

    #[track_caller]
    fn launch_until(mut command: Command, directory: Directory, is_up: fn(SocketAddr) -> bool) -> Self {
        let address_file = directory.path().join("admin.address");
        command.arg("--admin-address-path").arg(&address_file);
        command.args(["--disable-hot-restart", "--file-flush-interval-msec", "20", "--log-level", "warning"]);
        command.stdout(File::create(directory.path().join("stdout")).expect("a file for stdout"));
        command.stderr(File::create(directory.path().join("stderr")).expect("a file for stderr"));
        let mut child = command.spawn().expect("start the subject");
        let mut ended = None;
        let admin = wait::until(wait::PATIENCE, || {
            ended = child.try_wait().ok().flatten();
            if ended.is_some() {
                return Some(None);
            }
            let address = fs::read_to_string(&address_file).ok()?.trim().parse().ok()?;
            is_up(address).then_some(Some(address))
        });
        let stderr = fs::read_to_string(directory.path().join("stderr")).unwrap_or_default();
        if admin.flatten().is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let admin = admin.flatten();
        assert!(admin.is_some(), "the subject is not ready (ended: {ended:?}): {command:?}\n{stderr}");
        let admin = admin.unwrap_or_else(|| unreachable!("asserted above"));
        Self { child, directory, admin, status: None }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The admin endpoint.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its access log.
    pub fn log(&self) -> AccessLog {
        AccessLog::in_directory(self.directory.path())
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.directory.path().join("stdout")).unwrap_or_default()
    }

    /// GET on the admin endpoint.
    #[track_caller]
    pub fn admin_get(&self, target: &str) -> Response {
        Client::connect(self.admin).get(target)
    }

    /// POST on the admin endpoint.
    #[track_caller]
    pub fn admin_post(&self, target: &str) -> Response {
        Client::connect(self.admin).exchange("POST", target, &[], b"")
    }

    /// The address a named listener is bound to.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        let text = self.admin_get("/listeners").text();
        let prefix = format!("{name}::");
        let found = text.lines().find_map(|l| l.strip_prefix(&prefix)?.parse().ok());
        found.unwrap_or_else(|| unreachable!("no listener {name} in {text:?}"))
    }

    /// The address of a named listener, if it is bound.
    pub fn bound(&self, name: &str) -> Option<SocketAddr> {
        let text = self.admin_get("/listeners").text();
        let prefix = format!("{name}::");
        text.lines().find_map(|l| l.strip_prefix(&prefix)?.parse().ok())
    }

    /// Waits until a named listener is bound.
    #[track_caller]
    pub fn wait_listener(&self, name: &str) -> SocketAddr {
        let found = wait::until(wait::PATIENCE, || self.bound(name));
        assert!(found.is_some(), "waited in vain for the listener {name}");
        found.unwrap_or_else(|| unreachable!("asserted above"))
    }

    /// A new connection to the listener `main`.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.listener("main"))
    }

    /// A counter or gauge; `None` when it does not exist.
    #[track_caller]
    pub fn stat(&self, name: &str) -> Option<u64> {
        let text = self.admin_get("/stats").text();
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
    }

    /// Waits until a stat has this value.
    #[track_caller]
    pub fn wait_stat(&self, name: &str, value: u64) {
        let mut last = None;
        let met = wait::until(wait::PATIENCE, || {
            last = self.stat(name);
            (last == Some(value)).then_some(())
        });
        assert!(met.is_some(), "{name}: waited for {value}, stands at {last:?}");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A process that has ended already shows in `wait_exit`.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = wait::until(limit, || self.child.try_wait().ok().flatten());
        }
        self.status
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Already gone is fine.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- stderr of the subject\n{}", self.stderr());
        }
    }
}

fn ready(admin: SocketAddr) -> bool {
    let Ok(mut client) = Client::try_connect(admin) else { return false };
    client.request("GET", "/ready", &[("host", "admin")], b"");
    client.response("GET").is_ok_and(|r| r.status == 200)
}
