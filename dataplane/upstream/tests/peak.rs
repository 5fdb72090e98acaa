//! Peak-EWMA against a model of linkerd's balancer: the same arrivals and the same endpoints, drawn apart.

mod common;

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Key, Rng, Time};
use millrace_config::{ClientSideWeights, Cluster, HealthStatus, LbPolicy, PeakEwma};
use millrace_upstream::{
    ChooseContext, ClusterState, ConnId, HostId, LoadReport, ResourcePriority, TryResult,
};

const MILLISECOND: u64 = 1_000_000;

fn peak(count: u8, config: PeakEwma) -> Arc<Cluster> {
    let endpoints = (0..count).map(|number| endpoint(number, 1, HealthStatus::Healthy)).collect();
    Arc::new(cluster(LbPolicy::PeakEwma(config), vec![endpoints]))
}

/// Whoever places requests.
trait Places {
    /// The index of the endpoint of the next request, which is with it from now on.
    fn place(&mut self, now: u64) -> usize;
    /// The endpoint has answered a request, which took so long.
    fn done(&mut self, endpoint: usize, took: u64, now: u64);
}

/// Ours, with a TCP session for each request: that is what counts as being with an endpoint.
struct Ours {
    state: ClusterState,
    hosts: Vec<HostId>,
    open: Vec<Vec<ConnId>>,
    rng: Rng,
}

impl Ours {
    fn new(cluster: &Arc<Cluster>) -> Self {
        let state = ClusterState::new(cluster, Arc::default(), 3);
        let hosts: Vec<HostId> = state.hosts().map(|(id, _)| id).collect();
        Self { open: vec![Vec::new(); hosts.len()], state, hosts, rng: Rng::new(11) }
    }
}

impl Places for Ours {
    fn place(&mut self, now: u64) -> usize {
        let context = ChooseContext { now: Time(now), ..ChooseContext::default() };
        let host = self.state.choose_host(&mut self.rng, &context).expect("a host").host;
        let mut out = Vec::new();
        let conn = self.state.acquire_tcp(host, ResourcePriority::Default, &mut out).expect("a connection");
        self.state.bind(conn, Key { slot: 1, generation: 0 });
        self.state.connected(conn, Time(now), &mut out);
        let at = self.hosts.iter().position(|id| *id == host).expect("one of them");
        self.open[at].push(conn);
        at
    }

    fn done(&mut self, endpoint: usize, took: u64, now: u64) {
        let (host, took) = (self.hosts[endpoint], Duration::from_nanos(took));
        self.state.time_try(host, TryResult::Status(200), took, Time(now));
        let conn = self.open[endpoint].pop().expect("a request");
        self.state.closed(conn, &mut Vec::new());
    }
}

/// Linkerd's: estimates fade whenever somebody looks at them, a longer time replaces them, a shorter one is mixed in.
struct Linkerd {
    estimates: Vec<(f64, u64)>,
    pending: Vec<u32>,
    decay: f64,
    rng: Rng,
}

impl Linkerd {
    fn new(count: usize, config: &PeakEwma) -> Self {
        Self {
            estimates: vec![(config.default_rtt.as_nanos() as f64, 0); count],
            pending: vec![0; count],
            decay: config.decay.as_nanos() as f64,
            rng: Rng::new(97),
        }
    }

    fn observe(&mut self, endpoint: usize, took: f64, now: u64) -> f64 {
        let (estimate, since) = &mut self.estimates[endpoint];
        let old = (-((now - *since) as f64) / self.decay).exp();
        *estimate = if *estimate < took { took } else { *estimate * old + took * (1.0 - old) };
        *since = now;
        *estimate
    }
}

impl Places for Linkerd {
    fn place(&mut self, now: u64) -> usize {
        let count = self.pending.len() as u64;
        let first = self.rng.below(count) as usize;
        let other = (first + 1 + self.rng.below(count - 1) as usize) % count as usize;
        let mut load = |at: usize| self.observe(at, 0.0, now) * f64::from(self.pending[at] + 1);
        let chosen = if load(first) <= load(other) { first } else { other };
        self.pending[chosen] += 1;
        chosen
    }

    fn done(&mut self, endpoint: usize, took: u64, now: u64) {
        self.pending[endpoint] -= 1;
        self.observe(endpoint, took as f64, now);
    }
}

/// Requests that each of the endpoints gets: arrivals every `gap` on average, answers after about `times`.
fn drive(placer: &mut impl Places, times: &[u64], gap: u64, requests: u32) -> Vec<u32> {
    let mut rng = Rng::new(5);
    let mut counts = vec![0; times.len()];
    // What ends first is on top.
    let mut under_way: BinaryHeap<std::cmp::Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    let mut now = 0;
    for _ in 0..requests {
        now += rng.below(2 * gap) + 1;
        while under_way.peek().is_some_and(|next| next.0.0 <= now) {
            if let Some(std::cmp::Reverse((end, began, at))) = under_way.pop() {
                placer.done(at, end - began, end);
            }
        }
        let at = placer.place(now);
        counts[at] += 1;
        let took = times[at] / 2 + rng.below(times[at]) + 1;
        under_way.push(std::cmp::Reverse((now + took, now, at)));
    }
    counts
}

/// The share of each endpoint.
fn shares(counts: &[u32]) -> Vec<f64> {
    let all: u32 = counts.iter().sum();
    counts.iter().map(|count| f64::from(*count) / f64::from(all)).collect()
}

#[test]
fn endpoints_get_what_linkerd_gives_them() {
    let config = PeakEwma::default();
    let cases: [(&[u64], u64); 4] = [
        (&[10, 10, 10, 10], 1),
        (&[10, 10, 10, 200], 1),
        (&[5, 20, 40, 80, 160], 2),
        (&[20, 20, 20, 20, 20, 20, 20, 20, 20, 500], 10),
    ];
    for (times, gap) in cases {
        let times: Vec<u64> = times.iter().map(|millis| millis * MILLISECOND).collect();
        let mut ours = Ours::new(&peak(times.len() as u8, config));
        let mut model = Linkerd::new(times.len(), &config);
        let got = shares(&drive(&mut ours, &times, gap * MILLISECOND, 10_000));
        let want = shares(&drive(&mut model, &times, gap * MILLISECOND, 10_000));
        for (got_one, want_one) in got.iter().zip(&want) {
            // Both draw by themselves.
            assert!((got_one - want_one).abs() < 0.01 + want_one * 0.05, "{times:?}: {got:?}, {want:?}");
        }
        let slowest = got.last().copied().unwrap_or_default();
        assert!(
            times[0] == times[times.len() - 1] || slowest < 0.5 / times.len() as f64,
            "{times:?}: {got:?}"
        );
    }
}

#[test]
fn one_peak_keeps_requests_away_until_it_has_faded() {
    let config = PeakEwma { decay: Duration::from_secs(1), ..PeakEwma::default() };
    let mut ours = Ours::new(&peak(2, config));
    let mut now = 0;
    let mut ask = |ours: &mut Ours, took: &dyn Fn(usize) -> u64| {
        let at = ours.place(now);
        let took = took(at);
        now += took;
        ours.done(at, took, now);
        now += MILLISECOND;
        at
    };
    for _ in 0..200 {
        ask(&mut ours, &|_| 10 * MILLISECOND);
    }
    // The second has one bad moment.
    let slow = |at: usize| if at == 1 { 300 * MILLISECOND } else { 10 * MILLISECOND };
    while ask(&mut ours, &slow) != 1 {}
    let after: Vec<usize> = (0..400).map(|_| ask(&mut ours, &|_| 10 * MILLISECOND)).collect();
    // A request takes 11 ms, and from 300 ms to 10 it takes 3.4 decays.
    let back = after.iter().position(|at| *at == 1).expect("it comes back");
    assert!((200..400).contains(&back), "{back}");
}

#[test]
fn an_endpoint_without_answers_is_left_alone_with_a_penalty() {
    let config = PeakEwma { penalty: Some(1_000_000.0), ..PeakEwma::default() };
    let mut ours = Ours::new(&peak(3, config));
    let mut counts = [0; 3];
    for round in 0..300_u64 {
        let at = ours.place(round * MILLISECOND);
        counts[at] += 1;
        // The last one keeps what it gets and never answers.
        if at != 2 {
            ours.done(at, MILLISECOND, round * MILLISECOND + MILLISECOND);
        }
    }
    assert_eq!(counts[2], 1, "{counts:?}");
}

#[test]
fn times_follow_upon_reports_when_the_policy_changes() {
    let weights = ClientSideWeights {
        blackout: Duration::ZERO,
        expiration: Duration::from_secs(180),
        update: Duration::from_secs(1),
        error_penalty: 0.0,
    };
    let times = peak(2, PeakEwma::default());
    let reports =
        Arc::new(Cluster { lb_policy: LbPolicy::ClientSideWeightedRoundRobin(weights), ..(*times).clone() });
    let mut ours = Ours::new(&reports);
    let report = LoadReport { cpu: 0.5, rps: 100.0, ..LoadReport::default() };
    for host in ours.hosts.clone() {
        ours.state.report_load(host, &report, Time(0));
    }
    ours.state.update(&times, &mut Vec::new());
    ours.state.time_try(ours.hosts[1], TryResult::Status(200), Duration::from_secs(1), Time(MILLISECOND));
    let ask = |ours: &mut Ours| {
        let at = ours.place(2 * MILLISECOND);
        ours.done(at, MILLISECOND, 2 * MILLISECOND);
        at
    };
    assert!((0..50).all(|_| ask(&mut ours) == 0), "the slow one is kept away from");
    // And back again: a time is no report.
    ours.state.update(&reports, &mut Vec::new());
    ours.state.report_load(ours.hosts[0], &report, Time(MILLISECOND));
    let asked: Vec<usize> = (0..4).map(|_| ask(&mut ours)).collect();
    assert_eq!(asked.iter().filter(|at| **at == 0).count(), 2, "{asked:?}");
}
