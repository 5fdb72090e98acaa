//! Requests that name their host, one step after the other: the control thread answers late, or never.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Address, Cluster, ClusterDiscovery, DnsCache, DnsCacheConfig, DnsCacheId, FilterChain, FilterConfigId,
    ForwardProxyCluster, ForwardProxyFilter, HostNews, HttpConnectionManager, HttpFilter, HttpFilterKind,
    LbPolicy, Listener, NetworkFilter, ResolvedHost, ScopeId, Snapshot,
};
use millrace_shard::shared::Message;
use millrace_sim::bed::{Bed, SOON};
use millrace_sim::fixture::Mode;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
const HOST: &str = "a.test:80";

fn cache(max_pending_requests: u32) -> Arc<DnsCache> {
    let config = DnsCacheConfig { max_pending_requests, ..DnsCacheConfig::named("c") };
    Arc::new(DnsCache::new(DnsCacheId(0), ScopeId(u32::MAX), config))
}

/// The first cluster finds its endpoints in the cache, and the connection manager has the filter if `filters`.
fn forward(snapshot: &mut Snapshot, cache: &Arc<DnsCache>, filters: bool) {
    for slot in snapshot.clusters.iter_mut().flatten() {
        let own = ForwardProxyCluster { cache: Arc::clone(cache), default_port: 80 };
        *slot = Arc::new(Cluster {
            discovery: ClusterDiscovery::ForwardProxy(own),
            lb_policy: LbPolicy::ClusterProvided,
            localities: Vec::new(),
            ..Cluster::clone(slot)
        });
    }
    let mut listener = Listener::clone(&snapshot.listeners[0]);
    let mut chain = FilterChain::clone(&listener.filter_chains[0]);
    let NetworkFilter::HttpConnectionManager(manager) = &chain.filters[0] else { return };
    let mut manager = HttpConnectionManager::clone(manager);
    if filters {
        let kind = HttpFilterKind::ForwardProxy(Arc::new(ForwardProxyFilter {
            cache: Arc::clone(cache),
            reads_state: false,
        }));
        let filter = HttpFilter { name: "dfp".into(), id: FilterConfigId(0), disabled: false, kind };
        manager.http_filters.insert(0, filter);
    }
    chain.filters = vec![NetworkFilter::HttpConnectionManager(Arc::new(manager))];
    listener.filter_chains = vec![Arc::new(chain)];
    snapshot.listeners[0] = Arc::new(listener);
}

fn bed(shards: usize, cache: &Arc<DnsCache>, filters: bool) -> Bed {
    Bed::new(Mode::Http, shards, |snapshot| forward(snapshot, cache, filters))
}

/// All shards hear of the host.
fn tell(bed: &mut Bed, address: Option<&str>) {
    let answer = ResolvedHost {
        name: HOST.into(),
        address: address.map(|text| Address::Inet(text.parse().expect("an address"))),
        additional_addresses: None,
        details: "why".into(),
        failed: address.is_none(),
        last_use: Arc::default(),
    };
    let news = HostNews { cache: DnsCacheId(0), host: HOST.into(), answer: Some(Arc::new(answer)) };
    hear(bed, news);
}

fn hear(bed: &mut Bed, news: HostNews) {
    let news = Arc::new(news);
    bed.tell_all(|_| Message::Host(Arc::clone(&news)));
    bed.run(SOON);
}

const ENDPOINT: Option<&str> = Some("10.0.1.1:9000");

#[test]
fn everybody_who_waits_hears_of_the_host() {
    for filters in [true, false] {
        let cache = cache(10);
        let mut bed = bed(2, &cache, filters);
        let peers = [bed.connect(), bed.connect(), bed.connect(), bed.connect()];
        for peer in peers {
            assert_eq!(bed.ask(peer, REQUEST), "");
        }
        // One question from each shard.
        assert_eq!((bed.shared.take_questions().len(), cache.pending()), (2, 4));
        tell(&mut bed, ENDPOINT);
        for peer in peers {
            assert!(bed.read(peer).starts_with("HTTP/1.1 200"), "filters {filters}");
            assert!(bed.ask(peer, REQUEST).starts_with("HTTP/1.1 200"));
            bed.net.close(peer);
        }
        assert_eq!((bed.shared.take_questions().len(), cache.pending()), (0, 0));
        bed.asserts_nothing_left();
    }
}

#[test]
fn a_client_goes_away_from_a_name_that_never_answers() {
    for filters in [true, false] {
        let cache = cache(1);
        let mut bed = bed(1, &cache, filters);
        for round in 0..3 {
            let peer = bed.connect();
            assert_eq!(bed.ask(peer, REQUEST), "", "round {round}");
            assert_eq!((cache.pending(), bed.shared.take_questions().len()), (1, 1));
            bed.net.close(peer);
            bed.run(SOON);
            assert_eq!(cache.pending(), 0, "filters {filters}");
        }
        // The answer comes for nobody, and serves whoever comes next.
        tell(&mut bed, ENDPOINT);
        let peer = bed.connect();
        assert!(bed.ask(peer, REQUEST).starts_with("HTTP/1.1 200"));
        bed.net.close(peer);
        bed.asserts_nothing_left();
    }
}

#[test]
fn nobody_waits_for_ever_for_the_control_thread() {
    let cache = cache(10);
    let mut bed = bed(1, &cache, true);
    let peer = bed.connect();
    assert_eq!(bed.ask(peer, REQUEST), "");
    bed.run(Duration::from_secs(9));
    assert_eq!(bed.read(peer), "");
    bed.run(Duration::from_secs(1));
    assert!(bed.read(peer).starts_with("HTTP/1.1 503"));
    assert_eq!(cache.pending(), 0);
    bed.net.close(peer);
    bed.asserts_nothing_left();
}

#[test]
fn a_host_that_is_dropped_is_asked_for_again() {
    let cache = cache(10);
    let mut bed = bed(1, &cache, true);
    let peer = bed.connect();
    tell(&mut bed, ENDPOINT);
    assert!(bed.ask(peer, REQUEST).starts_with("HTTP/1.1 200"));
    hear(&mut bed, HostNews { cache: DnsCacheId(0), host: HOST.into(), answer: None });
    for _ in 0..2 {
        // The second time while a request waits.
        if cache.pending() == 0 {
            assert_eq!(bed.ask(peer, REQUEST), "");
        } else {
            hear(&mut bed, HostNews { cache: DnsCacheId(0), host: HOST.into(), answer: None });
        }
        assert_eq!((bed.shared.take_questions().len(), cache.pending()), (1, 1));
    }
    tell(&mut bed, None);
    assert!(bed.read(peer).starts_with("HTTP/1.1 503"));
    bed.net.close(peer);
    bed.asserts_nothing_left();
}
