//! Saturation over HTTP/1.1 by `wrk`, with a script of its own where requests differ.

use std::net::SocketAddr;
use std::path::Path;

use super::{Generator, Tally};
use crate::process::pinned;
use crate::scenario::Load;
use crate::template::service;

/// Starts `wrk`; a script goes to `directory`.
pub(super) fn start(
    load: &Load,
    address: SocketAddr,
    directory: &Path,
    seconds: f64,
) -> Result<Generator, String> {
    let mut command = pinned(1, Path::new("wrk"));
    let duration = format!("{}s", seconds.round().max(1.0));
    command.args(["-t1", "-c", &load.connections.to_string(), "-d", &duration, "--timeout", "10s"]);
    if load.close {
        command.args(["-H", "Connection: close"]);
    }
    for n in 0..load.request_headers {
        command.args(["-H", &format!("x-request-field-{n}: a value of ordinary length, number {n}")]);
    }
    if load.asked > 1 {
        let script = directory.join("requests.lua");
        std::fs::write(&script, script_of(load.asked)).map_err(|e| e.to_string())?;
        command.arg("-s").arg(script);
    } else if load.clusters > 1 {
        command.args(["-H", &format!("Host: {}", service(0))]);
    }
    Generator::start(command.arg(format!("http://{address}/")), read)
}

/// Requests for each service in turn, made once before the load.
fn script_of(services: usize) -> String {
    let first = service(0).replacen('0', "%d", 1);
    format!(
        "local requests, at = {{}}, 0\n\
         function init(args)\n  for n = 0, {} do\n    wrk.headers[\"Host\"] = string.format(\"{first}\", n)\n    \
         requests[n] = wrk.format(\"GET\", \"/\")\n  end\nend\n\
         function request()\n  at = (at + 1) % {services}\n  return requests[at]\nend\n",
        services - 1
    )
}

/// Completed requests and errors of every kind in wrk's report.
fn read(text: &str) -> Option<Tally> {
    let operations = text.lines().find_map(|l| l.trim().split_once(" requests in "))?.0.parse().ok()?;
    let mut errors = 0;
    for line in text.lines().map(str::trim) {
        if line.starts_with("Socket errors:") || line.starts_with("Non-2xx") {
            let digits = line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok());
            // "Non-2xx or 3xx responses: 5" names two classes before the count.
            let skip = if line.starts_with("Non-2xx") { 2 } else { 0 };
            errors += digits.skip(skip).sum::<u64>();
        }
    }
    Some(Tally { operations, errors, latency: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_wrk() {
        let of = |text: &str| read(text).map(|t| (t.operations, t.errors));
        let good = "Running 5s test\n  12345 requests in 5.00s, 3MB read\nRequests/sec:   2469.0\n";
        assert_eq!(of(good), Some((12345.0, 0)));
        let bad = "  10 requests in 1.00s, 3MB read\n  Socket errors: connect 1, read 2, write 0, timeout 3\n  \
                   Non-2xx or 3xx responses: 5\n";
        assert_eq!(of(bad), Some((10.0, 11)));
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_script_names_every_service() {
        let text = script_of(10);
        assert!(
            text.contains("for n = 0, 9 do") && text.contains("% 10") && text.contains("\"s%d.perf.test\"")
        );
    }
}
