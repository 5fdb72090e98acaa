//! Load over HTTP/2 by `h2load`: a counted number of requests, every one of which must succeed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Generator, Tally};
use crate::process::pinned;
use crate::scenario::Load;

/// What the first warm-up may move in octets, and the most of its requests.
const WARM_UP_OCTETS: usize = 128 << 20;
const WARM_UP_REQUESTS: usize = 5_000;
/// A load takes at most this, and this many times longer than planned, in seconds.
const LIMIT: f64 = 20.0;
const LIMIT_FACTOR: f64 = 4.0;

/// A counted load.
pub(super) struct Batch {
    requests: usize,
    /// Seconds after which connections are given up, whatever happens on them.
    limit: u64,
}

impl Batch {
    /// To begin with: some requests, and not too many octets.
    pub(super) fn warm_up(load: &Load) -> Self {
        let size = (load.body + load.request_body).max(1);
        let bounded = (WARM_UP_OCTETS / size).clamp(1, WARM_UP_REQUESTS);
        Self { requests: bounded.max(load.connections * load.streams), limit: LIMIT as u64 }
    }

    /// One request for each stream.
    pub(super) fn once(load: &Load) -> Self {
        Self { requests: load.connections * load.streams, limit: LIMIT as u64 }
    }

    /// As many requests as take so many seconds at a rate that was seen; a whole number for each stream.
    pub(super) fn lasting(load: &Load, rate: f64, seconds: f64) -> Self {
        let streams = (load.connections * load.streams).max(1);
        let requests = ((rate * seconds) as usize).div_ceil(streams).max(1) * streams;
        Self { requests, limit: seconds.mul_add(LIMIT_FACTOR, LIMIT) as u64 }
    }

    /// Starts `h2load`; a request's body goes to a file in `directory`.
    pub(super) fn start(
        &self,
        load: &Load,
        address: SocketAddr,
        directory: &Path,
    ) -> Result<Generator, String> {
        Generator::start(&mut self.command(load, address, directory)?, read)
    }

    fn command(&self, load: &Load, address: SocketAddr, directory: &Path) -> Result<Command, String> {
        let mut command = pinned(1, Path::new("h2load"));
        command.args(["-t1", "-c", &load.connections.to_string(), "-m", &load.streams.to_string()]);
        command.args(["-n", &self.requests.to_string(), "-T", &format!("{}s", self.limit)]);
        for n in 0..load.request_headers {
            command.args(["-H", &format!("x-request-field-{n}: a value of ordinary length, number {n}")]);
        }
        if load.grpc {
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        }
        if load.request_body > 0 {
            let file = directory.join("request-body");
            std::fs::write(&file, vec![b'x'; load.request_body]).map_err(|e| e.to_string())?;
            command.arg("-d").arg(file);
        }
        command.arg(format!("http://{address}/"));
        Ok(command)
    }
}

/// Successful requests, and all others that were asked for, in h2load's report.
fn read(text: &str) -> Option<Tally> {
    let line = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let count = |name: &str| -> Option<u64> {
        line.split(", ").find_map(|part| part.strip_suffix(name))?.trim().parse().ok()
    };
    let (total, succeeded) = (count("total")?, count("succeeded")?);
    Some(Tally { operations: succeeded as f64, errors: total.saturating_sub(succeeded), latency: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_counted_and_bounded() {
        let mut load = crate::scenario::tests::load("downstream = 'http2'\nstreams = 8\nconnections = 8\n");
        let batch = Batch::lasting(&load, 1001.0, 2.0);
        assert_eq!((batch.requests, batch.limit), (2048, 28), "32 for each of 64 streams");
        load.body = 1 << 20;
        assert_eq!(Batch::warm_up(&load).requests, 128);
        let directory = std::env::temp_dir();
        let command = batch.command(&load, SocketAddr::from(([127, 0, 0, 1], 7)), &directory).unwrap();
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert!(words.join(" ").ends_with("-t1 -c 8 -m 8 -n 2048 -T 28s http://127.0.0.1:7/"), "{words:?}");
    }

    #[test]
    fn reports_of_h2load() {
        let of = |text: &str| read(text).map(|t| (t.operations, t.errors));
        let good = "finished in 1.01s, 99 req/s, 1MB/s\n\
                    requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout\n\
                    status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(of(good), Some((100.0, 0)));
        let bad = "requests: 100 total, 98 started, 97 done, 90 succeeded, 7 failed, 3 errored, 0 timeout\n";
        assert_eq!(of(bad), Some((90.0, 10)), "what was never started failed, too");
        assert_eq!(of("nothing"), None);
    }
}
