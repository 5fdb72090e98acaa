//! What a run prints on the terminal: a table for each point, with the doubts under it.

use crate::result::{Point, Sample, ScenarioResult, Series};
use crate::scenario::Kind;

/// One point of a scenario, as soon as it is measured.
pub(crate) fn print(result: &ScenarioResult, point: &Point) {
    let at = if result.axis.is_empty() { String::new() } else { format!(", {} {}", point.at, result.axis) };
    let offered = point.offered_rate.map_or(String::new(), |r| format!(", {r:.0} requests/s offered"));
    println!("\n{} - {}{at}{offered}", result.scenario, result.title);
    let reference = ["millrace-uring", "millrace-epoll"]
        .iter()
        .find_map(|name| point.series.iter().find(|s| s.peer == *name))
        .or(point.series.first());
    for series in &point.series {
        let ratio = reference
            .filter(|r| r.median.cpu_us > 0.0 && series.median.cpu_us > 0.0)
            .map_or(String::new(), |r| {
                format!("  {:>5.2} x the CPU of {}", series.median.cpu_us / r.median.cpu_us, r.peer)
            });
        println!("  {:<16}{}", series.peer, row(result.kind, series, &ratio));
    }
    for series in &point.series {
        for doubt in &series.doubts {
            println!("  ! {}: {doubt}", series.peer);
        }
    }
    // A missing program was named when the run began.
    let here = format!("{} {}", point.at, result.axis);
    for skipped in result.skipped.iter().filter(|s| s.point == here.trim_start_matches("0 ").trim()) {
        println!("  - {} left out: {}", skipped.peer, skipped.reason);
    }
}

fn row(kind: Kind, series: &Series, ratio: &str) -> String {
    let m = &series.median;
    match kind {
        Kind::Http | Kind::TcpEcho => {
            let limit = if series.saturated { "" } else { " (not its limit)" };
            format!(
                "{:>8.2} us/request  {:>7.0}/s{limit}  {:>6.1} MiB resident{ratio}",
                m.cpu_us, m.rate, m.rss_mib
            )
        }
        Kind::Handshakes => {
            let limit = if series.saturated { "" } else { " (not its limit)" };
            format!(
                "{:>8.1} us/handshake  {:>7.0}/s{limit}  {:>6.1} MiB resident{ratio}",
                m.cpu_us, m.rate, m.rss_mib
            )
        }
        Kind::Checks => {
            format!("{:>8.1} us/check  {:>7.0}/s  {:>6.1} MiB resident{ratio}", m.cpu_us, m.rate, m.rss_mib)
        }
        Kind::TcpStream => {
            format!("{:>8.1} us/MiB  {:>7.0} MiB/s  {:>6.1} MiB resident{ratio}", m.cpu_us, m.rate, m.rss_mib)
        }
        Kind::Latency => latency(m, ratio),
        Kind::Idle => {
            let each = m.kib_per_connection.map_or(String::new(), |k| format!("  {k:>7.2} KiB/connection"));
            format!("{:>8.1} MiB resident{each}", m.rss_mib)
        }
        Kind::Streams => {
            let each = m.kib_per_connection.unwrap_or(0.0);
            format!("{:>8.1} MiB resident  {each:>7.2} KiB/stream", m.rss_mib)
        }
        Kind::Start => format!(
            "{:>8.1} ms to the first response  {:>8.1} ms CPU  {:>6.1} MiB resident",
            m.ready_ms.unwrap_or(0.0),
            m.start_cpu_ms.unwrap_or(0.0),
            m.rss_mib
        ),
        Kind::Size => format!(
            "{:>8.1} MiB  {:>8} MiB stripped",
            m.binary_mib.unwrap_or(0.0),
            m.stripped_mib.map_or("?".to_owned(), |s| format!("{s:.1}"))
        ),
    }
}

fn latency(m: &Sample, ratio: &str) -> String {
    let l = m.latency.clone().unwrap_or_default();
    format!(
        "p50 {:>6.0}  p90 {:>6.0}  p99 {:>6.0}  p99.9 {:>6.0}  max {:>7.0} us  {:>7.2} us CPU/request{ratio}",
        l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us, m.cpu_us
    )
}
