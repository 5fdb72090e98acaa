//! Distributions of the balancers, by the chi-square test with fixed seeds, and how slow start and zones shape them.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Rng, Time};
use millrace_config::HealthStatus::{self, Healthy, Unhealthy};
use millrace_config::{
    Cluster, Endpoint, LbPolicy, LeastRequest, LocalityEndpoints, LocalityMode, LocalityName, Maglev,
    RingHash, SlowStart, ZoneAware,
};
use millrace_upstream::{ChooseContext, ClusterShared, ClusterState, LbStat, NoHost};

fn state(cluster: Cluster) -> ClusterState {
    ClusterState::new(&Arc::new(cluster), Arc::new(ClusterShared::default()), 5)
}

fn counts(state: &mut ClusterState, draws: usize, now: Time) -> Vec<usize> {
    let (mut rng, mut counts) = (Rng::new(77), vec![0; 16]);
    for _ in 0..draws {
        let context = ChooseContext { hash: Some(rng.next_u64()), now, ..ChooseContext::default() };
        let host = state.choose_host(&mut rng, &context).expect("a host").host;
        counts[state.host(host).map_or(15, |host| host.scope.0 as usize)] += 1;
    }
    counts
}

/// The chi-square statistic against shares, whose sum need not be 1.
fn chi_square(counts: &[usize], shares: &[f64]) -> f64 {
    let (draws, sum) = (counts.iter().sum::<usize>() as f64, shares.iter().sum::<f64>());
    counts
        .iter()
        .zip(shares)
        .filter(|(_, share)| **share > 0.0)
        .map(|(count, share)| {
            let want = draws * share / sum;
            (*count as f64 - want).powi(2) / want
        })
        .sum()
}

fn hosts(weights: &[u32]) -> Vec<Endpoint> {
    weights.iter().enumerate().map(|(n, weight)| endpoint(n as u8, *weight, Healthy)).collect()
}

fn zone(name: &str) -> LocalityName {
    ("".into(), name.into(), "".into())
}

fn in_zones(policy: LbPolicy, zones: &[(&str, u32, &[(u8, HealthStatus)])]) -> Cluster {
    let mut cluster = cluster(policy, vec![]);
    cluster.localities = zones
        .iter()
        .map(|(name, weight, hosts)| LocalityEndpoints {
            locality: zone(name),
            priority: 0,
            weight: *weight,
            endpoints: hosts.iter().map(|(n, health)| endpoint(*n, 1, *health)).collect(),
        })
        .collect();
    cluster
}

#[test]
fn draws_follow_the_weights() {
    let least = LbPolicy::LeastRequest(LeastRequest::default());
    let full = LbPolicy::LeastRequest(LeastRequest { full_scan: true, ..LeastRequest::default() });
    let ring = LbPolicy::RingHash(RingHash { minimum_ring_size: 1_000_000, ..RingHash::default() });
    let maglev = LbPolicy::Maglev(Maglev::default());
    // 27.9 is the 99.9 % quantile of nine degrees of freedom, 13.8 that of two.
    for policy in [LbPolicy::Random, least, full, LbPolicy::RoundRobin, ring, maglev] {
        let seen = counts(&mut state(cluster(policy, vec![hosts(&[1; 10])])), 20_000, Time::ZERO);
        assert!(chi_square(&seen[..10], &[1.0; 10]) < 27.9, "{policy:?}: {seen:?}");
    }
    for policy in [least, LbPolicy::RoundRobin, ring, maglev] {
        let seen = counts(&mut state(cluster(policy, vec![hosts(&[1, 4, 15])])), 20_000, Time::ZERO);
        assert!(chi_square(&seen[..3], &[1.0, 4.0, 15.0]) < 13.8, "{policy:?}: {seen:?}");
    }
}

#[test]
fn localities_get_their_weights_as_far_as_they_serve() {
    let zones: &[(&str, u32, &[(u8, HealthStatus)])] = &[
        ("a", 2, &[(0, Healthy)]),
        ("b", 3, &[(1, Healthy), (2, Healthy)]),
        ("c", 10, &[(3, Healthy), (4, Unhealthy)]),
        ("d", 0, &[(5, Healthy)]),
    ];
    let mut config = in_zones(LbPolicy::RoundRobin, zones);
    config.balancing.locality = LocalityMode::Weighted;
    let seen = counts(&mut state(config.clone()), 12_000, Time::ZERO);
    // 140 % of one half is 70 % of the weight 10.
    for (got, want) in seen.iter().zip([2000, 1500, 1500, 7000, 0, 0]) {
        assert!(got.abs_diff(want) <= 2, "{seen:?}");
    }
    // Rings and tables follow the weights alone.
    config.lb_policy = LbPolicy::Maglev(Maglev::default());
    let seen = counts(&mut state(config), 15_000, Time::ZERO);
    assert!(chi_square(&seen[..5], &[2.0, 1.5, 1.5, 10.0, 0.0]) < 18.5 && seen[5] == 0, "{seen:?}");
}

#[test]
fn a_new_host_warms_up() {
    let slow = SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight: 0.1 };
    let mut config = cluster(LbPolicy::RoundRobin, vec![hosts(&[1; 4])]);
    config.balancing.slow_start = Some(slow);
    let second = |n: u64| Time(n * 1_000_000_000);
    let mut state = state(config.clone());
    assert_eq!(counts(&mut state, 400, second(1))[..4], [100; 4], "all are equally new");
    config.localities[0].endpoints.push(endpoint(4, 1, Healthy));
    state.update(&Arc::new(config.clone()), &mut Vec::new());
    // The first choice sees it. Then it grows: a tenth at least, half after half of the window, all after it.
    for (now, share) in [(20, 0.1), (25, 0.5), (28, 0.8), (30, 1.0), (99, 1.0)] {
        let before = counts(&mut state, 1, second(now))[4];
        let seen = counts(&mut state, 4000, second(now))[4] + before;
        let want = 4000.0 * share / (4.0 + share);
        assert!((seen as f64 - want).abs() < want * 0.05 + 25.0, "{now}: {seen}, not {want}");
    }
    // Aggression bends the line: 0.5 to the power of 1/2.
    config.balancing.slow_start = Some(SlowStart { aggression: 2.0, ..slow });
    config.localities[0].endpoints.push(endpoint(5, 1, Healthy));
    config.lb_policy = LbPolicy::LeastRequest(LeastRequest::default());
    state.update(&Arc::new(config), &mut Vec::new());
    counts(&mut state, 1, second(100));
    let seen = counts(&mut state, 6000, second(105))[5];
    let want = 6000.0 * 0.5_f64.sqrt() / (5.0 + 0.5_f64.sqrt());
    assert!((seen as f64 - want).abs() < want * 0.05, "{seen}, not {want}");
}

/// The upstream's share of each zone, and what was counted, with the proxy in zone `a`.
fn zoned(
    upstream: &[(&str, u32, &[(u8, HealthStatus)])],
    own: &[(&str, u32, &[(u8, HealthStatus)])],
    zones: ZoneAware,
) -> (Vec<usize>, Vec<(LbStat, u32)>) {
    let mut config = in_zones(LbPolicy::Random, upstream);
    config.balancing.locality = LocalityMode::ZoneAware(zones);
    config.balancing.local_locality = Some(Arc::new(zone("a")));
    let mut state = state(config);
    state.set_local_cluster(Some(&Arc::new(in_zones(LbPolicy::Random, own))));
    let seen = counts(&mut state, 8000, Time::ZERO);
    let mut stats = Vec::new();
    state.take_lb_stats(|stat, count| stats.push((stat, count)));
    (seen, stats)
}

#[test]
fn requests_stay_in_their_zone_as_far_as_it_is_fair() {
    let small = ZoneAware { min_cluster_size: 1, ..ZoneAware::default() };
    let up: &[(&str, u32, &[(u8, HealthStatus)])] =
        &[("b", 1, &[(0, Healthy), (1, Healthy)]), ("a", 1, &[(2, Healthy)]), ("c", 1, &[(3, Healthy)])];
    // 50 % of the proxies and 25 % of the endpoints are here: half stays. Of the rest `b` has 25 % to spare and `c` none.
    let own: &[(&str, u32, &[(u8, HealthStatus)])] =
        &[("a", 1, &[(0, Healthy), (1, Healthy)]), ("b", 1, &[(2, Healthy)]), ("c", 1, &[(3, Healthy)])];
    let (seen, stats) = zoned(up, own, small);
    assert!(chi_square(&seen[..4], &[1.0, 1.0, 2.0, 0.0]) < 13.8 && seen[3] == 0, "{seen:?}");
    assert_eq!(stats[0], (LbStat::RecalculateZoneStructures, 1));
    assert_eq!(stats.iter().skip(1).map(|(_, count)| count).sum::<u32>(), 8000);
    // As many as elsewhere: all of them.
    let (seen, stats) = zoned(up, &[own[1], ("a", 1, &[(9, Healthy)]), own[2]], small);
    assert_eq!(seen[2], 2666.max(seen[2]));
    assert!(
        stats
            .iter()
            .any(|(stat, _)| *stat == LbStat::ZoneRoutingSampled || *stat == LbStat::ZoneRoutingAllDirectly)
    );
    // Too small, not one of ours, switched off.
    let even = [1.0; 4];
    let (seen, stats) = zoned(up, own, ZoneAware { min_cluster_size: 5, ..small });
    assert!(
        chi_square(&seen[..4], &even) < 16.3 && stats.contains(&(LbStat::ZoneClusterTooSmall, 1)),
        "{seen:?}"
    );
    let (seen, stats) = zoned(up, &own[1..], small);
    assert!(
        chi_square(&seen[..4], &even) < 16.3 && stats.contains(&(LbStat::LocalClusterNotOk, 1)),
        "{seen:?}"
    );
    let (seen, _) = zoned(up, own, ZoneAware { routing_enabled: 0, ..small });
    assert!(chi_square(&seen[..4], &even) < 16.3, "{seen:?}");
}

#[test]
fn panic_may_fail_traffic() {
    let mut config = cluster(LbPolicy::Random, vec![hosts(&[1; 4])]);
    for endpoint in &mut config.localities[0].endpoints[..3] {
        endpoint.health = Unhealthy;
    }
    config.balancing.locality =
        LocalityMode::ZoneAware(ZoneAware { fail_traffic_on_panic: true, ..ZoneAware::default() });
    let mut state = state(config);
    let answer = state.choose_host(&mut Rng::new(1), &ChooseContext::default());
    assert_eq!(answer, Err(NoHost::NoneHealthy));
    let mut stats = Vec::new();
    state.take_lb_stats(|stat, count| stats.push((stat, count)));
    assert_eq!(stats, [(LbStat::HealthyPanic, 1)]);
}

#[test]
fn any_cluster_reaches_exactly_its_healthy_hosts() {
    let mut rng = Rng::new(2026);
    for round in 0..60 {
        let count = 1 + rng.below(12) as u8;
        let endpoints: Vec<Endpoint> = (0..count)
            .map(|n| endpoint(n, 1 + rng.below(4) as u32, if rng.chance(1, 5) { Unhealthy } else { Healthy }))
            .collect();
        let healthy: Vec<usize> =
            endpoints.iter().filter(|e| e.health == Healthy).map(|e| e.scope.0 as usize).collect();
        if healthy.is_empty() {
            continue;
        }
        let policy = match round % 5 {
            0 => LbPolicy::RoundRobin,
            1 => LbPolicy::Random,
            2 => LbPolicy::LeastRequest(LeastRequest {
                full_scan: rng.chance(1, 2),
                ..LeastRequest::default()
            }),
            3 => LbPolicy::RingHash(RingHash::default()),
            _ => LbPolicy::Maglev(Maglev { table_size: 1009 }),
        };
        let mut config = cluster(policy, vec![endpoints]);
        config.panic_threshold = 0.0;
        config.balancing.consistent_hashing.balance_factor = if rng.chance(1, 2) { 120 } else { 0 };
        let seen = counts(&mut state(config), 4000, Time::ZERO);
        let reached: Vec<usize> = (0..16).filter(|n| seen[*n] > 0).collect();
        assert_eq!(reached, healthy, "{policy:?}");
    }
}
