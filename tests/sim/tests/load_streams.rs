//! Streams of load reports on the simulated network, one step after the other: how often an endpoint is asked again, and what
//! is left of streams that never came to be. `features.rs` has everything at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{ClientSideWeights, Cluster, ClusterId, LbPolicy, LoadStream, Snapshot, Update};
use millrace_ring::SocketAddress;
use millrace_ring::sim::PeerListener;
use millrace_sim::bed::{Bed, SOON};
use millrace_sim::fixture::Mode;

const ID: ClusterId = ClusterId(0);
const PORT: u16 = 9900;
const PERIOD: Duration = Duration::from_millis(100);

fn asks(snapshot: &mut Snapshot) {
    let mut cluster = Cluster::clone(snapshot.cluster(ID).expect("the cluster"));
    cluster.lb_policy = LbPolicy::ClientSideWeightedRoundRobin(ClientSideWeights {
        blackout: Duration::ZERO,
        expiration: PERIOD * 10,
        update: PERIOD,
        error_penalty: 0.0,
    });
    let stream = LoadStream { period: PERIOD, port: PORT, authority: "".into(), transport_match: None };
    cluster.balancing.load_stream = Some(Arc::new(stream));
    snapshot.clusters = vec![Some(Arc::new(cluster))];
}

fn listen(bed: &Bed) -> PeerListener {
    let address = SocketAddr::from(([10, 0, 1, 1], PORT));
    bed.net.listen_peer(SocketAddress::Inet(address)).expect("a free address")
}

/// Lets time pass; tells how often the endpoint was asked, which hangs up at once if `hangs_up`.
fn asked(bed: &mut Bed, listener: PeerListener, time: Duration, hangs_up: bool) -> usize {
    let end = bed.net.now() + time;
    let mut asked = 0;
    while bed.net.now() < end {
        bed.run(SOON);
        while let Some(peer) = bed.net.accept(listener) {
            asked += 1;
            match hangs_up {
                true => bed.net.close(peer),
                false => bed.servers.push(peer),
            }
        }
    }
    asked
}

#[test]
fn an_endpoint_that_never_reports_is_asked_ever_more_rarely() {
    let mut bed = Bed::new(Mode::Http, 1, asks);
    let listener = listen(&bed);
    let first = asked(&mut bed, listener, Duration::from_secs(4), true);
    assert!((2..=8).contains(&first), "{first} times");
    asked(&mut bed, listener, Duration::from_secs(20), true);
    let later = asked(&mut bed, listener, Duration::from_secs(60), true);
    assert!((2..=8).contains(&later), "{later} times a minute, up to 30 s apart");
    bed.update(Update { clusters: vec![(ID, None)], ..Update::default() });
    bed.asserts_nothing_left();
}

#[test]
fn a_connection_that_says_nothing_is_given_up_and_closed() {
    let mut bed = Bed::new(Mode::Http, 2, asks);
    bed.silent = true;
    let listener = listen(&bed);
    // Before anybody listened a connect may have failed.
    let came = (0..100).find(|_| asked(&mut bed, listener, SOON, false) > 0);
    assert_eq!((came.is_some(), bed.servers.len()), (true, 1), "one shard of two asks");
    let peer = *bed.servers.last().expect("a connection");
    bed.run(PERIOD * 3);
    assert!(bed.read(peer).starts_with("PRI * HTTP/2.0"));
    bed.run(SOON);
    assert_eq!(bed.read(peer), "FIN");
    bed.update(Update { clusters: vec![(ID, None)], ..Update::default() });
    bed.asserts_nothing_left();
}

#[test]
fn an_endpoint_that_is_gone_is_asked_no_more() {
    let mut bed = Bed::new(Mode::Http, 1, asks);
    // Nobody listens yet: connects are refused, and come again.
    bed.run(Duration::from_secs(1));
    let listener = listen(&bed);
    bed.update(Update { clusters: vec![(ID, None)], ..Update::default() });
    assert_eq!(asked(&mut bed, listener, Duration::from_secs(10), true), 0);
    assert!(!bed.shared.is_cluster_in_use(ID));
    bed.asserts_nothing_left();
}
