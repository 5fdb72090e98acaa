//! One measurement: a started proxy under one scenario's load, on core 1, with the cost read around it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::{core_busy_seconds, cpu_seconds, pinned, resident_kib, terminate};
use crate::scenario::{Kind, Scenario};

/// What one turn of one peer gave.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Requests, messages, or (streams) MiB.
    pub(crate) operations: f64,
    /// CPU of the whole proxy for each of them, in microseconds.
    pub(crate) cpu_us: f64,
    /// Operations in a second.
    pub(crate) rate: f64,
    /// Resident memory at the end of the load, MiB.
    pub(crate) rss_mib: f64,
    /// Share of the time in which the proxy ran: below 0.9 something else was the bottleneck.
    pub(crate) proxy_busy: f64,
    /// Share of the time in which others ran on the proxy's core.
    pub(crate) foreign_busy: f64,
    /// Failed operations.
    pub(crate) errors: u64,
    /// Idle scenarios: KiB for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kib_per_connection: Option<f64>,
}

/// The origin as a process of its own on core 1.
pub(crate) struct Origin {
    child: Child,
    pub(crate) port: u16,
}

impl Origin {
    pub(crate) fn start(scenario: &Scenario) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let role = match scenario.kind {
            Kind::TcpEcho => "echo",
            Kind::TcpStream => "stream",
            _ => "http",
        };
        let mut child = pinned(1, &own)
            .args(["origin", role, &scenario.body.to_string()])
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

/// Runs the load for `seconds` and reads the cost of the process `pid`.
pub(crate) fn measure(scenario: &Scenario, pid: u32, port: u16, seconds: f64) -> Result<Sample, String> {
    if scenario.kind == Kind::Idle {
        return idle(scenario, pid, port);
    }
    let busy = core_busy_seconds(0);
    let (cpu, begin) = (cpu_seconds(pid), Instant::now());
    let (operations, errors) = drive(scenario, port, seconds)?;
    let (cpu, time) = (cpu_seconds(pid) - cpu, begin.elapsed().as_secs_f64());
    let busy = core_busy_seconds(0) - busy;
    Ok(Sample {
        operations,
        cpu_us: cpu * 1e6 / operations.max(1.0),
        rate: operations / time,
        rss_mib: resident_kib(pid) as f64 / 1024.0,
        proxy_busy: cpu / time,
        foreign_busy: ((busy - cpu) / time).max(0.0),
        errors,
        kib_per_connection: None,
    })
}

fn drive(scenario: &Scenario, port: u16, seconds: f64) -> Result<(f64, u64), String> {
    if scenario.kind == Kind::Http {
        return wrk(scenario, port, seconds);
    }
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let size = if scenario.kind == Kind::TcpStream { 0 } else { scenario.body };
    let arguments =
        [port.to_string(), scenario.connections.to_string(), size.to_string(), seconds.to_string()];
    let text = text_of(pinned(1, &own).arg("client").args(arguments))?;
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(done)), Some(Ok(errors))) = (words.next(), words.next()) else {
        return Err(format!("client said {text:?}"));
    };
    let unit = if scenario.kind == Kind::TcpStream { 1_048_576.0 } else { 1.0 };
    Ok((done as f64 / unit, errors))
}

fn text_of(command: &mut Command) -> Result<String, String> {
    let out = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() { Ok(text) } else { Err(format!("{command:?}: {} {text}", out.status)) }
}

fn wrk(scenario: &Scenario, port: u16, seconds: f64) -> Result<(f64, u64), String> {
    let url = format!("http://127.0.0.1:{port}/");
    let (connections, time) = (scenario.connections.to_string(), format!("{}s", seconds.round().max(1.0)));
    let text = text_of(pinned(1, Path::new("wrk")).args(["-t1", "-c", &connections, "-d", &time, &url]))?;
    parse_wrk(&text).ok_or_else(|| format!("wrk said {text:?}"))
}

/// Completed requests and errors of every kind in wrk's report.
fn parse_wrk(text: &str) -> Option<(f64, u64)> {
    let done = text.lines().find_map(|l| l.trim().split_once(" requests in "))?.0.parse().ok()?;
    let mut errors = 0;
    for line in text.lines().map(str::trim) {
        if line.starts_with("Socket errors:") || line.starts_with("Non-2xx") {
            let digits = line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok());
            // "Non-2xx or 3xx responses: 5" names two classes before the count.
            let skip = if line.starts_with("Non-2xx") { 2 } else { 0 };
            errors += digits.skip(skip).sum::<u64>();
        }
    }
    Some((done, errors))
}

fn idle(scenario: &Scenario, pid: u32, port: u16) -> Result<Sample, String> {
    std::thread::sleep(Duration::from_millis(500));
    let before = resident_kib(pid);
    let (after, tally) = crate::client::idle(port, scenario.connections, || {
        std::thread::sleep(Duration::from_secs(1));
        resident_kib(pid)
    })?;
    let grown = after.saturating_sub(before) as f64;
    Ok(Sample {
        operations: tally.done as f64,
        rss_mib: after as f64 / 1024.0,
        errors: tally.errors,
        kib_per_connection: (scenario.connections > 0).then(|| grown / scenario.connections as f64),
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_wrk() {
        let good = "Running 5s test\n  12345 requests in 5.00s, 3MB read\nRequests/sec:   2469.0\n";
        assert_eq!(parse_wrk(good), Some((12345.0, 0)));
        let bad = "  10 requests in 1.00s, 3MB read\n  Socket errors: connect 1, read 2, write 0, timeout 3\n  \
                   Non-2xx or 3xx responses: 5\n";
        assert_eq!(parse_wrk(bad), Some((10.0, 11)));
        assert_eq!(parse_wrk(""), None);
    }
}
