//! Requests through the subject: one at a time, or many at an even rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_support::raw::Client;

/// The word that the service at `host` answers with, or the status when it is not 200.
pub fn ask(client: &mut Client, host: &str) -> String {
    client.request("GET", "/", &[("host", host)], b"");
    match client.response("GET") {
        Ok(response) if response.status == 200 => response.text(),
        Ok(response) => response.status.to_string(),
        Err(fault) => fault.to_string(),
    }
}

/// One request of [`Load`]: when it was due, and how long after that it was answered; `None` when it was not.
pub type Sample = (Instant, Option<Duration>);

/// An open loop: requests are due at even intervals, whatever becomes of those before.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Load {
    /// `rate` requests a second over `connections` connections.
    pub fn start(target: SocketAddr, host: &str, connections: u32, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let gap = Duration::from_secs(1) * connections / rate;
        let one = |n: u32| {
            let (stop, host) = (Arc::clone(&stop), host.to_owned());
            std::thread::spawn(move || drive(target, &host, gap, gap * n / connections, &stop))
        };
        let threads = (0..connections).map(one).collect();
        Self { stop, threads }
    }

    pub fn finish(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    }
}

fn drive(target: SocketAddr, host: &str, gap: Duration, first: Duration, stop: &AtomicBool) -> Vec<Sample> {
    let mut client = Client::connect(target);
    let mut samples = Vec::new();
    let mut due = Instant::now() + first;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let answered = ask(&mut client, host) == "one";
        samples.push((due, answered.then(|| due.elapsed())));
        due += gap;
    }
    samples
}

/// The value below which this many thousandths of the samples lie.
pub fn per_mille(values: &mut [Duration], share: usize) -> Duration {
    values.sort_unstable();
    let at = (values.len() * share / 1000).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}
