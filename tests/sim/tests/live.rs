//! Changes of configuration one at a time, and what a connection that was open before sees of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Address, Cluster, ClusterId, Extract, FilterChain, KeyFragment, Listener, ListenerChange, NetworkFilter,
    RouteConfiguration, RouteSource, RouteTableId, Scope, ScopeRoutes, ScopeSource, ScopeTable, ScopeTableId,
    ScopedRoutes, Snapshot, Update,
};
use millrace_ring::SocketAddress;
use millrace_shard::shared::{ListenerHandle, Message};
use millrace_sim::bed::{Bed, SOON};
use millrace_sim::fixture::Mode;

const DRAIN: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

fn is_kept_open(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200") && !answer.contains("connection: close")
}

fn is_last(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close")
}

/// The same listener with another filter chain, or with another limit and the same chain.
fn changed(listener: &Listener, keeps_chain: bool) -> Arc<Listener> {
    let mut next = listener.clone();
    next.buffer_limit_bytes += 1;
    if !keeps_chain {
        next.filter_chains = vec![Arc::new(FilterChain::clone(&next.filter_chains[0]))];
    }
    Arc::new(next)
}

#[test]
fn connections_of_a_kept_chain_notice_nothing_and_those_of_another_drain() {
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    let (busy, idle) = (bed.connect(), bed.connect());
    assert!(is_kept_open(&bed.ask(busy, REQUEST)));
    let first = bed.listener();
    bed.change_listener(ListenerChange::Replace(changed(&first, true), DRAIN));
    assert_eq!(bed.shared.draining_connections(), 0);
    bed.run(DRAIN * 2);
    assert!(is_kept_open(&bed.ask(busy, REQUEST)), "beyond the drain time");

    let second = bed.listener();
    bed.change_listener(ListenerChange::Replace(changed(&second, false), DRAIN));
    assert_eq!(bed.shared.draining_connections(), 2, "of an earlier configuration, too");
    let third = bed.listener();
    bed.change_listener(ListenerChange::Replace(changed(&third, true), Duration::ZERO));
    let young = bed.connect();
    assert!(is_last(&bed.ask(busy, REQUEST)));
    assert_eq!(bed.read(idle), "", "a request may be on its way");
    assert!(is_kept_open(&bed.ask(young, REQUEST)));
    bed.run(DRAIN);
    assert_eq!((&*bed.read(busy), &*bed.read(idle)), ("FIN", "FIN"));
    assert!(is_kept_open(&bed.ask(young, REQUEST)));
    [busy, idle, young].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}

#[test]
fn what_is_left_when_a_drain_ends_is_closed() {
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    let stuck = bed.connect();
    bed.silent = true;
    bed.ask(stuck, REQUEST);
    let name = bed.handle.name().clone();
    bed.change_listener(ListenerChange::Remove(name, DRAIN));
    assert!(bed.net.connect(&bed.listen).is_err(), "nobody listens any more");
    bed.run(DRAIN - SOON * 2);
    assert_eq!((&*bed.read(stuck), bed.handle.is_in_use()), ("", true));
    bed.run(SOON * 4);
    assert_eq!((&*bed.read(stuck), bed.handle.is_in_use()), ("FIN", false));
    bed.net.close(stuck);
    bed.asserts_nothing_left();
}

#[test]
fn tcp_sessions_end_with_the_drain_time_and_tell_if_it_was_amid_bytes() {
    let mut bed = Bed::new(Mode::Tcp, 1, |_| {});
    let (quiet, active) = (bed.connect(), bed.connect());
    assert_eq!(bed.ask(quiet, b"hello"), "hello");
    bed.run(Duration::from_secs(4));
    let listener = bed.listener();
    bed.change_listener(ListenerChange::Replace(changed(&listener, false), DRAIN));
    assert_eq!(bed.ask(active, b"go on"), "go on");
    bed.run(DRAIN);
    assert_eq!((&*bed.read(quiet), &*bed.read(active)), ("FIN", "RST"));
    [quiet, active].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}

#[test]
fn a_connection_on_its_way_to_a_shard_that_knows_of_the_removal_is_served() {
    let mut bed = Bed::new(Mode::Http, 2, |_| {});
    // The accepting shard has one connection, so that the next one goes to the other.
    let first = bed.connect();
    let name = bed.handle.name().clone();
    let removal =
        Arc::new(Update { listeners: vec![ListenerChange::Remove(name, DRAIN)], ..Update::default() });
    bed.tell(1, Message::Update(removal.clone()));
    bed.run(SOON);
    let second = bed.connect();
    assert_eq!(bed.shared.doors()[1].connections(), 1);
    bed.tell(0, Message::Update(removal));
    bed.run(SOON);
    assert_eq!(bed.shared.draining_connections(), 2);
    assert!(is_last(&bed.ask(second, REQUEST)) && is_last(&bed.ask(first, REQUEST)));
    [first, second].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
    assert!(!bed.handle.is_in_use());
}

#[test]
fn a_listener_and_its_successor_of_the_same_name_are_two() {
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    let before = bed.connect();
    let mut next = Listener::clone(&bed.listener());
    next.addresses = vec![Address::Inet(SocketAddr::from(([10, 0, 0, 1], 8081)))];
    bed.change_listener(ListenerChange::Remove(next.name.clone(), DRAIN));
    let old = std::mem::replace(&mut bed.handle, ListenerHandle::new(&next.name));
    let next = Arc::new(next);
    bed.open(next.clone());
    let after = bed.connect();
    assert!(is_last(&bed.ask(before, REQUEST)) && is_kept_open(&bed.ask(after, REQUEST)));
    // A socket that comes for the old one finds nobody.
    let late = bed.net.listen(SocketAddress::Inet(([10, 0, 0, 1], 8082).into())).expect("a free address");
    bed.tell(0, Message::Listen(old.clone(), late));
    bed.run(DRAIN * 2);
    assert!(bed.net.connect(&SocketAddress::Inet(([10, 0, 0, 1], 8082).into())).is_err());
    assert!(is_kept_open(&bed.ask(after, REQUEST)), "the successor goes on");
    assert!(!old.is_in_use() && bed.handle.is_in_use());
    [before, after].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}

/// Makes the table of the only connection manager come over RDS, later.
fn over_rds(snapshot: &mut Snapshot) -> Option<Arc<RouteConfiguration>> {
    routed_by(snapshot, RouteSource::Rds(RouteTableId(3)))
}

/// Gives the only connection manager other routes; returns the table that it had.
fn routed_by(snapshot: &mut Snapshot, routes: RouteSource) -> Option<Arc<RouteConfiguration>> {
    let mut listener = Listener::clone(&snapshot.listeners[0]);
    let mut chain = FilterChain::clone(&listener.filter_chains[0]);
    let NetworkFilter::HttpConnectionManager(manager) = &chain.filters[0] else { return None };
    let mut manager = (**manager).clone();
    let before = std::mem::replace(&mut manager.routes, routes);
    chain.filters = vec![NetworkFilter::HttpConnectionManager(Arc::new(manager))];
    listener.filter_chains = vec![Arc::new(chain)];
    snapshot.listeners = vec![Arc::new(listener)];
    before.inline().cloned()
}

#[test]
fn scopes_and_their_tables_come_and_go_under_open_connections() {
    let (scopes, rds) = (ScopeTableId(1), RouteTableId(3));
    let host =
        KeyFragment { header: b"host"[..].into(), separator: b""[..].into(), extract: Extract::Index(0) };
    let scoped = ScopedRoutes { name: "s".into(), key: vec![host], scopes: ScopeSource::Srds(scopes) };
    let mut table = None;
    let mut bed = Bed::new(Mode::Http, 1, |snapshot| {
        table = routed_by(snapshot, RouteSource::Scoped(Arc::new(scoped)))
    });
    let with_key = |key: &str, routes| {
        let scope = Scope { name: "a".into(), key: vec![key.as_bytes().into()], routes };
        let table = Arc::new(ScopeTable::new(vec![Arc::new(scope)]));
        Update { scope_tables: vec![(scopes, Some(table))], ..Update::default() }
    };
    let routes = |table| Update { route_tables: vec![(rds, table)], ..Update::default() };
    let peer = bed.connect();
    let ask = |bed: &mut Bed| is_kept_open(&bed.ask(peer, REQUEST));
    assert!(!ask(&mut bed), "no scopes");
    bed.update(with_key("a.test", ScopeRoutes::Rds(rds)));
    assert!(!ask(&mut bed), "no table");
    bed.update(routes(table.clone()));
    assert!(ask(&mut bed) && ask(&mut bed));
    bed.update(with_key("other", ScopeRoutes::Rds(rds)));
    assert!(!ask(&mut bed), "another key");
    bed.update(with_key("a.test", ScopeRoutes::Rds(rds)));
    assert!(ask(&mut bed));
    bed.update(routes(None));
    assert!(!ask(&mut bed), "the table is gone");
    bed.update(with_key("a.test", ScopeRoutes::Inline(table.clone().expect("a table"))));
    assert!(ask(&mut bed));
    bed.update(Update { scope_tables: vec![(scopes, None)], ..Update::default() });
    assert!(!ask(&mut bed), "the scopes are gone");
    bed.net.close(peer);
    bed.asserts_nothing_left();
}

#[test]
fn a_route_table_comes_and_goes_under_open_connections() {
    let mut table = None;
    let mut bed = Bed::new(Mode::Http, 1, |snapshot| table = over_rds(snapshot));
    let routes =
        |table| Update { version: 2, route_tables: vec![(RouteTableId(3), table)], ..Update::default() };
    let peer = bed.connect();
    assert!(bed.ask(peer, REQUEST).starts_with("HTTP/1.1 404"));
    bed.update(routes(table.clone()));
    assert!(is_kept_open(&bed.ask(peer, REQUEST)));
    assert_eq!(bed.shared.applied_version(), bed.snapshot.version);
    // The chain stays, in a listener that is another one otherwise: it still follows its table.
    let listener = bed.listener();
    bed.change_listener(ListenerChange::Replace(changed(&listener, true), DRAIN));
    let young = bed.connect();
    bed.update(routes(None));
    assert!(bed.ask(peer, REQUEST).starts_with("HTTP/1.1 404"));
    assert!(bed.ask(young, REQUEST).starts_with("HTTP/1.1 404"));
    bed.update(routes(table));
    assert!(is_kept_open(&bed.ask(peer, REQUEST)) && is_kept_open(&bed.ask(young, REQUEST)));
    [peer, young].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}

#[test]
fn a_request_of_a_removed_cluster_ends_and_the_next_finds_none() {
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    let peer = bed.connect();
    bed.silent = true;
    assert_eq!(bed.ask(peer, REQUEST), "");
    let cluster: Option<Arc<Cluster>> = bed.snapshot.cluster(ClusterId(0)).cloned();
    bed.update(Update { clusters: vec![(ClusterId(0), None)], ..Update::default() });
    assert!(bed.shared.is_cluster_in_use(ClusterId(0)));
    bed.silent = false;
    bed.run(SOON);
    assert!(is_kept_open(&bed.read(peer)));
    assert!(bed.ask(peer, REQUEST).starts_with("HTTP/1.1 503"));
    bed.run(Duration::from_secs(2));
    assert!(!bed.shared.is_cluster_in_use(ClusterId(0)));
    bed.update(Update { clusters: vec![(ClusterId(0), cluster)], ..Update::default() });
    assert!(is_kept_open(&bed.ask(peer, REQUEST)));
    bed.net.close(peer);
    bed.asserts_nothing_left();
}
