//! Assignments that are made of the one before: the same as if all of it had been read.

use std::collections::BTreeMap;

use millrace_base::Rng;
use millrace_config::{Endpoint, ScopeId};
use millrace_proto::pb::envoy::config::core::v3::{self as core, address, socket_address};
use millrace_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use millrace_proto::pb::google::protobuf::UInt32Value;

use super::tests::{context, eds_cluster};
use super::*;

/// An endpoint as a control plane knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct One {
    number: u32,
    port: u32,
    weight: u32,
    health: core::HealthStatus,
}

#[derive(Clone, Debug)]
struct Place {
    region: String,
    priority: u32,
    weight: u32,
    endpoints: Vec<One>,
}

fn one(number: u32) -> One {
    One { number, port: 80, weight: 1, health: core::HealthStatus::Healthy }
}

fn place(region: &str, priority: u32, numbers: std::ops::Range<u32>) -> Place {
    Place { region: region.to_owned(), priority, weight: 1, endpoints: numbers.map(one).collect() }
}

fn wrapped(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn lb_endpoint(from: &One) -> endpoints::LbEndpoint {
    let [_, a, b, c] = from.number.to_be_bytes();
    let socket = core::SocketAddress {
        address: format!("10.{a}.{b}.{c}"),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(from.port)),
        ..Default::default()
    };
    let address = core::Address { address: Some(address::Address::SocketAddress(socket)) };
    let endpoint = endpoints::Endpoint {
        address: Some(address),
        hostname: format!("host-{}", from.number),
        ..Default::default()
    };
    endpoints::LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        health_status: from.health as i32,
        load_balancing_weight: wrapped(from.weight),
        ..Default::default()
    }
}

fn sent(places: &[Place], name: &str) -> Vec<u8> {
    let locality = |from: &Place| endpoints::LocalityLbEndpoints {
        locality: Some(core::Locality { region: from.region.clone(), ..Default::default() }),
        priority: from.priority,
        load_balancing_weight: wrapped(from.weight),
        lb_endpoints: from.endpoints.iter().map(lb_endpoint).collect(),
        ..Default::default()
    };
    endpoints::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: places.iter().map(locality).collect(),
        ..Default::default()
    }
    .encode_to_vec()
}

/// What was accepted last.
struct Known {
    cx: Context,
    cluster: Cluster,
    records: AssignmentRecords,
    made: Vec<LocalityEndpoints>,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Way {
    Refused,
    ReadAll,
    /// Made of the one before, and what differs was said.
    Spliced,
    /// Made of the one before, in another order or with other localities.
    Rearranged,
}

impl Known {
    fn new(places: &[Place]) -> Self {
        let mut cx = context();
        let cluster = eds_cluster(&mut cx, "");
        let bytes = sent(places, "c");
        let made = load_assignment(&bytes, &cluster, &mut cx).unwrap().value.localities;
        let records = SentAssignment::of(&bytes).unwrap().into_records();
        Self { cx, cluster, records, made }
    }

    /// Both ways to take an assignment, compared.
    fn take(&mut self, bytes: &[u8]) -> Way {
        let apart = SentAssignment::of(bytes);
        let changed = apart.as_ref().and_then(|apart| {
            let earlier = EarlierAssignment { records: &self.records, made: &self.made, leaving: &[] };
            changed_assignment(apart, earlier, &self.cluster, &mut self.cx)
        });
        let read = load_assignment_after(bytes, &self.cluster, &self.made, &mut self.cx);
        let (Ok(read), Some(apart)) = (read, apart) else {
            assert!(changed.is_none(), "what is refused was taken");
            return Way::Refused;
        };
        let mut read = read.value;
        let way = match changed {
            None => Way::ReadAll,
            Some(changed) => {
                self.same_scopes(&changed.load.localities, &mut read.localities);
                read.retired = changed.load.retired.clone();
                assert_eq!(changed.load, read);
                match changed.splices {
                    None => Way::Rearranged,
                    Some(splices) => {
                        assert_eq!(spliced(&self.made, &splices, &read.localities), read.localities);
                        Way::Spliced
                    }
                }
            }
        };
        (self.made, self.records) = (read.localities, apart.into_records());
        way
    }

    /// Whoever was there before has its scope from then; new scopes are replaced by those of `changed`.
    fn same_scopes(&self, changed: &[LocalityEndpoints], read: &mut [LocalityEndpoints]) {
        let before: BTreeMap<_, _> = ends(&self.made).map(|e| (e.address.clone(), e.scope)).collect();
        let mut fresh: Vec<ScopeId> = Vec::new();
        let pairs = ends(changed).zip(read.iter_mut().flat_map(|locality| &mut locality.endpoints));
        for (one, other) in pairs {
            match before.get(&one.address) {
                Some(scope) => assert_eq!((one.scope, other.scope), (*scope, *scope), "{}", one.address),
                None => {
                    fresh.push(one.scope);
                    other.scope = one.scope;
                }
            }
        }
        fresh.sort_unstable();
        assert!(fresh.windows(2).all(|two| two[0] != two[1]), "two endpoints of one scope");
        assert!(!before.values().any(|scope| fresh.binary_search(scope).is_ok()), "a scope that was taken");
    }
}

fn ends(localities: &[LocalityEndpoints]) -> impl Iterator<Item = &Endpoint> {
    localities.iter().flat_map(|locality| &locality.endpoints)
}

/// The old endpoints after the splices, with what these bring.
fn spliced(
    old: &[LocalityEndpoints],
    splices: &[millrace_config::Splice],
    new: &[LocalityEndpoints],
) -> Vec<LocalityEndpoints> {
    let mut all = old.to_vec();
    for splice in splices {
        let (locality, at) = (splice.locality as usize, splice.at as usize);
        let added = new[locality].endpoints[at..at + splice.added as usize].to_vec();
        all[locality].endpoints.splice(at..at + splice.removed as usize, added);
    }
    all
}

/// One thing that a control plane may do.
fn mutate(places: &mut Vec<Place>, rng: &mut Rng, next: &mut u32) {
    let mut below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
    let at = below(places.len());
    let (kind, count) = (below(17), places[at].endpoints.len());
    let (one_at, other_at, elsewhere) = (below(count), below(count), below(places.len()));
    *next += 1;
    let endpoints = &mut places[at].endpoints;
    match kind {
        0 | 1 => endpoints.insert(one_at, one(*next)),
        2 => endpoints.push(one(*next)),
        _ if endpoints.is_empty() => {}
        3 | 4 => drop(endpoints.remove(one_at)),
        5 => endpoints[one_at].weight = 1 + *next % 7,
        6 => endpoints[one_at].health = core::HealthStatus::Draining,
        7 => endpoints[one_at] = one(*next),
        8 => endpoints.swap(one_at, other_at),
        9 => endpoints.reverse(),
        10 => {
            let moved = endpoints.remove(one_at);
            places[elsewhere].endpoints.push(moved);
        }
        11 if next.is_multiple_of(3) => {
            let twice = endpoints[one_at];
            places[elsewhere].endpoints.push(twice);
        }
        12 if next.is_multiple_of(5) => endpoints[one_at].port = 70_000,
        13 if next.is_multiple_of(4) => endpoints[one_at].weight = u32::MAX,
        14 => places[at].weight = 1 + *next % 3,
        15 if places.len() > 1 => places.swap(at, elsewhere),
        15 => places.push(place(&next.to_string(), *next % 3, *next..*next + 3)),
        16 if places.len() > 2 && next.is_multiple_of(2) => drop(places.remove(at)),
        16 => places[at].priority = (*next % 2) + places[at].priority % 2,
        _ => {}
    }
}

#[test]
fn random_changes_come_to_the_same_as_reading_everything() {
    let mut ways: BTreeMap<Way, u32> = BTreeMap::new();
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let mut places = vec![place("a", 0, 0..120), place("b", 1, 200..280), place("c", 0, 400..430)];
        let mut known = Known::new(&places);
        let mut next = 1000;
        for _ in 0..25 {
            let mut tried = places.clone();
            for _ in 0..1 + rng.next_u64() % 4 {
                mutate(&mut tried, &mut rng, &mut next);
            }
            let way = known.take(&sent(&tried, "c"));
            *ways.entry(way).or_default() += 1;
            if way != Way::Refused {
                places = tried;
            }
        }
    }
    for way in [Way::Refused, Way::ReadAll, Way::Spliced, Way::Rearranged] {
        assert!(ways.get(&way).is_some_and(|times| *times > 20), "{ways:?}");
    }
}

#[test]
fn bytes_that_are_torn_are_taken_as_reading_takes_them() {
    let places = [place("a", 0, 0..40), place("b", 1, 100..140)];
    let mut rng = Rng::new(7);
    for _ in 0..300 {
        let mut known = Known::new(&places);
        let mut bytes = sent(&places, "c");
        for _ in 0..1 + rng.next_u64() % 3 {
            let at = (rng.next_u64() % bytes.len() as u64) as usize;
            bytes[at] ^= 1 << (rng.next_u64() % 8);
        }
        known.take(&bytes);
    }
}

#[test]
fn an_assignment_of_somebody_else_is_never_made_of_the_one_before() {
    let places = [place("a", 0, 0..40)];
    assert_eq!(Known::new(&places).take(&sent(&places, "other")), Way::Refused);
    assert_eq!(Known::new(&places).take(&sent(&places, "c")), Way::Spliced);
}

#[test]
fn what_has_to_be_said_of_all_endpoints_together_is_said_by_reading_everything() {
    let places = [place("a", 0, 0..40)];
    let with = |more: One| {
        let mut places = places.clone();
        places[0].endpoints.push(more);
        Known::new(&[place("a", 0, 0..40)]).take(&sent(&places, "c"))
    };
    assert_eq!(with(one(50)), Way::Spliced);
    assert_eq!(with(One { weight: 2, ..one(5) }), Way::ReadAll);
    assert_eq!(with(One { weight: u32::MAX, ..one(50) }), Way::Refused);
}

#[test]
fn another_order_and_other_localities_are_no_reason_to_read_everything() {
    let places = [place("a", 0, 0..400), place("b", 1, 1000..1300)];
    let mut other = places.to_vec();
    other[0].endpoints.reverse();
    other[0].endpoints[5].weight = 3;
    assert_eq!(Known::new(&places).take(&sent(&other, "c")), Way::Rearranged);
    let more = [places[0].clone(), place("c", 0, 2000..2010), places[1].clone()];
    assert_eq!(Known::new(&places).take(&sent(&more, "c")), Way::Rearranged);
    assert_eq!(Known::new(&places).take(&sent(&places[..1], "c")), Way::Rearranged);
}
