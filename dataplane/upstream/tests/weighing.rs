//! Endpoints that weigh what they report.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Rng, Time};
use millrace_config::{ClientSideWeights, Cluster, HealthStatus, LbPolicy, LoadStream};
use millrace_upstream::{ChooseContext, ClusterShared, ClusterState, HostId, LoadReport};

const SECOND: Duration = Duration::from_secs(1);

fn weighed(count: u8) -> Cluster {
    let weights = ClientSideWeights {
        blackout: 10 * SECOND,
        expiration: 60 * SECOND,
        update: SECOND,
        error_penalty: 1.0,
    };
    let endpoints = (0..count).map(|number| endpoint(number, 1, HealthStatus::Healthy)).collect();
    cluster(LbPolicy::ClientSideWeightedRoundRobin(weights), vec![endpoints])
}

struct Bed {
    state: ClusterState,
    rng: Rng,
    now: Time,
}

impl Bed {
    fn new(count: u8) -> Self {
        let state = ClusterState::new(&Arc::new(weighed(count)), Arc::default(), 3);
        Self { state, rng: Rng::new(1), now: Time(1_000_000_000) }
    }

    fn hosts(&self) -> Vec<HostId> {
        self.state.hosts().map(|(id, _)| id).collect()
    }

    /// An endpoint reports that it does so many requests a second, half busy.
    fn report(&mut self, host: HostId, rps: f64) {
        let report = LoadReport { cpu: 0.5, rps, ..LoadReport::default() };
        self.state.report_load(host, &report, self.now);
    }

    fn counts(&mut self, requests: usize) -> Vec<usize> {
        let hosts = self.hosts();
        let mut counts = vec![0; hosts.len()];
        for _ in 0..requests {
            let context = ChooseContext { now: self.now, ..ChooseContext::default() };
            let chosen = self.state.choose_host(&mut self.rng, &context).expect("a host");
            counts[hosts.iter().position(|id| *id == chosen.host).expect("one of them")] += 1;
        }
        counts
    }
}

#[test]
fn reports_count_after_the_blackout_until_they_expire() {
    let mut bed = Bed::new(3);
    let hosts = bed.hosts();
    assert_eq!(bed.counts(30), [10; 3]);
    bed.report(hosts[0], 100.0);
    bed.report(hosts[1], 300.0);
    bed.now = bed.now + 5 * SECOND;
    assert_eq!(bed.counts(30), [10; 3], "they report for too short a time");
    bed.report(hosts[0], 100.0);
    bed.report(hosts[1], 300.0);
    bed.now = bed.now + 5 * SECOND;
    // The third weighs the median of the others.
    let counts = bed.counts(600);
    assert!(
        counts.iter().zip([100, 300, 200]).all(|(got, want): (&usize, usize)| got.abs_diff(want) <= 2),
        "{counts:?}"
    );
    bed.now = bed.now + 61 * SECOND;
    assert_eq!(bed.counts(30), [10; 3], "all are too old");
    bed.report(hosts[0], 100.0);
    bed.now = bed.now + 2 * SECOND;
    assert_eq!(bed.counts(30), [10; 3], "the next one is a first one");
}

#[test]
fn an_update_keeps_what_was_reported() {
    let mut bed = Bed::new(2);
    let hosts = bed.hosts();
    bed.report(hosts[0], 100.0);
    bed.report(hosts[1], 300.0);
    bed.now = bed.now + 10 * SECOND;
    let counts = bed.counts(400);
    assert!(counts[1].abs_diff(300) <= 2, "{counts:?}");
    bed.state.update(&Arc::new(weighed(3)), &mut Vec::new());
    let counts = bed.counts(600);
    assert!(
        counts.iter().zip([100, 300, 200]).all(|(got, want): (&usize, usize)| got.abs_diff(want) <= 2),
        "{counts:?}"
    );
}

#[test]
fn streams_weigh_on_all_shards() {
    let mut config = weighed(2);
    config.balancing.load_stream =
        Some(Arc::new(LoadStream { period: SECOND, port: 0, authority: "".into(), transport_match: None }));
    let (config, shared) = (Arc::new(config), Arc::new(ClusterShared::default()));
    let bed = |seed| Bed {
        state: ClusterState::new(&config, Arc::clone(&shared), seed),
        rng: Rng::new(seed),
        now: Time(1_000_000_000),
    };
    let mut beds = [bed(1), bed(2)];
    let at = |number: u8| endpoint(number, 1, HealthStatus::Healthy).address;
    for second in 0..=11 {
        for (number, weight) in [(0, 300), (1, 100)] {
            shared.load_book.report(&at(number), weight, &config, Time(1_000_000_000) + second * SECOND);
        }
    }
    for bed in &mut beds {
        bed.now = bed.now + 12 * SECOND;
        assert_eq!(bed.counts(40), [30, 10]);
        // A response that says something later counts.
        bed.now = bed.now + SECOND;
        let first = bed.hosts()[0];
        bed.report(first, 50.0);
        bed.now = bed.now + 2 * SECOND;
        assert_eq!(bed.counts(40), [20, 20]);
    }
}
