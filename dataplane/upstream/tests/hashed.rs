//! Rings and tables against those of Envoy 1.40 (`data/vectors.tsv`, recorded by
//! `tests/e2e/tests/balancing/vectors.rs`), and the rules around them.

mod common;

use std::sync::Arc;

use common::{cluster, endpoint};
use millrace_base::hash::xxh64;
use millrace_base::{Rng, Time};
use millrace_config::HealthStatus::{Degraded, Healthy, Unhealthy};
use millrace_config::{
    Cluster, Endpoint, HashFunction, LbMetadata, LbPolicy, LocalityEndpoints, LocalityMode, Maglev, RingHash,
};
use millrace_upstream::{ChooseContext, ClusterShared, ClusterState, NoHost, OverrideHost};

const VECTORS: &str = include_str!("data/vectors.tsv");

fn policy(text: &str) -> LbPolicy {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |word: &str| word.parse().expect("a number");
    match words[..] {
        ["ring", min, max, hash] => LbPolicy::RingHash(RingHash {
            minimum_ring_size: number(min),
            maximum_ring_size: number(max),
            hash_function: if hash == "xx" { HashFunction::XxHash } else { HashFunction::MurmurHash2 },
        }),
        ["maglev", size] => LbPolicy::Maglev(Maglev { table_size: number(size) as u32 }),
        _ => unreachable!("{text}"),
    }
}

fn keyed(number: u8, key: &str, weight: u32) -> Endpoint {
    let metadata = LbMetadata { hash_key: Some(key.into()), ..LbMetadata::default() };
    Endpoint { lb_metadata: Some(Arc::new(metadata)), ..endpoint(number, weight, Healthy) }
}

/// `weight:key*weight,...;...` as the recorder understands it.
fn localities(text: &str) -> (Vec<LocalityEndpoints>, LocalityMode) {
    let weighted = text.contains(';');
    let mut number = 0;
    let mut one = |(zone, text): (usize, &str)| {
        let (weight, list) = text.split_once(':').filter(|_| weighted).unwrap_or(("0", text));
        let endpoints = list.split(',').map(|host| {
            let (key, weight) = host.split_once('*').unwrap_or((host, "1"));
            number += 1;
            keyed(number - 1, key, weight.parse().expect("a number"))
        });
        let endpoints = endpoints.collect();
        let zone = format!("z{zone}");
        let locality = ("".into(), zone.as_str().into(), "".into());
        LocalityEndpoints { locality, priority: 0, weight: weight.parse().expect("a number"), endpoints }
    };
    let list = text.split(';').enumerate().map(&mut one).collect();
    (list, if weighted { LocalityMode::Weighted } else { LocalityMode::default() })
}

fn state(cluster: Cluster) -> ClusterState {
    ClusterState::new(&Arc::new(cluster), Arc::new(ClusterShared::default()), 1)
}

fn choose(state: &mut ClusterState, context: &ChooseContext<'_>) -> Result<u32, NoHost> {
    let host = state.choose_host(&mut Rng::new(9), context)?.host;
    Ok(state.host(host).map_or(u32::MAX, |host| host.scope.0))
}

fn hashed(hash: u64) -> ChooseContext<'static> {
    ChooseContext { hash: Some(hash), ..ChooseContext::default() }
}

#[test]
fn the_same_rings_and_tables_as_envoy() {
    assert!(VECTORS.lines().count() >= 10);
    for line in VECTORS.lines() {
        let [name, balancer, hosts, picks] = line.split('\t').collect::<Vec<_>>()[..] else {
            unreachable!("{line}")
        };
        let (plain, by_name) =
            balancer.strip_suffix(" hostname").map_or((balancer, false), |plain| (plain, true));
        let mut cluster = cluster(policy(plain), vec![]);
        (cluster.localities, cluster.balancing.locality) = localities(hosts);
        cluster.balancing.consistent_hashing.use_hostname = by_name;
        for endpoint in cluster.localities.iter_mut().flat_map(|l| &mut l.endpoints).filter(|_| by_name) {
            let metadata = endpoint.lb_metadata.take();
            endpoint.hostname = metadata.and_then(|own| own.hash_key.clone()).expect("a key");
        }
        let mut state = state(cluster);
        let got: String = (0..picks.len())
            .map(|n| choose(&mut state, &hashed(xxh64(format!("v{n}").as_bytes(), 0))).unwrap())
            .map(|host| char::from_digit(host, 36).unwrap())
            .collect();
        assert_eq!(got, picks, "{name}");
    }
}

#[test]
fn only_healthy_hosts_are_on_the_ring_and_degraded_ones_never() {
    for policy in [LbPolicy::RingHash(RingHash::default()), LbPolicy::Maglev(Maglev::default())] {
        let hosts = vec![
            endpoint(0, 1, Healthy),
            endpoint(1, 1, Unhealthy),
            endpoint(2, 1, Degraded),
            endpoint(3, 1, Healthy),
        ];
        let mut mixed = state(cluster(policy, vec![hosts]));
        let mut seen: Vec<u32> =
            (0..200).map(|n| choose(&mut mixed, &hashed(xxh64(&[n], 0))).unwrap()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 3]);
        let mut degraded = state(cluster(policy, vec![vec![endpoint(0, 1, Degraded)]]));
        assert_eq!(choose(&mut degraded, &hashed(1)), Err(NoHost::NoneHealthy));
        let mut empty = state(cluster(policy, vec![]));
        assert_eq!(choose(&mut empty, &hashed(1)), Err(NoHost::Empty));
    }
}

#[test]
fn retries_go_elsewhere_and_priorities_follow_the_hash() {
    let four = |start: u8| (start..start + 4).map(|n| endpoint(n, 1, Healthy)).collect::<Vec<_>>();
    for policy in [LbPolicy::RingHash(RingHash::default()), LbPolicy::Maglev(Maglev::default())] {
        let mut state = state(cluster(policy, vec![four(0)]));
        for n in 0..50u64 {
            let first =
                state.choose_host(&mut Rng::new(9), &hashed(xxh64(&n.to_le_bytes(), 0))).unwrap().host;
            let context =
                ChooseContext { avoid: &[first], attempts: 10, ..hashed(xxh64(&n.to_le_bytes(), 0)) };
            assert_ne!(state.choose_host(&mut Rng::new(9), &context).unwrap().host, first);
        }
    }
    // Half of the first level serves, 70 % of the requests: which ones is the hash's decision.
    let mut half = four(0);
    half[0].health = Unhealthy;
    half[1].health = Unhealthy;
    let mut two = state(cluster(LbPolicy::RingHash(RingHash::default()), vec![half, four(4)]));
    for hash in 0..100 {
        let host = choose(&mut two, &hashed(hash)).unwrap();
        assert_eq!(host < 4, hash < 70, "{hash}");
    }
}

#[test]
fn preferred_hosts_come_first_if_their_status_allows() {
    let hosts = vec![endpoint(0, 1, Healthy), endpoint(1, 1, Unhealthy), endpoint(2, 1, Healthy)];
    let mut state = state(cluster(LbPolicy::RoundRobin, vec![hosts]));
    let wants = |addresses: &'static [u8], strict, any_status, skip| ChooseContext {
        override_host: Some(OverrideHost { addresses, skip, strict, any_status }),
        now: Time(1),
        ..ChooseContext::default()
    };
    assert_eq!(choose(&mut state, &wants(b"10.0.0.2:80", false, false, 0)), Ok(2));
    assert_eq!(choose(&mut state, &wants(b"10.0.0.1:80", false, true, 0)), Ok(1));
    assert_eq!(choose(&mut state, &wants(b"10.0.0.1:80", true, false, 0)), Err(NoHost::NoneHealthy));
    assert!(matches!(choose(&mut state, &wants(b"10.0.0.1:80", false, false, 0)), Ok(0 | 2)));
    let list = b"10.9.9.9:80, 10.0.0.2:80,10.0.0.0:80";
    assert_eq!(choose(&mut state, &wants(list, false, false, 0)), Ok(2));
    assert_eq!(choose(&mut state, &wants(list, false, false, 1)), Ok(0), "the next try takes the next one");
}
