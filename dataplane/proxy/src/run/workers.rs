//! The shards' threads: how many, on which cores, and the loop that each of them runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_base::{Limits, Time, WallTime};
use millrace_config::Snapshot;
use millrace_observe::access_log::{LogBuffers, LogQueue};
use millrace_observe::stats::Registry;
use millrace_ring::{Backend, Config, IoChoice, affinity};
use millrace_shard::shared::{Message, Shared};
use millrace_shard::{Logs, Running, Shard, ShardParts, SocketFacts};
use millrace_tls::CertificateRules;

use super::outbox::Outbox;
use crate::cli::{self, Options};

/// A shard's stack. Its state lives on the heap; nothing recurses.
const STACK_BYTES: usize = 512 * 1024;

/// How long the order to stop may wait for room in a mailbox.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How many shards run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Number of shards, at least 1.
    pub shards: usize,
    /// The core of each shard, used round robin; empty to leave placement to the kernel.
    pub cpus: Vec<usize>,
}

impl Plan {
    /// What the command line, the affinity mask, the cgroup's cpuset and its quota make of each other.
    /// `--cpus` pins by hand; otherwise shards are pinned only if every one gets a core of its own, so that
    /// two proxies that share a quota do not fight for core 0.
    pub fn new(options: &Options, allowed: &[usize], limits: &affinity::CgroupLimits) -> Self {
        let usable: Vec<usize> = match &limits.cpuset {
            Some(set) => allowed.iter().copied().filter(|cpu| set.contains(cpu)).collect(),
            None => allowed.to_vec(),
        };
        let budget = affinity::cpu_budget(allowed, limits);
        if let Some(cpus) = &options.cpus {
            let shards = options.concurrency.map_or(cpus.len(), |n| n as usize);
            return Self { shards: shards.max(1), cpus: cpus.clone() };
        }
        let shards = options.concurrency.map_or(budget, |n| n as usize).max(1);
        let own_cores = shards == usable.len() && limits.quota_millicpus.is_none();
        Self { shards, cpus: if own_cores { usable } else { Vec::new() } }
    }

    /// Reads the machine.
    pub fn of_machine(options: &Options) -> Self {
        let allowed = affinity::allowed_cpus().unwrap_or_else(|_| vec![0]);
        Self::new(options, &allowed, &affinity::cgroup_limits(&affinity::CgroupPaths::default()))
    }

    fn cpu(&self, index: usize) -> Option<usize> {
        let at = index.checked_rem(self.cpus.len())?;
        self.cpus.get(at).copied()
    }
}

/// What every shard is made of.
pub struct Parts {
    /// The first configuration.
    pub snapshot: Arc<Snapshot>,
    /// Where counters are registered.
    pub registry: Registry,
    /// Where log lines go.
    pub log_queue: Arc<LogQueue>,
    /// `--file-flush-interval-msec`.
    pub log_interval: Duration,
    /// Wakes the log writer.
    pub wake_writer: Arc<dyn Fn() + Send + Sync>,
    /// `%HOSTNAME%`.
    pub hostname: Arc<str>,
    /// Stands in for a loopback peer in `x-forwarded-for`.
    pub host_address: Option<IpAddr>,
    /// Bounds of a shard.
    pub limits: Limits,
    /// `--io`.
    pub io: IoChoice,
    /// `--certificate-rules`.
    pub certificate_rules: CertificateRules,
}

/// The running shards.
pub struct Workers {
    /// Doors and counts.
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    outbox: Outbox,
    /// What the shards' time begins with.
    start: Instant,
}

impl Workers {
    /// Starts one thread per shard and waits until every back end is open. Returns the line that says
    /// which back end runs.
    ///
    /// # Errors
    /// A back end or a thread could not be had; the shards that had started are stopped.
    pub fn start(plan: &Plan, parts: &Arc<Parts>) -> Result<(Self, String), String> {
        let shared = Arc::new(Shared::with_rules(plan.shards, parts.certificate_rules));
        let start = Instant::now();
        let mut workers =
            Self { shared: shared.clone(), threads: Vec::new(), outbox: Outbox::default(), start };
        let (ready, opened) = mpsc::channel();
        // One for all, since shards have token buckets in common.
        for index in 0..plan.shards {
            let (shared, parts, ready) = (shared.clone(), parts.clone(), ready.clone());
            let cpu = plan.cpu(index);
            let spawned = std::thread::Builder::new()
                .name(format!("wrk:worker_{index}"))
                .stack_size(STACK_BYTES)
                .spawn(move || worker(index, cpu, start, shared, parts, ready));
            match spawned {
                Ok(thread) => workers.threads.push(thread),
                Err(error) => {
                    workers.stop();
                    return Err(format!("cannot start a thread: {error}"));
                }
            }
        }
        drop(ready);
        let mut line = String::new();
        for _ in 0..plan.shards {
            match opened.recv() {
                Ok(Ok(report)) => line = report,
                Ok(Err(error)) => {
                    workers.stop();
                    return Err(error);
                }
                Err(_) => {
                    workers.stop();
                    return Err("a shard ended while it started".to_owned());
                }
            }
        }
        Ok((workers, line))
    }

    /// Sends a message to every shard. What finds a full mailbox waits for [`Workers::flush`]; the order of
    /// messages to one shard is kept.
    pub fn broadcast(&mut self, mut message: impl FnMut() -> Message) {
        for shard in 0..self.shared.doors().len() {
            self.outbox.send(self.shared.doors(), shard, message());
        }
    }

    /// Sends a message to one shard once every shard has all messages of before.
    pub fn send_after_all(&mut self, shard: usize, message: Message) {
        self.outbox.send_after_all(self.shared.doors(), shard, message);
    }

    /// Delivers what waits; true when nothing does any more. Call it until then.
    pub fn flush(&mut self) -> bool {
        self.outbox.flush(self.shared.doors())
    }

    /// True when messages wait for room in a mailbox: a shard is overloaded, or hangs.
    pub fn has_backlog(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Messages that found a full mailbox since the start.
    pub fn overflows(&self) -> u64 {
        self.outbox.overflows()
    }

    /// The time as shards count it.
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Downstream connections of all shards.
    pub fn connections(&self) -> u64 {
        self.shared.doors().iter().map(|door| u64::from(door.connections())).sum()
    }

    /// Closes everything and waits for the threads.
    pub fn stop(&mut self) {
        self.broadcast(|| Message::Stop);
        let patience = Instant::now();
        while !self.flush() {
            if patience.elapsed() > STOP_PATIENCE {
                // A shard hangs; its thread ends with the process.
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for thread in self.threads.drain(..) {
            // A shard that panicked has closed its sockets by unwinding.
            let _ = thread.join();
        }
    }
}

fn worker(
    index: usize,
    cpu: Option<usize>,
    start: Instant,
    shared: Arc<Shared>,
    parts: Arc<Parts>,
    ready: mpsc::Sender<Result<String, String>>,
) {
    let pinned = cpu.map(affinity::pin_current_thread);
    let config = Config::default();
    let (mut backend, report) = match Backend::open(parts.io, &config) {
        Ok(opened) => opened,
        Err(error) => {
            let _ = ready.send(Err(error.to_string()));
            return;
        }
    };
    let mut shard = Shard::new(ShardParts {
        index,
        shared,
        snapshot: parts.snapshot.clone(),
        buffers: backend.buffers().clone(),
        waker: backend.waker(),
        stats: parts.registry.attach_shard(&format!("worker_{index}")),
        logs: Logs::new(
            LogBuffers::new(parts.log_queue.clone(), parts.log_interval),
            parts.log_queue.clone(),
            parts.wake_writer.clone(),
        ),
        limits: parts.limits.clone(),
        seed: seed(index),
        hostname: parts.hostname.clone(),
        host_address: parts.host_address,
        socket_facts: SocketFacts::REAL,
    });
    let line = match pinned {
        Some(Err(error)) => format!("{report}; not pinned: {error}"),
        Some(Ok(())) | None => report.to_string(),
    };
    let _ = ready.send(Ok(line));
    // The first configuration must not live for as long as the thread.
    drop((parts, ready));
    let (mut events, mut ops) = (Vec::new(), Vec::new());
    loop {
        // One reading of each clock a turn.
        let now = Time(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallTime(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX));
        if shard.turn(now, wall, &mut events, &mut ops) == Running::Stopped {
            // Hands the last closes to the kernel.
            let _ = backend.turn(&mut ops, Some(Duration::ZERO), &mut events);
            return;
        }
        if backend.turn(&mut ops, shard.timeout(now), &mut events).is_err() {
            return;
        }
    }
}

/// Different for every shard and start; request ids and balancing follow from it.
fn seed(index: usize) -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_usize(index);
    hasher.finish()
}

/// The ring's word for `--io`.
pub fn io_choice(io: cli::IoChoice) -> IoChoice {
    match io {
        cli::IoChoice::Auto => IoChoice::Auto,
        cli::IoChoice::Uring => IoChoice::Uring,
        cli::IoChoice::Epoll => IoChoice::Epoll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_ring::affinity::CgroupLimits;

    fn plan(args: &[&str], limits: &CgroupLimits) -> Plan {
        let args: Vec<String> =
            std::iter::once("millrace").chain(args.iter().copied()).map(str::to_owned).collect();
        Plan::new(&cli::parse(&args).unwrap(), &[0, 1, 2, 3], limits)
    }

    #[test]
    fn one_pinned_shard_per_core_unless_told_otherwise() {
        let free = CgroupLimits::default();
        assert_eq!(plan(&[], &free), Plan { shards: 4, cpus: vec![0, 1, 2, 3] });
        assert_eq!(plan(&["--concurrency 2"], &free), Plan { shards: 2, cpus: Vec::new() });
        assert_eq!(plan(&["--cpus 2-3"], &free), Plan { shards: 2, cpus: vec![2, 3] });
        assert_eq!(plan(&["--cpus 1,3", "--concurrency 4"], &free), Plan { shards: 4, cpus: vec![1, 3] });
    }

    #[test]
    fn a_quota_and_a_cpuset_bound_the_number() {
        let quota = CgroupLimits { quota_millicpus: Some(1500), cpuset: None };
        assert_eq!(plan(&[], &quota), Plan { shards: 2, cpus: Vec::new() });
        let cpuset = CgroupLimits { quota_millicpus: None, cpuset: Some(vec![1, 2]) };
        assert_eq!(plan(&[], &cpuset), Plan { shards: 2, cpus: vec![1, 2] });
    }
}
