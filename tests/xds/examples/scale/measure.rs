//! One run of one subject against one mesh.

use std::time::{Duration, Instant};

use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Entry, Options, Type};

use crate::clients::{Load, Sample, ask, per_mille};
use crate::mesh::{Mesh, endpoints, host};
use millrace_xds_tests::usage::{self, Memory};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(180);
/// Changes under traffic, and without.
const CHANGES: usize = 30;
const QUIET_CHANGES: u32 = 200;
/// Pause between two requests that look for a change.
const PAUSE: Duration = Duration::from_micros(500);
/// After this all that followed from an update is over.
const REST: Duration = Duration::from_millis(500);
/// Requests a second while a mesh grows, and over how many connections.
const LOAD: (u32, u32) = (1000, 4);

/// Ports of the origins that answer `one` and `two`.
pub struct Stage {
    pub one: u16,
    pub two: u16,
}

/// What a run found.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    pub from_exec: Duration,
    pub from_first: Duration,
    pub from_last: Duration,
    pub cpu: Duration,
    pub ready: Memory,
    pub settled: Memory,
    /// From a change being sent to the first request that it serves: median and 99th percentile.
    pub served: (Duration, Duration),
    pub acknowledged: Duration,
    /// Of one change, without traffic: the control thread, and all others.
    pub change_cpu: (Duration, Duration),
    pub resend_cpu: Duration,
    /// Clusters and listeners that the subject counts as changed when everything is sent again.
    pub resend_changed: u64,
}

/// What traffic felt while a mesh grew: median and 99th percentile before and meanwhile.
pub struct Background {
    pub quiet: (Duration, Duration),
    pub busy: (Duration, Duration),
    pub worst: Duration,
    pub took: Duration,
    pub failed: usize,
}

struct World {
    plane: ControlPlane,
    proxy: Proxy,
    /// The plane's clock began here.
    origin: Instant,
}

impl World {
    fn start(subject: &Subject, flavor: Flavor, mesh: &Mesh) -> Self {
        let plane = ControlPlane::start(Options { partial_updates: true, ..Options::default() });
        let origin = Instant::now() - plane.now();
        plane.update(|change| mesh.put(change, None));
        let proxy = Proxy::start_unready(subject, &yaml::bootstrap(&plane, flavor), &[]);
        Self { plane, proxy, origin }
    }

    /// When the last of the entries happened that `is` picks.
    fn times(&self, is: impl Fn(&Entry) -> bool) -> Vec<Instant> {
        self.plane.record().iter().filter(|entry| is(entry)).map(|entry| self.origin + entry.at).collect()
    }

    fn wait_ack(&self, mark: usize, ty: Type) -> Option<Instant> {
        let is_ack = |entry: &Entry| entry.request().is_some_and(|r| r.is(ty) && r.is_ack());
        let at = self.plane.wait_within(mark, LIMIT, |entry| is_ack(entry).then_some(entry.at));
        at.map(|at| self.origin + at)
    }

    fn wait_ready(&self) -> Instant {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Ok(mut client) = Client::try_connect(self.proxy.admin()) {
                client.request("GET", "/ready", &[("host", "admin")], b"");
                if client.response("GET").is_ok_and(|response| response.status == 200) {
                    return Instant::now();
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        unreachable!("the subject is not ready after {LIMIT:?}\n{}", self.proxy.stderr())
    }
}

/// Start, memory, changes, and everything sent again.
pub fn run(subject: &Subject, flavor: Flavor, mesh: &Mesh, stage: &Stage) -> Figures {
    let exec = Instant::now();
    let world = World::start(subject, flavor, mesh);
    let ready = world.wait_ready();
    let pid = world.proxy.pid();
    let mut figures = Figures { cpu: usage::cpu(pid), ready: usage::memory(pid), ..Figures::default() };
    let responses = world.times(|entry| entry.response().is_some());
    let since = |at: Option<&Instant>| at.map_or(Duration::MAX, |at| ready.saturating_duration_since(*at));
    figures.from_exec = ready - exec;
    figures.from_first = since(responses.first());
    figures.from_last = since(responses.last());
    std::thread::sleep(Duration::from_secs(10));
    figures.settled = usage::memory(pid);
    changes(&world, stage, &mut figures);
    quiet_changes(&world, stage, &mut figures);
    resend(&world, mesh, &mut figures);
    figures
}

/// Changes of the endpoints of one service, while requests look for them.
fn changes(world: &World, stage: &Stage, figures: &mut Figures) {
    let mut client = world.proxy.client();
    let (mut served, mut acknowledged) = (Vec::new(), Vec::new());
    assert_eq!(ask(&mut client, &host(0)), "one");
    for n in 0..CHANGES {
        let (port, word) = if n % 2 == 0 { (stage.two, "two") } else { (stage.one, "one") };
        let mark = world.plane.mark();
        world.plane.set(endpoints(0, port));
        let deadline = Instant::now() + LIMIT;
        while ask(&mut client, &host(0)) != word {
            assert!(Instant::now() < deadline, "change {n} has no effect\n{}", world.plane.transcript(mark));
            std::thread::sleep(PAUSE);
        }
        let seen = Instant::now();
        let ack = world.wait_ack(mark, Type::Endpoint).unwrap_or(seen + LIMIT);
        let is_response = |entry: &Entry| entry.response().is_some().then_some(entry.at);
        let sent = world.plane.wait_within(mark, LIMIT, is_response).map_or(seen, |at| world.origin + at);
        served.push(seen.saturating_duration_since(sent));
        acknowledged.push(ack.saturating_duration_since(sent));
        std::thread::sleep(20 * PAUSE);
    }
    figures.served = (per_mille(&mut served, 500), per_mille(&mut served, 990));
    figures.acknowledged = per_mille(&mut acknowledged, 500);
}

/// What a change costs when nothing else happens.
fn quiet_changes(world: &World, stage: &Stage, figures: &mut Figures) {
    let before = usage::threads(world.proxy.pid());
    for n in 0..QUIET_CHANGES {
        let mark = world.plane.mark();
        world.plane.set(endpoints(0, if n % 2 == 0 { stage.two } else { stage.one }));
        let _ = world.wait_ack(mark, Type::Endpoint);
    }
    let after = usage::threads(world.proxy.pid());
    figures.change_cpu = ((after.0 - before.0) / QUIET_CHANGES, (after.1 - before.1) / QUIET_CHANGES);
}

/// Everything again under new versions, as control planes do that push whole.
fn resend(world: &World, mesh: &Mesh, figures: &mut Figures) {
    const COUNTERS: [&str; 5] = [
        "cluster_manager.cluster_added",
        "cluster_manager.cluster_modified",
        "cluster_manager.cluster_removed",
        "listener_manager.listener_modified",
        "listener_manager.listener_in_place_updated",
    ];
    let count = || -> u64 {
        let text = world.proxy.admin_get("/stats?filter=^(cluster|listener)_manager").text();
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse::<u64>().ok())
        };
        COUNTERS.iter().filter_map(|name| value(name)).sum()
    };
    let changed = count();
    let before = usage::threads(world.proxy.pid());
    let mark = world.plane.mark();
    world.plane.update(|change| mesh.put(change, Some("again")));
    for ty in [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route] {
        let _ = world.wait_ack(mark, ty);
    }
    std::thread::sleep(REST);
    let after = usage::threads(world.proxy.pid());
    figures.resend_cpu = after.0 + after.1 - before.0 - before.1;
    figures.resend_changed = count() - changed;
}

/// A small mesh becomes a large one under traffic.
pub fn background(subject: &Subject, flavor: Flavor, small: &Mesh, large: &Mesh) -> Background {
    let world = World::start(subject, flavor, small);
    world.wait_ready();
    let load = Load::start(world.proxy.listener("main"), &host(0), LOAD.1, LOAD.0);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let mark = world.plane.mark();
    let changed = Instant::now();
    world.plane.update(|change| large.put(change, None));
    for ty in [Type::Cluster, Type::Endpoint, Type::Route] {
        let _ = world.wait_ack(mark, ty);
    }
    let took = changed.elapsed();
    std::thread::sleep(REST);
    let samples = load.finish();
    let within = |from: Instant, to: Instant| {
        let inside = |sample: &&Sample| sample.0 >= from && sample.0 < to;
        samples.iter().filter(inside).filter_map(|sample| sample.1).collect::<Vec<_>>()
    };
    // The first second makes the connections.
    let mut quiet = within(begun + Duration::from_secs(1), changed);
    let mut busy = within(changed, changed + took + REST / 5);
    Background {
        quiet: (per_mille(&mut quiet, 500), per_mille(&mut quiet, 990)),
        busy: (per_mille(&mut busy, 500), per_mille(&mut busy, 990)),
        worst: busy.last().copied().unwrap_or_default(),
        took,
        failed: samples.iter().filter(|sample| sample.1.is_none()).count(),
    }
}
