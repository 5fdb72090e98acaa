//! Endpoints that requests name, and aggregate clusters.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Rng, Time};
use millrace_config::HealthStatus::{Healthy, Unhealthy};
use millrace_config::{
    Address, Cluster, ClusterDiscovery, DnsCache, DnsCacheConfig, DnsCacheId, ForwardProxyCluster, LbPolicy,
    OriginalDst, ResolvedHost, ScopeId,
};
use millrace_upstream::{
    Aggregate, ChooseContext, ClusterShared, ClusterState, Dropped, LevelOf, NoHost, ON_DEMAND_HOSTS_MAX,
    ResourcePriority,
};

fn original_dst() -> Arc<Cluster> {
    let config = OriginalDst {
        header: None,
        metadata_key: None,
        port_override: None,
        cleanup_interval: Duration::from_secs(5),
    };
    let discovery = ClusterDiscovery::OriginalDst(config);
    Arc::new(Cluster { discovery, ..cluster(LbPolicy::ClusterProvided, Vec::new()) })
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0000 + number).to_be_bytes(), 80))
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

#[test]
fn an_endpoint_is_made_once_and_dropped_when_nobody_wants_it() {
    let budgets = Arc::new(ClusterShared::default());
    let mut one = ClusterState::new(&original_dst(), budgets.clone(), 1);
    let mut two = ClusterState::new(&original_dst(), budgets.clone(), 2);
    let (mut dropped, mut actions) = (Dropped::default(), Vec::new());
    let (host, is_new) = one.demand(address(1), at(0), || ScopeId(7), &mut dropped).unwrap();
    assert!(is_new && one.host(host).is_some_and(|host| host.scope == ScopeId(7)));
    assert_eq!(one.demand(address(1), at(0), || unreachable!(), &mut dropped), Ok((host, false)));
    // The other shard counts in the same scope.
    let (twin, is_new) = two.demand(address(1), at(0), || unreachable!(), &mut dropped).unwrap();
    assert!(!is_new && two.host(twin).is_some_and(|host| host.scope == ScopeId(7)));
    assert_eq!(budgets.on_demand.len(), 1);

    let conn = one.acquire_tcp(host, ResourcePriority::Default, &mut actions).unwrap();
    for seconds in [0, 5, 10] {
        one.clean_up(at(seconds), &mut dropped);
        two.clean_up(at(seconds), &mut dropped);
    }
    // Spared at 5 s for having been asked for, dropped at 10 s by the shard without a connection.
    assert!(two.host(twin).is_none() && one.host(host).is_some() && dropped.scopes.is_empty());
    one.closed(conn, &mut actions);
    one.clean_up(at(15), &mut dropped);
    assert!(one.host(host).is_none() && budgets.on_demand.is_empty());
    assert_eq!(dropped.scopes, [ScopeId(7)]);
}

#[test]
fn the_number_of_endpoints_is_bounded() {
    let mut state = ClusterState::new(&original_dst(), Arc::default(), 1);
    let (mut dropped, mut actions) = (Dropped::default(), Vec::new());
    let bound = ON_DEMAND_HOSTS_MAX as u32;
    let mut demand = |state: &mut ClusterState, number, now| {
        state.demand(address(number), now, || ScopeId(number), &mut dropped).map(|(host, _)| host)
    };
    let kept = demand(&mut state, 0, at(0)).unwrap();
    state.acquire_tcp(kept, ResourcePriority::Default, &mut actions).unwrap();
    for number in 1..bound {
        demand(&mut state, number, at(1)).unwrap();
    }
    // Those without a connection make room, but not for everybody at once.
    assert!(demand(&mut state, bound, at(1)).is_ok());
    assert_eq!(state.hosts().count(), 2);
    for number in 0..bound - 2 {
        demand(&mut state, bound + 1 + number, at(1)).unwrap();
    }
    assert_eq!(demand(&mut state, 3 * bound, at(1)), Err(NoHost::Empty));
    assert_eq!(demand(&mut state, 0, at(1)), Ok(kept));
    assert!(demand(&mut state, 3 * bound, at(2)).is_ok());
    state.leave_on_demand(&mut dropped, &mut actions);
    assert_eq!(state.hosts().count(), 0);
}

fn state(levels: &[&[millrace_config::HealthStatus]]) -> ClusterState {
    let level = |health: &&[_]| health.iter().enumerate().map(|(n, h)| endpoint(n as u8, 1, *h)).collect();
    let config = Arc::new(cluster(LbPolicy::RoundRobin, levels.iter().map(level).collect()));
    ClusterState::new(&config, Arc::default(), 1)
}

fn shares(aggregate: &Aggregate) -> Vec<((usize, u32), u32)> {
    let mut rng = Rng::new(5);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..10_000 {
        let LevelOf { member, level, degraded } = aggregate.draw(&mut rng).expect("a level");
        assert!(!degraded);
        *counts.entry((member, level)).or_default() += 1;
    }
    counts.into_iter().collect()
}

#[test]
fn levels_of_all_members_are_one_list() {
    let config = cluster(LbPolicy::ClusterProvided, Vec::new());
    // Half of the first level: 70 %. An empty level and a member that does not exist are passed over.
    let a = state(&[&[Healthy, Unhealthy], &[], &[Unhealthy]]);
    let b = state(&[&[Healthy], &[Healthy]]);
    let mut aggregate = Aggregate::default();
    assert_eq!(aggregate.draw(&mut Rng::new(1)), None);
    aggregate.rebuild(&config, [Some(&a), None, Some(&b)].into_iter());
    let found = shares(&aggregate);
    assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [(0, 0), (2, 0)]);
    assert!(found[0].1.abs_diff(7000) < 250, "{found:?}");
    assert!(aggregate.is_current([a.version(), Aggregate::ABSENT, b.version()].into_iter()));

    // Nobody is healthy: panic, by the number of hosts.
    let (a, b) = (state(&[&[Unhealthy; 3]]), state(&[&[Unhealthy]]));
    aggregate.rebuild(&config, [Some(&a), Some(&b)].into_iter());
    assert!(shares(&aggregate)[0].1.abs_diff(7500) < 250);
}

#[test]
fn a_level_that_was_drawn_elsewhere_is_used() {
    let mut state = state(&[&[Healthy], &[Healthy, Healthy]]);
    let mut rng = Rng::new(3);
    for _ in 0..20 {
        let context = ChooseContext { level: Some((1, false)), ..ChooseContext::default() };
        let chosen = state.choose_host(&mut rng, &context).unwrap();
        assert_eq!(state.host(chosen.host).map(|host| host.priority), Some(1));
    }
    let before = state.version();
    let mut config = Cluster::clone(state.config());
    config.localities.pop();
    state.update(&Arc::new(config), &mut Vec::new());
    assert_ne!(state.current_version(), before);
}

fn forward_proxy() -> Arc<Cluster> {
    let cache = DnsCache::new(DnsCacheId(0), ScopeId(0), DnsCacheConfig::named("c"));
    let own = ForwardProxyCluster { cache: Arc::new(cache), default_port: 80 };
    let discovery = ClusterDiscovery::ForwardProxy(own);
    Arc::new(Cluster { discovery, ..cluster(LbPolicy::ClusterProvided, Vec::new()) })
}

fn resolved(name: &str, addresses: &[u32]) -> Arc<ResolvedHost> {
    let mut addresses = addresses.iter().map(|number| Address::Inet(address(*number)));
    let first = addresses.next();
    let others: Arc<[Address]> = addresses.collect();
    Arc::new(ResolvedHost {
        name: name.into(),
        address: first,
        additional_addresses: (!others.is_empty()).then_some(others),
        details: "".into(),
        failed: false,
        last_use: Arc::default(),
    })
}

#[test]
fn an_endpoint_of_a_host_follows_its_addresses_and_goes_with_it() {
    let budgets = Arc::new(ClusterShared::default());
    let mut state = ClusterState::new(&forward_proxy(), budgets.clone(), 1);
    let (mut dropped, mut actions) = (Dropped::default(), Vec::new());
    let first = resolved("a:80", &[1, 2]);
    let host = state.demand_host(&first, at(0), || ScopeId(7), &mut dropped).unwrap();
    // Another name at the same address is another endpoint.
    let other = resolved("b:80", &[1]);
    let other = state.demand_host(&other, at(0), || ScopeId(8), &mut dropped).unwrap();
    assert!(other != host && budgets.on_demand.len() == 2 && budgets.on_demand.endpoints().is_empty());
    assert_eq!(budgets.on_demand.scope_of(&first.name), Some(ScopeId(7)));
    let conn = state.acquire_tcp(host, ResourcePriority::Default, &mut actions).unwrap();

    let later = resolved("a:80", &[3]);
    assert_eq!(state.demand_host(&later, at(1), || unreachable!(), &mut dropped), Ok(host));
    let now = state.host(host).unwrap();
    assert_eq!((&now.address, now.additional_addresses.is_none()), (&Address::Inet(address(3)), true));
    assert_eq!((&*now.hostname, now.connections()), ("a:80", 1));

    state.forget_host(&later.name, &mut dropped, &mut actions);
    assert_eq!((dropped.scopes.as_slice(), state.host(host).is_some()), (&[ScopeId(7)][..], true));
    state.closed(conn, &mut actions);
    assert!(state.host(host).is_none());
    // It has never had an address.
    let none = resolved("c:80", &[]);
    assert_eq!(state.demand_host(&none, at(2), || unreachable!(), &mut dropped), Err(NoHost::Empty));
}
