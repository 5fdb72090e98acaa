//! Endpoints that come, go and change as the control thread tells it: the same hosts, connections and choices as if all
//! endpoints had been compared.

mod common;

use std::sync::Arc;

use common::cluster;
use millrace_base::Rng;
use millrace_config::{
    Address, Cluster, Endpoint, EndpointChanges, HealthStatus, LbPolicy, LocalityEndpoints, Maglev,
};
use millrace_upstream::{ChooseContext, ClusterShared, ClusterState, OverrideHost};

fn endpoint(number: u8) -> Endpoint {
    common::endpoint(number, 1, HealthStatus::Healthy)
}

fn address(number: u8) -> Address {
    endpoint(number).address
}

/// What anybody can see of a state: hosts with what they are, and who gets requests.
fn shown(state: &mut ClusterState) -> Vec<String> {
    let mut lines: Vec<String> = state
        .hosts()
        .map(|(_, host)| {
            let (address, weight, health) = (&host.address, host.weight, host.health);
            format!("{address} {weight} {health:?} {} {} {:?}", host.priority, host.locality, host.scope)
        })
        .collect();
    let mut rng = Rng::new(5);
    let mut seen = std::collections::BTreeSet::new();
    for hash in 0..400_u64 {
        let hash = Some(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if let Ok(chosen) = state.choose_host(&mut rng, &ChooseContext { hash, ..Default::default() }) {
            let address = state.host(chosen.host).expect("the chosen host").address.to_string();
            seen.insert(format!("{address} in panic: {}", chosen.panic));
        }
    }
    lines.extend(seen);
    lines
}

fn edited(cluster: &Cluster, rng: &mut Rng) -> Cluster {
    let mut next = cluster.clone();
    next.endpoints_version += 1;
    for _ in 0..=rng.below(3) {
        let locality = rng.below(next.localities.len() as u64) as usize;
        let endpoints = &mut next.localities[locality].endpoints;
        let at = rng.below(endpoints.len() as u64 + 1) as usize;
        // Addresses of one locality are no other's.
        let fresh = endpoint(80 * locality as u8 + rng.below(40) as u8);
        let is_known = endpoints.iter().any(|known| known.address == fresh.address);
        match rng.below(5) {
            0 if at < endpoints.len() => drop(endpoints.remove(at)),
            1 if at < endpoints.len() => endpoints[at].weight = 1 + rng.below(3) as u32,
            2 if at < endpoints.len() => {
                endpoints[at].health = match rng.below(3) {
                    0 => HealthStatus::Unhealthy,
                    1 => HealthStatus::Degraded,
                    _ => HealthStatus::Healthy,
                };
            }
            3 if at < endpoints.len() && !is_known => endpoints[at] = fresh,
            _ if !is_known => endpoints.insert(at, fresh),
            _ => {}
        }
    }
    next
}

fn locality(number: u8, priority: u32) -> LocalityEndpoints {
    let endpoints = (0..6).map(|n| endpoint(80 * number + n)).collect();
    LocalityEndpoints { priority, endpoints, ..LocalityEndpoints::default() }
}

#[test]
fn changes_lead_where_comparing_everything_leads() {
    let policies = [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::Maglev(Maglev { table_size: 1009 })];
    for (seed, policy) in (1..60).zip(policies.into_iter().cycle()) {
        let mut rng = Rng::new(seed);
        let mut start = cluster(policy, Vec::new());
        start.localities = vec![locality(0, 0), locality(1, 0), locality(2, 1)];
        let mut now = Arc::new(start);
        let budgets = Arc::new(ClusterShared::default());
        let mut told = ClusterState::new(&now, Arc::clone(&budgets), 1);
        let mut out = Vec::new();
        for _ in 0..20 {
            let next = Arc::new(edited(&now, &mut rng));
            let changes = EndpointChanges::between(&now, &next).expect("small changes");
            told.update_by(&next, Some(&changes), &mut out);
            let mut fresh = ClusterState::new(&next, Arc::clone(&budgets), 1);
            assert_eq!(shown(&mut told), shown(&mut fresh), "seed {seed}");
            told.check_invariants();
            now = next;
        }
    }
}

#[test]
fn hosts_that_stay_or_move_keep_their_id_and_one_that_left_is_chosen_no_more() {
    let first = Arc::new(cluster(LbPolicy::RoundRobin, vec![(0..4).map(endpoint).collect()]));
    let mut state = ClusterState::new(&first, Arc::default(), 1);
    let ids = |state: &ClusterState| -> Vec<_> {
        state.hosts().map(|(id, host)| (host.address.to_string(), id)).collect()
    };
    let before = ids(&state);
    let mut next = (*first).clone();
    let moved = next.localities[0].endpoints.remove(0);
    next.localities[0].endpoints.remove(0);
    next.localities[0].endpoints.push(moved);
    let next = Arc::new(next);
    let changes = EndpointChanges::between(&first, &next).unwrap();
    let mut out = Vec::new();
    state.update_by(&next, Some(&changes), &mut out);
    assert_eq!(ids(&state), [before[2].clone(), before[3].clone(), before[0].clone()]);
    let mut rng = Rng::new(1);
    for _ in 0..20 {
        let chosen = state.choose_host(&mut rng, &ChooseContext::default()).unwrap();
        assert_ne!(chosen.host, before[1].1);
    }
    // Changes of another version than the one in force are no use.
    let stale = EndpointChanges::between(&first, &first).unwrap();
    let third = Arc::new(cluster(LbPolicy::RoundRobin, vec![vec![endpoint(9)]]));
    state.update_by(&third, Some(&stale), &mut out);
    assert_eq!(state.hosts().map(|(_, host)| host.address.clone()).collect::<Vec<_>>(), [address(9)]);
}

#[test]
fn preferred_hosts_are_found_after_changes() {
    let first = Arc::new(cluster(LbPolicy::RoundRobin, vec![(0..3).map(endpoint).collect()]));
    let mut state = ClusterState::new(&first, Arc::default(), 1);
    let find = |state: &mut ClusterState, number: u8| {
        let text = address(number).to_string();
        let wanted = OverrideHost { addresses: text.as_bytes(), skip: 0, strict: true, any_status: false };
        let context = ChooseContext { override_host: Some(wanted), ..Default::default() };
        let chosen = state.choose_host(&mut Rng::new(1), &context).ok()?;
        Some(state.host(chosen.host)?.address == address(number))
    };
    assert_eq!(find(&mut state, 1), Some(true));
    let mut next = (*first).clone();
    next.localities[0].endpoints[1] = endpoint(7);
    let next = Arc::new(next);
    let changes = EndpointChanges::between(&first, &next).unwrap();
    state.update_by(&next, Some(&changes), &mut Vec::new());
    assert_eq!(
        (find(&mut state, 1), find(&mut state, 7), find(&mut state, 2)),
        (None, Some(true), Some(true))
    );
}

#[test]
fn shards_share_one_table() {
    let policy = LbPolicy::Maglev(Maglev { table_size: 1009 });
    let config = Arc::new(cluster(policy, vec![(0..5).map(endpoint).collect()]));
    let budgets = Arc::new(ClusterShared::default());
    let mut states: Vec<_> =
        (0..2).map(|seed| ClusterState::new(&config, Arc::clone(&budgets), seed)).collect();
    let shown: Vec<_> = states.iter_mut().map(shown).collect();
    assert_eq!(shown[0], shown[1]);
}
