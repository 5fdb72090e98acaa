//! Vectors and a naive twin of the filter chain match.

use millrace_base::Rng;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    let (address, len) = text.split_once('/').unwrap();
    Cidr::new(ip(address), len.parse().unwrap()).unwrap()
}

fn names(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|name| Arc::from(*name)).collect()
}

fn facts() -> ConnectionFacts<'static> {
    ConnectionFacts {
        destination: (ip("10.0.0.1"), 80),
        source: (ip("192.168.7.9"), 40_000),
        direct_source: ip("192.168.7.9"),
        server_name: None,
        transport_protocol: TransportProtocol::RawBuffer,
        application_protocols: &[],
    }
}

#[test]
fn no_chain_and_the_chain_that_asks_for_nothing() {
    assert_eq!(FilterChainMatch::compile(Vec::new()).unwrap().find(&facts()), None);
    let any = FilterChainMatch::compile(vec![FilterChainCriteria::default()]).unwrap();
    assert_eq!(any.find(&facts()), Some(0));
}

#[test]
fn a_specific_port_hides_the_chains_of_every_port() {
    let table = FilterChainMatch::compile(vec![
        FilterChainCriteria {
            destination_port: Some(80),
            server_names: names(&["a.example"]),
            ..Default::default()
        },
        FilterChainCriteria::default(),
    ])
    .unwrap();
    // Port 80 was chosen; that its only chain asks for another name does not bring the others back.
    assert_eq!(table.find(&facts()), None);
    assert_eq!(table.find(&ConnectionFacts { destination: (ip("10.0.0.1"), 81), ..facts() }), Some(1));
    assert_eq!(table.find(&ConnectionFacts { server_name: Some("a.example"), ..facts() }), Some(0));
}

#[test]
fn names_are_matched_exactly_then_by_the_longest_suffix() {
    let chain =
        |list: &[&str]| FilterChainCriteria { server_names: names(list), ..FilterChainCriteria::default() };
    let table = FilterChainMatch::compile(vec![
        chain(&[".example.com"]),
        chain(&["www.example.com", "other.org"]),
        chain(&[".b.example.com"]),
        chain(&[]),
    ])
    .unwrap();
    let find = |name| table.find(&ConnectionFacts { server_name: Some(name), ..facts() });
    assert_eq!(find("www.example.com"), Some(1));
    assert_eq!(find("other.org"), Some(1));
    assert_eq!(find("a.b.example.com"), Some(2));
    assert_eq!(find("b.example.com"), Some(0));
    assert_eq!(find("example.com"), Some(3));
    assert_eq!(find(""), Some(3));
    assert_eq!(find("."), Some(3));
}

#[test]
fn the_clients_order_of_protocols_decides() {
    let chain = |p: &[&str]| FilterChainCriteria {
        application_protocols: names(p),
        ..FilterChainCriteria::default()
    };
    let table = FilterChainMatch::compile(vec![chain(&["http/1.1"]), chain(&["h2"])]).unwrap();
    let find = |p| table.find(&ConnectionFacts { application_protocols: p, ..facts() });
    assert_eq!(find(&["h2", "http/1.1"]), Some(1));
    assert_eq!(find(&["x", "http/1.1", "h2"]), Some(0));
    assert_eq!(find(&[]), None);
}

#[test]
fn same_criteria_and_overlaps_are_refused() {
    let of = |prefixes: &[&str]| FilterChainCriteria {
        prefix_ranges: prefixes.iter().map(|p| cidr(p)).collect(),
        ..Default::default()
    };
    let same = FilterChainMatch::compile(vec![of(&["10.0.0.0/8"]), of(&[]), of(&["10.0.0.0/8"])]);
    assert_eq!(same.err(), Some(ChainConflict { first: 0, second: 2, identical: true }));
    let overlap = FilterChainMatch::compile(vec![of(&["10.0.0.0/8"]), of(&["11.0.0.0/8", "10.0.0.0/8"])]);
    assert_eq!(overlap.err(), Some(ChainConflict { first: 0, second: 1, identical: false }));
}

/// Keeps, level by level, the chains whose value is the most specific that any surviving chain has.
fn naive(chains: &[FilterChainCriteria], facts: &ConnectionFacts<'_>) -> Option<usize> {
    let mut alive: Vec<usize> = (0..chains.len()).collect();
    for level in LEVELS {
        let scores = |i: usize| chains[i].values(level).iter().map(|v| score(level, v, facts)).max().unwrap();
        let best = alive.iter().map(|i| scores(*i)).max().unwrap_or(0);
        alive.retain(|i| scores(*i) == best && best > 0);
    }
    assert!(alive.len() <= 1, "two chains survive: {alive:?}");
    alive.pop()
}

fn score(level: Level, value: &Value, facts: &ConnectionFacts<'_>) -> usize {
    let prefix = |ip: IpAddr| match value {
        Value::Prefix(len, net) if Cidr::new(*net, len.0).unwrap().contains(ip) => 2 + usize::from(len.0),
        _ => 0,
    };
    let port = |port: u16| if *value == Value::Port(port) { 2 } else { 0 };
    if *value == Value::Any {
        return 1;
    }
    match level {
        Level::DestinationPort => port(facts.destination.1),
        Level::SourcePort => port(facts.source.1),
        Level::DestinationPrefix => prefix(facts.destination.0),
        Level::DirectSource => prefix(facts.direct_source),
        Level::SourcePrefix => prefix(facts.source.0),
        Level::Transport => usize::from(*value == Value::Transport(facts.transport_protocol)) * 2,
        Level::SourceType => usize::from(*value == Value::Source(facts.source_type())) * 2,
        Level::ServerName => match (value, facts.server_name) {
            (Value::Text(t), Some(name)) if **t == *name => 1000,
            (Value::Text(t), Some(name)) if t.starts_with('.') && name.ends_with(&**t) => 1 + t.len(),
            _ => 0,
        },
        Level::Application => match value {
            Value::Text(t) => {
                let at = facts.application_protocols.iter().position(|p| *p == &**t);
                at.map_or(0, |at| 100 - at)
            }
            _ => 0,
        },
    }
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> Vec<T> {
    let count = rng.below(3) as usize;
    let mut all: Vec<T> = from.to_vec();
    while all.len() > count {
        all.swap_remove(rng.below(all.len() as u64) as usize);
    }
    all
}

const PREFIXES: [&str; 6] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "0.0.0.0/0", "::/0", "10.1.2.3/32"];
const ADDRESSES: [&str; 5] = ["10.1.2.3", "10.1.9.9", "11.0.0.1", "127.0.0.1", "fe80::1"];

fn random_criteria(rng: &mut Rng) -> FilterChainCriteria {
    let prefixes = PREFIXES.map(cidr);
    let texts = names(&["a.x.org", ".x.org", ".org", "b.org"]);
    let transports = [TransportProtocol::RawBuffer, TransportProtocol::Tls];
    let types = [SourceType::Any, SourceType::SameIpOrLoopback, SourceType::External];
    FilterChainCriteria {
        destination_port: pick(rng, &[80, 81]).pop(),
        prefix_ranges: pick(rng, &prefixes),
        server_names: pick(rng, &texts),
        transport_protocol: pick(rng, &transports).pop(),
        application_protocols: pick(rng, &names(&["h2", "http/1.1"])),
        direct_source_prefix_ranges: pick(rng, &prefixes[..2]),
        source_type: types[rng.below(3) as usize],
        source_prefix_ranges: pick(rng, &prefixes[..3]),
        source_ports: pick(rng, &[1000, 1001]),
    }
}

#[test]
fn the_tree_agrees_with_the_naive_twin() {
    let mut rng = Rng::new(2);
    let (mut compiled, mut found) = (0, 0);
    for _ in 0..3000 {
        let mut chains = vec![FilterChainCriteria::default()];
        for _ in 0..rng.below(5) {
            // Few levels at a time, so that chains collide on the levels before and after.
            let (full, mut criteria) = (random_criteria(&mut rng), FilterChainCriteria::default());
            match rng.below(4) {
                0 => criteria = full,
                1 => {
                    (criteria.server_names, criteria.prefix_ranges) = (full.server_names, full.prefix_ranges)
                }
                2 => (criteria.source_type, criteria.source_ports) = (full.source_type, full.source_ports),
                _ => {
                    criteria.destination_port = full.destination_port;
                    criteria.application_protocols = full.application_protocols;
                }
            }
            chains.push(criteria);
        }
        let Ok(table) = FilterChainMatch::compile(chains.clone()) else { continue };
        compiled += 1;
        for _ in 0..20 {
            let at = |rng: &mut Rng| ip(ADDRESSES[rng.below(5) as usize]);
            let facts = ConnectionFacts {
                destination: (at(&mut rng), 80 + rng.below(3) as u16),
                source: (at(&mut rng), 1000 + rng.below(3) as u16),
                direct_source: at(&mut rng),
                server_name: [None, Some("a.x.org"), Some("c.x.org"), Some("b.org")][rng.below(4) as usize],
                transport_protocol: TransportProtocol::RawBuffer,
                application_protocols: [&[][..], &["h2"], &["http/1.1", "h2"]][rng.below(3) as usize],
            };
            let expected = naive(&chains, &facts);
            assert_eq!(table.find(&facts), expected, "{chains:#?} {facts:?}");
            found += usize::from(expected.is_some());
        }
    }
    assert!(compiled > 1000 && found > 10_000, "{compiled} tables, {found} matches");
}
