//! One turn: a fresh origin, a fresh proxy, a warm-up, the load, and what it cost. It runs as a process of its
//! own (`perf turn`), so that a peer which needs a network namespace gets one around all of it.

mod checks;
mod http;
mod http2;
mod idle;
mod open_loop;
mod start;
mod streams;
mod tcp;
mod tls;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http2::Batch;
pub(crate) use open_loop::run as run_open_loop;
pub(crate) use tcp::run as run_tcp;
pub(crate) use tls::{Options as TlsOptions, run as run_tls};

use crate::credentials::{Caller, Credentials};
use crate::peer::{Peer, Running};
use crate::process::{core_busy_seconds, cpu_seconds, pinned, resident_kib, switches, terminate};
use crate::result::{Latency, Sample};
use crate::scenario::{Kind, Load};

/// Seconds of load before anything is measured.
const WARM_UP: f64 = 1.0;

/// What a load generator counted.
pub(crate) struct Tally {
    pub(crate) operations: f64,
    pub(crate) errors: u64,
    pub(crate) latency: Option<Latency>,
}

/// Everything that a turn needs to know.
pub(crate) struct Turn<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) peer: &'a Peer,
    pub(crate) load: &'a Load,
    pub(crate) seconds: f64,
    /// Open loop: requests in a second.
    pub(crate) rate: f64,
}

/// The origin as a process of its own on core 1.
struct Origin {
    child: Child,
    port: u16,
}

impl Origin {
    /// With credentials it speaks TLS and wants to see the proxy's.
    fn start(load: &Load, tls: Option<&Credentials>) -> Result<Self, String> {
        let role = match load.kind {
            Kind::TcpEcho => "echo",
            Kind::TcpStream => "stream",
            _ if load.upstream_http2 => "http2",
            _ => "http",
        };
        let hold = if load.kind == Kind::Streams { load.connections * load.streams } else { 0 };
        let numbers = [load.body, load.response_headers, hold].map(|n| n.to_string());
        let mut child = pinned(1, &own()?)
            .args(["origin", role])
            .args(numbers)
            .args(load.grpc.then_some("--grpc"))
            .args((load.checked > 0).then_some("--anywhere"))
            .args(tls.map(|made| format!("--tls={}", made.directory().display())))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("origin: {e}"))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            use std::io::BufRead;
            std::io::BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        }
        let port = line.trim().parse().map_err(|_| format!("origin said {line:?}"))?;
        Ok(Self { child, port })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

fn own() -> Result<std::path::PathBuf, String> {
    std::env::current_exe().map_err(|e| e.to_string())
}

impl Turn<'_> {
    /// Does all of it.
    pub(crate) fn run(&self) -> Result<Sample, String> {
        if self.load.kind == Kind::Size {
            return size(&self.peer.locate()?);
        }
        let credentials = self.load.tls.map(Credentials::create).transpose()?;
        let relayed = self.load.upstream_tls || self.peer.forwards_bytes();
        let origin = Origin::start(self.load, credentials.as_ref().filter(|_| relayed))?;
        let mut proxy = Running::start(self.peer, self.folder, self.load, origin.port, credentials.as_ref())?;
        match self.load.kind {
            Kind::Start => start::measure(&mut proxy, self.load),
            Kind::Checks => {
                proxy.wait_listening()?;
                checks::measure(&proxy, self.seconds)
            }
            Kind::Idle => {
                proxy.wait_listening()?;
                idle::measure(&proxy, self.load, self.caller(&proxy, credentials.as_ref()).as_ref())
            }
            Kind::Streams => {
                proxy.wait_listening()?;
                streams::measure(&proxy, self.load)
            }
            _ if self.load.tls.is_some() => {
                proxy.wait_listening()?;
                let caller = self.caller(&proxy, credentials.as_ref()).ok_or("no credentials")?;
                let prepare = |seconds| tls::prepare(self.load, proxy.address(), &caller, seconds);
                prepare(WARM_UP)?.go()?.wait()?;
                let ready = prepare(self.seconds)?;
                self.measure(&proxy, 0.8, || ready.go())
            }
            Kind::Http if self.load.http2 => {
                proxy.wait_listening()?;
                // The first warm-up finds a rate, the second a better one.
                let rate = self.rate_of(&proxy, &Batch::warm_up(self.load))?;
                let rate = self.rate_of(&proxy, &Batch::lasting(self.load, rate, WARM_UP))?;
                proxy.check_alive("stderr")?;
                let batch = Batch::lasting(self.load, rate, self.seconds);
                self.measure(&proxy, 0.5, || batch.start(self.load, proxy.address(), proxy.directory()))
            }
            _ => {
                proxy.wait_listening()?;
                // With many clusters every one of them needs its connections first.
                let warm_up = if self.load.asked > 100 { 3.0 } else { WARM_UP };
                self.drive(&proxy, warm_up)?.wait()?;
                proxy.check_alive("stderr")?;
                self.measure(&proxy, 0.8, || self.drive(&proxy, self.seconds))
            }
        }
    }

    /// How the client calls this proxy over TLS.
    fn caller(&self, proxy: &Running, credentials: Option<&Credentials>) -> Option<Caller> {
        let made = credentials?;
        let towards = if self.peer.forwards_bytes() { "origin" } else { "proxy" };
        Some(proxy.caller().unwrap_or_else(|| made.client(towards, self.load.alpn())))
    }

    /// Requests in a second of a counted load.
    fn rate_of(&self, proxy: &Running, batch: &Batch) -> Result<f64, String> {
        let began = Instant::now();
        let tally = batch.start(self.load, proxy.address(), proxy.directory())?.wait()?;
        Ok(tally.operations / began.elapsed().as_secs_f64())
    }

    /// What a load costs; memory is looked at after this share of its time.
    fn measure(
        &self,
        proxy: &Running,
        share: f64,
        start: impl FnOnce() -> Result<Generator, String>,
    ) -> Result<Sample, String> {
        let pids = proxy.measured();
        let (busy, cpu, switched) = (core_busy_seconds(0), cpu_seconds(pids), switches(pids));
        let begin = Instant::now();
        let load = start()?;
        std::thread::sleep(Duration::from_secs_f64(self.seconds * share));
        let resident = resident_kib(pids);
        let tally = load.wait()?;
        let (cpu, time) = (cpu_seconds(pids) - cpu, begin.elapsed().as_secs_f64());
        let (busy, after) = (core_busy_seconds(0) - busy, switches(pids));
        let operations = tally.operations.max(1.0);
        let size = match self.load.kind {
            Kind::TcpStream => 1_048_576.0,
            Kind::Handshakes => 0.0,
            _ => (self.load.body + self.load.request_body) as f64,
        };
        Ok(Sample {
            operations: tally.operations,
            cpu_us: cpu * 1e6 / operations,
            rate: tally.operations / time,
            bytes_rate: tally.operations * size / time,
            rss_mib: resident as f64 / 1024.0,
            proxy_busy: cpu / time,
            foreign_busy: ((busy - cpu) / time).max(0.0),
            switches_voluntary: after.0.saturating_sub(switched.0) as f64 / operations,
            switches_involuntary: after.1.saturating_sub(switched.1) as f64 / operations,
            errors: tally.errors,
            latency: tally.latency,
            ..Sample::default()
        })
    }

    /// Starts the load generator that fits.
    fn drive(&self, proxy: &Running, seconds: f64) -> Result<Generator, String> {
        let (load, address) = (self.load, proxy.address());
        match load.kind {
            Kind::Http => http::start(load, address, proxy.directory(), seconds),
            Kind::Latency => {
                let arguments = [
                    address.to_string(),
                    load.connections.to_string(),
                    self.rate.to_string(),
                    seconds.to_string(),
                ];
                Generator::start(pinned(1, &own()?).arg("open-loop").args(arguments), open_loop::read)
            }
            _ => {
                let size = if load.kind == Kind::TcpStream { 0 } else { load.body };
                let arguments = [
                    address.to_string(),
                    load.connections.to_string(),
                    size.to_string(),
                    seconds.to_string(),
                ];
                let read = if size == 0 { tcp::read_stream } else { tcp::read_echo };
                Generator::start(pinned(1, &own()?).arg("client").args(arguments), read)
            }
        }
    }
}

/// A load generator at work, and how to read what it prints.
struct Generator {
    child: Child,
    read: fn(&str) -> Option<Tally>,
}

impl Generator {
    fn start(command: &mut Command, read: fn(&str) -> Option<Tally>) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        Ok(Self { child, read })
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn wait(self) -> Result<Tally, String> {
        let out = self.child.wait_with_output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if !out.status.success() {
            return Err(format!("the load generator ended with {}: {text}", out.status));
        }
        (self.read)(&text).ok_or_else(|| format!("the load generator said {text:?}"))
    }
}

/// The executable's size, and what `strip` leaves of it.
fn size(path: &Path) -> Result<Sample, String> {
    let mib = |path: &Path| std::fs::metadata(path).map(|m| m.len() as f64 / 1_048_576.0);
    let stripped = std::env::temp_dir().join(format!("millrace-perf-stripped-{}", std::process::id()));
    let done = Command::new("strip").arg("-o").arg(&stripped).arg(path).stderr(Stdio::null()).status();
    let without_symbols = match done {
        Ok(status) if status.success() => mib(&stripped).ok(),
        _ => None,
    };
    // It may never have been written.
    let _ = std::fs::remove_file(&stripped);
    let whole = mib(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Sample { binary_mib: Some(whole), stripped_mib: without_symbols, ..Sample::default() })
}
