//! Load over mutual TLS, which neither `wrk` nor `h2load` can make: requests on connections that stay, and
//! handshakes. One thread, epoll, closed loop. Whatever must be there first (connections, tickets) is there before
//! the client says that it is ready, so that it is not counted.

mod exchange;
mod frames;
mod handshakes;
mod link;
mod requests;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustls::pki_types::ServerName;

use super::{Generator, Tally, own, tcp};
use crate::credentials::Caller;
use crate::process::pinned;
use crate::scenario::{Kind, Load};

const READY: &str = "ready";
/// What must be there first may take this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the client is called: `perf tls-client ADDRESS CONNECTIONS SECONDS --ca=.. ..`.
#[derive(clap::Args)]
pub(crate) struct Options {
    address: SocketAddr,
    connections: usize,
    seconds: f64,
    #[command(flatten)]
    caller: Caller,
    /// HTTP/2 with so many streams on each connection; 0: HTTP/1.1.
    #[arg(long, default_value_t = 0)]
    streams: usize,
    /// Handshakes instead of requests.
    #[arg(long)]
    handshakes: bool,
    /// Of these, all but the first resume a session.
    #[arg(long)]
    resumed: bool,
}

/// What was done and what failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    done: u64,
    errors: u64,
}

/// The client as a process: prints that it is ready, waits for a line, works, prints what was done.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let told = |e: std::io::Error| format!("client: {e}");
    let config = options.caller.config()?;
    let name = ServerName::try_from(options.caller.name.clone()).map_err(|e| format!("client: {e}"))?;
    let count = if options.handshakes {
        handshakes::Slots::start(options, config, name)?.run(options.seconds)?
    } else {
        requests::Links::start(options, &config, &name)?.run(options.seconds)?
    };
    let mut out = std::io::stdout();
    writeln!(out, "{} {}", count.done, count.errors).map_err(told)
}

/// Says that it is ready and waits until it may go.
fn wait_to_go() -> Result<(), String> {
    println!("{READY}");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| format!("client: {e}"))?;
    if line.is_empty() { Err("client: called off".into()) } else { Ok(()) }
}

/// What is readable, or hung up.
fn wait(poll: &OwnedFd, events: &mut Vec<epoll::Event>, until: Instant) -> Result<(), String> {
    let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
    let left = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
    events.clear();
    match epoll::wait(poll, rustix::buffer::spare_capacity(events), Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(format!("client: {e}")),
    }
}

/// A client that is ready and waits.
pub(super) struct Prepared {
    generator: Generator,
    go: ChildStdin,
}

/// Starts the client and waits until it is ready.
pub(super) fn prepare(
    load: &Load,
    address: SocketAddr,
    caller: &Caller,
    seconds: f64,
) -> Result<Prepared, String> {
    let mut command = pinned(1, &own()?);
    command.args(["tls-client", &address.to_string(), &load.connections.to_string(), &seconds.to_string()]);
    command.args(caller.arguments());
    if load.http2 {
        command.args(["--streams", &load.streams.to_string()]);
    }
    if load.kind == Kind::Handshakes {
        command.arg("--handshakes");
    }
    if load.resumed {
        command.arg("--resumed");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(|e| format!("the TLS client: {e}"))?;
    let (go, out) = (child.stdin.take(), child.stdout.as_mut());
    let mut line = String::new();
    if let Some(out) = out {
        // Nothing more is said before it may go, so that no octet is lost with the buffer.
        BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
    }
    let generator = Generator { child, read: tcp::read_echo };
    match go {
        Some(go) if line.trim() == READY => Ok(Prepared { generator, go }),
        _ => generator.wait().and_then(|_: Tally| Err(format!("the TLS client said {line:?}"))),
    }
}

impl Prepared {
    /// Lets it begin.
    pub(super) fn go(mut self) -> Result<Generator, String> {
        writeln!(self.go, "go").map_err(|e| format!("the TLS client: {e}"))?;
        Ok(self.generator)
    }
}
