//! Outlier detection by the calls that a shard makes: ejection, return, bounds, and several shards together.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Rng, Time};
use millrace_config::{Cluster, HealthStatus, LbPolicy, OutlierDetection};
use millrace_upstream::{
    ChooseContext, ClusterShared, ClusterState, Ejection, HostId, OutlierAction, TryResult,
};

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn ten(change: impl FnOnce(&mut OutlierDetection)) -> Cluster {
    let endpoints = (1..=10).map(|number| endpoint(number, 1, HealthStatus::Unknown)).collect();
    let mut config = OutlierDetection::default();
    change(&mut config);
    Cluster { outlier_detection: Some(Box::new(config)), ..cluster(LbPolicy::RoundRobin, vec![endpoints]) }
}

fn shard(cluster: &Arc<Cluster>, shared: &Arc<ClusterShared>) -> ClusterState {
    let mut state = ClusterState::new(cluster, Arc::clone(shared), 1);
    assert!(!state.look_at_outliers(at(1)), "an interval begins");
    state
}

fn host(state: &ClusterState, number: usize) -> HostId {
    state.hosts().nth(number - 1).expect("ten endpoints").0
}

/// Requests that each endpoint gets of a hundred.
fn shares(state: &mut ClusterState) -> Vec<usize> {
    let mut rng = Rng::new(5);
    let ids: Vec<HostId> = state.hosts().map(|(id, _)| id).collect();
    let mut shares = vec![0; ids.len()];
    for _ in 0..100 {
        let chosen = state.choose_host(&mut rng, &ChooseContext::default()).expect("a host");
        shares[ids.iter().position(|id| *id == chosen.host).expect("a member")] += 1;
    }
    shares
}

fn actions(state: &mut ClusterState) -> Vec<OutlierAction> {
    state.take_outlier_events().into_iter().map(|event| event.action).collect()
}

fn fail(state: &mut ClusterState, number: usize, times: usize) -> bool {
    let id = host(state, number);
    (0..times).any(|_| state.report(id, TryResult::Status(500), at(2)))
}

#[test]
fn five_failures_in_a_row_eject_on_all_shards_until_the_time_is_over() {
    let (cluster, shared) = (Arc::new(ten(|_| {})), Arc::default());
    let (mut one, mut other) = (shard(&cluster, &shared), shard(&cluster, &shared));
    assert!(!fail(&mut one, 3, 2) && !fail(&mut other, 3, 2), "four in a row, whoever saw them");
    assert!(fail(&mut one, 3, 1));
    let why = Ejection::Consecutive5xx;
    let eject = OutlierAction::Eject { why, enforced: true, rates: None };
    assert_eq!(actions(&mut one), [OutlierAction::Detected(why), eject]);
    for state in [&mut one, &mut other] {
        assert_eq!(shares(state)[2], 0);
        assert_eq!(state.ejected_hosts(), 1);
    }
    let of = |number| endpoint(number, 1, HealthStatus::Unknown).address;
    assert!(shared.health.seen_by_traffic(&of(3)).0 && !shared.health.seen_by_traffic(&of(4)).0);
    assert!(!other.look_at_outliers(at(31)), "29 s are not 30");
    assert!(one.look_at_outliers(at(42)), "whoever looks first ends the interval");
    assert_eq!(actions(&mut one), [OutlierAction::Uneject]);
    assert!(!other.look_at_outliers(at(42)));
    assert_eq!((shares(&mut one)[2], shares(&mut other)[2]), (10, 10));
}

#[test]
fn a_success_ends_a_row_and_a_second_ejection_lasts_longer() {
    let (cluster, shared) = (Arc::new(ten(|_| {})), Arc::default());
    let mut state = shard(&cluster, &shared);
    let id = host(&state, 1);
    assert!(!fail(&mut state, 1, 4) && !state.report(id, TryResult::Status(404), at(2)));
    assert!(!fail(&mut state, 1, 4) && fail(&mut state, 1, 1));
    assert_eq!(actions(&mut state).len(), 2);
    assert!(state.look_at_outliers(at(40)) && fail(&mut state, 1, 5));
    let events = state.take_outlier_events();
    assert_eq!(events.iter().map(|event| event.ejections).collect::<Vec<_>>(), [1, 1, 2]);
    // Ejected at 2 s (the clock of `fail`), for twice 30 s.
    assert!(!state.look_at_outliers(at(61)) && state.look_at_outliers(at(72)));
    assert_eq!(actions(&mut state), [OutlierAction::Uneject]);
    for interval in 0..3 {
        assert!(!state.look_at_outliers(at(83 + 11 * interval)));
    }
    assert!(fail(&mut state, 1, 5) && state.look_at_outliers(at(120)), "good behaviour is remembered");
}

#[test]
fn no_more_than_the_share_is_ejected_and_the_rest_is_counted() {
    let (cluster, shared) = (Arc::new(ten(|_| {})), Arc::default());
    let mut state = shard(&cluster, &shared);
    assert!(fail(&mut state, 1, 5) && fail(&mut state, 2, 5));
    let why = Ejection::Consecutive5xx;
    assert_eq!(actions(&mut state)[2..], [OutlierAction::Detected(why), OutlierAction::Overflow]);
    assert_eq!(state.ejected_hosts(), 1);
    let few = Arc::new(ten(|config| {
        config.max_ejection_percent = 0;
        config.always_eject_one_host = true;
    }));
    let mut state = shard(&few, &Arc::default());
    assert!(fail(&mut state, 1, 5) && fail(&mut state, 2, 5));
    assert_eq!((shares(&mut state)[..2].to_vec(), state.ejected_hosts()), (vec![0, 11], 1));
}

#[test]
fn gateway_failures_are_counted_but_not_enforced_by_default() {
    let mut state = shard(&Arc::new(ten(|config| config.consecutive_5xx.threshold = 100)), &Arc::default());
    let id = host(&state, 4);
    for _ in 0..4 {
        assert!(!state.report(id, TryResult::Status(503), at(2)));
    }
    assert!(!state.report(id, TryResult::Status(500), at(2)), "no gateway's failure");
    assert!((0..5).any(|_| state.report(id, TryResult::TimedOut(504), at(2))));
    let why = Ejection::ConsecutiveGatewayFailure;
    let eject = OutlierAction::Eject { why, enforced: false, rates: None };
    assert_eq!(actions(&mut state), [OutlierAction::Detected(why), eject]);
    assert_eq!(shares(&mut state)[3], 10);
}

#[test]
fn local_failures_count_as_answers_unless_split() {
    let mut joined = shard(&Arc::new(ten(|_| {})), &Arc::default());
    let id = host(&joined, 1);
    for _ in 0..4 {
        assert!(!joined.report(id, TryResult::Failed, at(2)));
        assert!(!joined.report(id, TryResult::Connected, at(2)), "says nothing of the answer");
    }
    assert!(joined.report(id, TryResult::Failed, at(2)));
    let mut split = shard(&Arc::new(ten(|config| config.split_local_origin = true)), &Arc::default());
    let id = host(&split, 1);
    for _ in 0..4 {
        assert!(!split.report(id, TryResult::Failed, at(2)));
        assert!(!split.report(id, TryResult::Status(500), at(2)), "another row");
    }
    assert!(split.report(id, TryResult::TimedOut(504), at(2)));
    assert_eq!(actions(&mut split)[0], OutlierAction::Detected(Ejection::ConsecutiveLocalOriginFailure));
}

#[test]
fn success_rates_of_an_interval_are_compared() {
    let change = |config: &mut OutlierDetection| config.consecutive_5xx.threshold = 1000;
    let (cluster, shared) = (Arc::new(ten(change)), Arc::default());
    let (mut one, mut other) = (shard(&cluster, &shared), shard(&cluster, &shared));
    for number in 1..=10 {
        for request in 0..60 {
            let failed = number == 7 && request % 2 == 0;
            let status = TryResult::Status(if failed { 500 } else { 200 });
            for state in [&mut one, &mut other] {
                let id = host(state, number);
                assert!(!state.report(id, status, at(2)));
            }
        }
    }
    assert!(!other.look_at_outliers(at(5)), "tells what it counted");
    assert!(one.look_at_outliers(at(12)));
    let events = one.take_outlier_events();
    let [detected, eject] = &events[..] else { panic!("{events:?}") };
    assert_eq!(detected.action, OutlierAction::Detected(Ejection::SuccessRate));
    let OutlierAction::Eject { enforced: true, rates: Some(rates), .. } = eject.action else {
        panic!("{eject:?}")
    };
    assert_eq!((rates.host, rates.cluster.map(|(mean, _)| mean)), (50.0, Some(95.0)));
    assert_eq!(shared.health.success_rates(&eject.address), (Some(50.0), None));
    assert_eq!((shares(&mut one)[6], shares(&mut other)[6]), (0, 0));
    assert!(!one.look_at_outliers(at(23)), "the next interval had no requests");
}

#[test]
fn an_endpoint_that_leaves_while_it_is_out_is_told_and_forgotten() {
    let (cluster, shared) = (Arc::new(ten(|_| {})), Arc::default());
    let (mut one, mut other) = (shard(&cluster, &shared), shard(&cluster, &shared));
    assert!(fail(&mut one, 10, 5));
    let mut smaller = Cluster::clone(&cluster);
    smaller.localities[0].endpoints.pop();
    let smaller = Arc::new(smaller);
    let mut out = Vec::new();
    one.update(&smaller, &mut out);
    assert_eq!(actions(&mut one).len(), 2, "the other shard still has it");
    other.update(&smaller, &mut out);
    assert_eq!(actions(&mut other), [OutlierAction::Left]);
    assert!(!shared.health.seen_by_traffic(&endpoint(10, 1, HealthStatus::Unknown).address).0);
    one.update(&cluster, &mut out);
    assert_eq!(shares(&mut one), [10; 10], "a newcomer is judged anew");
}

#[test]
fn a_shard_that_comes_later_knows_who_is_out() {
    let (cluster, shared) = (Arc::new(ten(|_| {})), Arc::default());
    let mut one = shard(&cluster, &shared);
    assert!(fail(&mut one, 2, 5));
    let mut late = shard(&cluster, &shared);
    assert_eq!(shares(&mut late)[1], 0);
    let mut off = Cluster::clone(&cluster);
    off.outlier_detection = None;
    late.update(&Arc::new(off), &mut Vec::new());
    assert_eq!((shares(&mut late), late.next_outlier_look()), (vec![10; 10], None));
}

#[test]
fn a_shard_that_forgets_a_cluster_and_takes_it_up_again_counts_once() {
    let (cluster, shared) = (Arc::new(ten(|_| {})), Arc::default());
    let mut one = shard(&cluster, &shared);
    let mut other = shard(&cluster, &shared);
    assert!(fail(&mut one, 10, 5));
    other.leave_health();
    let mut other = shard(&cluster, &shared);
    let mut smaller = Cluster::clone(&cluster);
    smaller.localities[0].endpoints.pop();
    let smaller = Arc::new(smaller);
    let mut out = Vec::new();
    one.update(&smaller, &mut out);
    other.update(&smaller, &mut out);
    assert_eq!(actions(&mut other), [OutlierAction::Left]);
}

#[test]
fn an_endpoint_that_says_it_is_degraded_is_spared_for_a_while() {
    let (cluster, shared) = (Arc::new(ten(|config| config.detect_degraded = true)), Arc::default());
    let (mut one, mut other) = (shard(&cluster, &shared), shard(&cluster, &shared));
    let id = host(&one, 3);
    assert!(!one.report(id, TryResult::Degraded(500), at(2)), "a failure is one");
    assert!(one.report(id, TryResult::Degraded(200), at(2)));
    assert!(!one.report(id, TryResult::Degraded(200), at(3)), "it is known");
    assert_eq!(actions(&mut one), [OutlierAction::Degrade]);
    assert_eq!((shares(&mut one)[2], shares(&mut other)[2], other.ejected_hosts()), (0, 0, 0));
    let address = endpoint(3, 1, HealthStatus::Unknown).address;
    assert_eq!(shared.health.seen_by_traffic(&address), (false, true));
    assert!(!one.look_at_outliers(at(31)) && other.look_at_outliers(at(42)));
    assert_eq!(actions(&mut other), [OutlierAction::Recover]);
    assert_eq!((shares(&mut one)[2], shares(&mut other)[2]), (10, 10));
    // The second time it takes twice as long.
    assert!(
        one.report(id, TryResult::Degraded(200), at(43)) && actions(&mut one) == [OutlierAction::Degrade]
    );
    assert!(!one.look_at_outliers(at(90)) && one.look_at_outliers(at(104)));
}

#[test]
fn who_is_degraded_is_not_asked_for() {
    let (cluster, shared) = (Arc::new(ten(|_| {})), Arc::default());
    let mut state = shard(&cluster, &shared);
    let id = host(&state, 3);
    assert!(!state.report(id, TryResult::Degraded(200), at(2)));
    assert_eq!(shares(&mut state)[2], 10);
}
