//! How often each endpoint is chosen, against what `arch_overview/upstream/load_balancing` promises. Seeds are
//! fixed, so the figures are exact from run to run.

mod common;

use std::sync::Arc;

use common::{cluster, endpoint};
use millrace_base::{Key, Rng, Time};
use millrace_config::HealthStatus::{self, Degraded, Draining, Healthy, Timeout, Unhealthy, Unknown};
use millrace_config::{Cluster, LbPolicy, LeastRequest};
use millrace_upstream::{
    Acquire, ChooseContext, ClusterShared, ClusterState, HostId, HttpProtocol, NoHost, PoolAction,
    ResourcePriority, TransportKey,
};

const LEAST: LbPolicy =
    LbPolicy::LeastRequest(LeastRequest { choice_count: 2, active_request_bias: 1.0, full_scan: false });

fn state(cluster: Cluster, seed: u64) -> ClusterState {
    ClusterState::new(&Arc::new(cluster), Arc::new(ClusterShared::default()), seed)
}

fn draw(state: &mut ClusterState, rng: &mut Rng) -> (usize, bool) {
    match state.choose_host(rng, &ChooseContext::default()) {
        Ok(chosen) => (number(state, chosen.host), chosen.panic),
        Err(error) => unreachable!("{error:?}"),
    }
}

/// The last octet of the endpoint's address, as `common::endpoint` numbered it.
fn number(state: &ClusterState, host: HostId) -> usize {
    state.host(host).map_or(usize::MAX, |h| h.scope.0 as usize)
}

fn shares(state: &mut ClusterState, draws: usize) -> [usize; 10] {
    let mut rng = Rng::new(42);
    let mut counts = [0; 10];
    for _ in 0..draws {
        counts[draw(state, &mut rng).0] += 1;
    }
    counts
}

fn level(numbers: std::ops::Range<u8>, health: &[HealthStatus]) -> Vec<millrace_config::Endpoint> {
    numbers.zip(health).map(|(n, h)| endpoint(n, 1, *h)).collect()
}

fn close(got: usize, want: f64, draws: usize) -> bool {
    // Four standard deviations of a binomial share.
    let p = want / 100.0;
    let deviation = (draws as f64 * p * (1.0 - p)).sqrt();
    (got as f64 - draws as f64 * p).abs() <= 4.0 * deviation + 1.0
}

#[test]
fn round_robin_is_even_and_starts_anywhere() {
    let mut starts = [0; 3];
    for seed in 0..300 {
        let mut state = state(cluster(LbPolicy::RoundRobin, vec![level(0..3, &[Healthy; 3])]), seed);
        let mut rng = Rng::new(1);
        let first = draw(&mut state, &mut rng).0;
        starts[first] += 1;
        let next: Vec<_> = (0..5).map(|_| draw(&mut state, &mut rng).0).collect();
        assert_eq!(next, (1..6).map(|step| (first + step) % 3).collect::<Vec<_>>());
    }
    assert!(starts.iter().all(|n| *n > 60), "{starts:?}");
}

#[test]
fn weighted_round_robin_is_exact() {
    let hosts = vec![endpoint(0, 1, Healthy), endpoint(1, 2, Healthy), endpoint(2, 7, Healthy)];
    let mut state = state(cluster(LbPolicy::RoundRobin, vec![hosts]), 3);
    let counts = shares(&mut state, 1000);
    for (got, want) in counts.iter().zip([100, 200, 700]) {
        assert!(got.abs_diff(want) <= 1, "{counts:?}");
    }
}

#[test]
fn random_is_even_and_ignores_weights() {
    let hosts = vec![endpoint(0, 1, Healthy), endpoint(1, 9, Healthy)];
    let mut state = state(cluster(LbPolicy::Random, vec![hosts]), 3);
    let counts = shares(&mut state, 10_000);
    assert!(close(counts[0], 50.0, 10_000), "{counts:?}");
}

/// Opens one request to each host of `busy`.
fn occupy(state: &mut ClusterState, busy: &[HostId]) {
    let mut out = Vec::new();
    for (slot, host) in busy.iter().enumerate() {
        let key = Key { slot: slot as u32, generation: 0 };
        let answer = state.acquire(
            *host,
            ResourcePriority::Default,
            HttpProtocol::Http1,
            TransportKey::DEFAULT,
            key,
            &mut out,
        );
        assert!(matches!(answer, Acquire::Queued(_)));
        let Some(PoolAction::Connect { conn, .. }) = out.pop() else {
            unreachable!("no connection asked for")
        };
        state.bind(conn, key);
        state.connected(conn, Time::ZERO, &mut out);
    }
}

#[test]
fn least_request_prefers_the_idle() {
    let mut state = state(cluster(LEAST, vec![level(0..4, &[Healthy; 4])]), 3);
    let hosts: Vec<_> = state.hosts().map(|(id, _)| id).collect();
    occupy(&mut state, &hosts[..3]);
    // Host 3 wins unless both draws miss it: 1 - (3/4)^2 = 7/16.
    let counts = shares(&mut state, 10_000);
    assert!(close(counts[3], 43.75, 10_000), "{counts:?}");
    assert!(close(counts[0], 18.75, 10_000), "{counts:?}");
}

#[test]
fn weighted_least_request_divides_weight_by_load() {
    let hosts = vec![endpoint(0, 1, Healthy), endpoint(1, 4, Healthy)];
    let mut state = state(cluster(LEAST, vec![hosts]), 3);
    let counts = shares(&mut state, 1000);
    assert!(counts[0].abs_diff(200) <= 1, "{counts:?}");
    let heavy = state.hosts().nth(1).map(|(id, _)| id).unwrap();
    occupy(&mut state, &[heavy]);
    // 1 to 4 / 2.
    let counts = shares(&mut state, 3000);
    assert!(counts[0].abs_diff(1000) <= 2, "{counts:?}");
}

#[test]
fn only_unhealthy_draining_and_timed_out_hosts_are_left_out() {
    let health = [Unknown, Healthy, Unhealthy, Draining, Timeout, Healthy, Healthy];
    let mut state = state(cluster(LbPolicy::RoundRobin, vec![level(0..7, &health)]), 3);
    let counts = shares(&mut state, 400);
    assert_eq!(counts[..7], [100, 100, 0, 0, 0, 100, 100]);
}

#[test]
fn below_the_threshold_everybody_is_used_and_it_is_said() {
    let health = [Healthy, Unhealthy, Unhealthy];
    let mut tight = cluster(LbPolicy::RoundRobin, vec![level(0..3, &health)]);
    let mut panicking = state(tight.clone(), 3);
    assert!(draw(&mut panicking, &mut Rng::new(1)).1);
    assert_eq!(shares(&mut panicking, 300)[..3], [100, 100, 100]);

    tight.panic_threshold = 0.0;
    let mut calm = state(tight.clone(), 3);
    assert!(!draw(&mut calm, &mut Rng::new(1)).1);
    assert_eq!(shares(&mut calm, 300)[..3], [300, 0, 0]);

    tight.localities[0].endpoints[0].health = Unhealthy;
    let mut dead = state(tight, 3);
    assert_eq!(dead.choose_host(&mut Rng::new(1), &ChooseContext::default()), Err(NoHost::NoneHealthy));
    let mut empty = state(cluster(LEAST, vec![]), 3);
    assert_eq!(empty.choose_host(&mut Rng::new(1), &ChooseContext::default()), Err(NoHost::Empty));
}

#[test]
fn traffic_spills_to_the_next_priority_and_to_degraded_hosts() {
    // Level 0 has 2 of 4 healthy: 140 * 2 / 4 = 70 %; the rest goes to level 1.
    let half = [Healthy, Healthy, Unhealthy, Unhealthy];
    let mut two = state(cluster(LbPolicy::Random, vec![level(0..4, &half), level(4..6, &[Healthy; 2])]), 3);
    let counts = shares(&mut two, 10_000);
    assert!(close(counts[0] + counts[1], 70.0, 10_000), "{counts:?}");
    assert!(close(counts[4] + counts[5], 30.0, 10_000), "{counts:?}");

    // 2 healthy (70 %) and 2 degraded (70 %) of one level: 70 to 30.
    let mixed = [Healthy, Healthy, Degraded, Degraded];
    let mut degraded = state(cluster(LbPolicy::Random, vec![level(0..4, &mixed)]), 3);
    let counts = shares(&mut degraded, 10_000);
    assert!(close(counts[2] + counts[3], 30.0, 10_000), "{counts:?}");
}

#[test]
fn when_all_levels_panic_traffic_follows_their_size() {
    let mut levels = vec![level(0..4, &[Unhealthy; 4]), level(4..5, &[Unhealthy; 1])];
    levels[0][0].health = Healthy;
    let mut state = state(cluster(LbPolicy::Random, levels), 3);
    let counts = shares(&mut state, 10_000);
    assert!(close(counts[4], 20.0, 10_000), "{counts:?}");
}

#[test]
fn a_retry_avoids_hosts_while_its_draws_last() {
    let mut state = state(cluster(LbPolicy::RoundRobin, vec![level(0..3, &[Healthy; 3])]), 3);
    let hosts: Vec<_> = state.hosts().map(|(id, _)| id).collect();
    let mut rng = Rng::new(5);
    for _ in 0..9 {
        let context = ChooseContext { avoid: &hosts[..2], attempts: 2, ..ChooseContext::default() };
        assert_eq!(state.choose_host(&mut rng, &context).unwrap().host, hosts[2]);
    }
    // Every host is to be avoided: one is used all the same.
    let context = ChooseContext { avoid: &hosts, attempts: 5, ..ChooseContext::default() };
    assert!(state.choose_host(&mut rng, &context).is_ok());
}

#[test]
fn an_update_keeps_hosts_and_rotation() {
    let before = cluster(LbPolicy::RoundRobin, vec![level(0..3, &[Healthy; 3])]);
    let mut state = state(before.clone(), 3);
    let ids: Vec<_> = state.hosts().map(|(id, _)| id).collect();
    let mut after = before;
    after.localities[0].endpoints.remove(1);
    after.localities[0].endpoints.push(endpoint(7, 1, Healthy));
    let mut out = Vec::new();
    state.update(&Arc::new(after), &mut out);
    assert!(out.is_empty());
    let now: Vec<_> = state.hosts().map(|(id, host)| (id, host.scope.0)).collect();
    assert_eq!((now[0], now[1]), ((ids[0], 0), (ids[2], 2)));
    assert_eq!(now[2].1, 7);
    assert!(state.host(ids[1]).is_none(), "a host without connections is forgotten at once");
    assert_eq!(shares(&mut state, 30).iter().filter(|n| **n == 10).count(), 3);
}
