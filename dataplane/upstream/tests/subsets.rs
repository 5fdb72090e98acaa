//! Subsets as endpoints come and go. What they select is compared with Envoy's in `tests/e2e`.

mod common;

use std::sync::Arc;

use common::{cluster, endpoint};
use millrace_base::Rng;
use millrace_config::HealthStatus::{Healthy, Unhealthy};
use millrace_config::{
    Cluster, Endpoint, LbMetadata, LbPolicy, LocalityEndpoints, LocalityMode, MetadataMatch, MetadataPairs,
    Subset, SubsetFallback, SubsetSelector,
};
use millrace_upstream::{ChooseContext, ClusterShared, ClusterState, LbStat, NoHost};

fn pairs(list: &[(&str, &str)]) -> MetadataPairs {
    list.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}

fn with(number: u8, metadata: &[(&str, &str)]) -> Endpoint {
    let metadata = LbMetadata { pairs: pairs(metadata), ..LbMetadata::default() };
    Endpoint { lb_metadata: Some(Arc::new(metadata)), ..endpoint(number, 1, Healthy) }
}

fn config(endpoints: Vec<Endpoint>) -> Cluster {
    let mut cluster = cluster(LbPolicy::RoundRobin, vec![endpoints]);
    let selectors = vec![SubsetSelector { keys: vec!["v".into()], ..SubsetSelector::default() }];
    cluster.balancing.subset = Some(Arc::new(Subset { selectors, ..Subset::default() }));
    cluster
}

fn state(cluster: Cluster) -> ClusterState {
    ClusterState::new(&Arc::new(cluster), Arc::new(ClusterShared::default()), 1)
}

/// The hosts that 12 requests reach.
fn reached(state: &mut ClusterState, wanted: &[(&str, &str)]) -> Vec<u32> {
    let wanted = MetadataMatch { pairs: pairs(wanted), fallbacks: None };
    let context = ChooseContext { metadata: Some(&wanted), ..ChooseContext::default() };
    let mut rng = Rng::new(3);
    let mut seen = Vec::new();
    for _ in 0..12 {
        if let Ok(chosen) = state.choose_host(&mut rng, &context) {
            seen.extend(state.host(chosen.host).map(|host| host.scope.0));
        }
    }
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn stats(state: &mut ClusterState) -> Vec<(LbStat, u32)> {
    let mut stats = Vec::new();
    state.take_lb_stats(|stat, count| stats.push((stat, count)));
    stats
}

#[test]
fn subsets_follow_the_endpoints() {
    let before = vec![with(0, &[("v", "1")]), with(1, &[("v", "1")]), with(2, &[("v", "2")])];
    let mut state = state(config(before));
    assert_eq!(reached(&mut state, &[("v", "1")]), [0, 1]);
    assert_eq!(stats(&mut state), [(LbStat::SubsetsCreated, 2), (LbStat::SubsetsSelected, 12)]);
    let after = vec![with(0, &[("v", "1")]), with(1, &[("v", "3")]), endpoint(5, 1, Healthy)];
    state.update(&Arc::new(config(after)), &mut Vec::new());
    assert_eq!(reached(&mut state, &[("v", "1")]), [0]);
    assert_eq!(reached(&mut state, &[("v", "3")]), [1]);
    assert_eq!(reached(&mut state, &[("v", "2")]), [0; 0]);
    let counted = stats(&mut state);
    assert_eq!(
        counted,
        [(LbStat::SubsetsCreated, 1), (LbStat::SubsetsRemoved, 1), (LbStat::SubsetsSelected, 24)]
    );
}

#[test]
fn a_subset_has_its_own_panic_and_its_own_priorities() {
    let mut sick = with(0, &[("v", "1")]);
    sick.health = Unhealthy;
    let mut cluster = config(vec![sick, with(1, &[("v", "2")]), with(2, &[("v", "2")])]);
    let spare = LocalityEndpoints {
        priority: 1,
        endpoints: vec![with(3, &[("v", "1")])],
        ..LocalityEndpoints::default()
    };
    assert_eq!(reached(&mut state(cluster.clone()), &[("v", "1")]), [0], "all of the subset is in panic");
    cluster.localities.push(spare);
    assert_eq!(reached(&mut state(cluster), &[("v", "1")]), [3]);
}

#[test]
fn weights_of_localities_count_only_when_the_subset_is_aware_of_them() {
    let mut cluster = config(vec![]);
    let zone = |name: &str, weight, endpoints| LocalityEndpoints {
        locality: ("".into(), name.into(), "".into()),
        priority: 0,
        weight,
        endpoints,
    };
    cluster.localities = vec![
        zone("a", 3, vec![with(0, &[("v", "1")]), with(1, &[("v", "2")]), with(2, &[("v", "2")])]),
        zone("b", 1, vec![with(3, &[("v", "1")])]),
    ];
    cluster.balancing.locality = LocalityMode::Weighted;
    for (aware, scaled, share) in [(false, false, 600), (true, false, 900), (true, true, 600)] {
        let selectors = vec![SubsetSelector { keys: vec!["v".into()], ..SubsetSelector::default() }];
        let subset = Subset {
            selectors,
            locality_weight_aware: aware,
            scale_locality_weight: scaled,
            ..Subset::default()
        };
        cluster.balancing.subset = Some(Arc::new(subset));
        let mut state = state(cluster.clone());
        let wanted = MetadataMatch { pairs: pairs(&[("v", "1")]), fallbacks: None };
        let context = ChooseContext { metadata: Some(&wanted), ..ChooseContext::default() };
        let mut rng = Rng::new(3);
        let of_first = (0..1200)
            .filter(|_| {
                let host = state.choose_host(&mut rng, &context).unwrap().host;
                state.host(host).is_some_and(|host| host.scope.0 == 0)
            })
            .count();
        assert!(of_first.abs_diff(share) <= 2, "{aware} {scaled}: {of_first}");
    }
}

#[test]
fn without_metadata_the_fallback_decides() {
    let mut cluster = config(vec![with(0, &[("v", "1")]), endpoint(1, 1, Healthy)]);
    let ask = |cluster: &Cluster| {
        state(cluster.clone()).choose_host(&mut Rng::new(1), &ChooseContext::default()).map(|_| ())
    };
    assert_eq!(ask(&cluster), Err(NoHost::NoneHealthy));
    let any = Subset { fallback: SubsetFallback::AnyEndpoint, ..Subset::default() };
    cluster.balancing.subset = Some(Arc::new(any));
    assert_eq!(ask(&cluster), Ok(()));
}
