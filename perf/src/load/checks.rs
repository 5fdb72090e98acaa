//! Active health checks: nobody asks for anything, and the proxy checks its endpoints.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::peer::Running;
use crate::process::{core_busy_seconds, cpu_seconds, resident_kib, switches};
use crate::result::Sample;

/// Every endpoint has its connection by then, and checks keep to their interval.
const WARM_UP: Duration = Duration::from_secs(3);

/// What a check costs; the proxy's own statistics say how many there were.
pub(super) fn measure(proxy: &Running, seconds: f64) -> Result<Sample, String> {
    std::thread::sleep(WARM_UP);
    let pids = proxy.measured();
    let before = counts(proxy.admin())?;
    let (busy, cpu, switched) = (core_busy_seconds(0), cpu_seconds(pids), switches(pids));
    let begin = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let (cpu, time) = (cpu_seconds(pids) - cpu, begin.elapsed().as_secs_f64());
    let (busy, after) = (core_busy_seconds(0) - busy, switches(pids));
    let now = counts(proxy.admin())?;
    let checks = (now.0 - before.0) as f64;
    let operations = checks.max(1.0);
    Ok(Sample {
        operations: checks,
        cpu_us: cpu * 1e6 / operations,
        rate: checks / time,
        rss_mib: resident_kib(pids) as f64 / 1024.0,
        proxy_busy: cpu / time,
        foreign_busy: ((busy - cpu) / time).max(0.0),
        switches_voluntary: after.0.saturating_sub(switched.0) as f64 / operations,
        switches_involuntary: after.1.saturating_sub(switched.1) as f64 / operations,
        errors: now.1 - before.1,
        ..Sample::default()
    })
}

/// Checks that were begun, and those that failed.
fn counts(admin: u16) -> Result<(u64, u64), String> {
    let text = stats(admin).map_err(|error| format!("the admin interface: {error}"))?;
    let of = |name: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix("cluster.c0.health_check.")?.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).ok_or_else(|| format!("no count of {name}"))
    };
    Ok((of("attempt: ")?, of("failure: ")?))
}

fn stats(admin: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /stats?filter=health_check HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
