//! Peak-EWMA on the simulated network: one of three endpoints becomes slow, and gets requests again once it is cured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Address, Cluster, ClusterId, Endpoint, LbPolicy, PeakEwma, ScopeId, Snapshot};
use millrace_ring::SocketAddress;
use millrace_ring::sim::{Peer, PeerListener, PeerRead};
use millrace_sim::bed::Bed;
use millrace_sim::fixture::Mode;

const ID: ClusterId = ClusterId(0);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const STEP: Duration = Duration::from_millis(1);

/// An endpoint that takes its time.
struct Slow {
    listener: PeerListener,
    open: Vec<Peer>,
    due: Vec<(Time, Peer)>,
    delay: Duration,
    requests: usize,
}

impl Slow {
    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 2, number], 9000))
    }

    fn new(bed: &Bed, number: u8) -> Self {
        let address = SocketAddress::Inet(Self::address(number));
        let listener = bed.net.listen_peer(address).expect("a free address");
        Self { listener, open: Vec::new(), due: Vec::new(), delay: STEP, requests: 0 }
    }

    fn serve(&mut self, bed: &Bed) {
        let now = bed.net.now();
        while let Some(peer) = bed.net.accept(self.listener) {
            self.open.push(peer);
        }
        for peer in &self.open {
            if let PeerRead::Bytes(_) = bed.net.read(*peer, usize::MAX) {
                self.requests += 1;
                self.due.push((now + self.delay, *peer));
            }
        }
        for (_, peer) in self.due.extract_if(.., |(at, _)| *at <= now) {
            bed.net.write(peer, ANSWER).expect("the shard is there");
        }
    }
}

fn three(snapshot: &mut Snapshot) {
    let mut cluster = Cluster::clone(snapshot.cluster(ID).expect("the cluster"));
    let decay = Duration::from_millis(500);
    cluster.lb_policy = LbPolicy::PeakEwma(PeakEwma { decay, ..PeakEwma::default() });
    let first = cluster.localities[0].endpoints[0].clone();
    cluster.localities[0].endpoints = (0..3)
        .map(|number| Endpoint {
            address: Address::Inet(Slow::address(number)),
            scope: ScopeId(first.scope.0),
            ..first.clone()
        })
        .collect();
    snapshot.clusters = vec![Some(Arc::new(cluster))];
}

/// Requests of each endpoint while `clients` ask as fast as they are answered.
fn ask(bed: &mut Bed, endpoints: &mut [Slow; 3], clients: &[Peer], time: Duration) -> [usize; 3] {
    let before = endpoints.each_ref().map(|endpoint| endpoint.requests);
    let end = bed.net.now() + time;
    while bed.net.now() < end {
        for client in clients {
            if !bed.read(*client).is_empty() {
                bed.net.write(*client, REQUEST).expect("an open connection");
            }
        }
        bed.run(STEP);
        endpoints.iter_mut().for_each(|endpoint| endpoint.serve(bed));
    }
    let after = endpoints.each_ref().map(|endpoint| endpoint.requests);
    std::array::from_fn(|at| after[at] - before[at])
}

#[test]
fn a_slow_endpoint_is_left_alone_until_it_is_cured() {
    let mut bed = Bed::new(Mode::Http, 1, three);
    let mut endpoints: [Slow; 3] = std::array::from_fn(|number| Slow::new(&bed, number as u8));
    let clients: Vec<Peer> = (0..6).map(|_| bed.connect()).collect();
    for client in &clients {
        bed.net.write(*client, REQUEST).expect("an open connection");
    }
    let even = ask(&mut bed, &mut endpoints, &clients, Duration::from_secs(2));
    let all: usize = even.iter().sum();
    assert!(even.iter().all(|n| *n > all / 5), "{even:?}");

    endpoints[2].delay = Duration::from_millis(300);
    ask(&mut bed, &mut endpoints, &clients, Duration::from_millis(300));
    let uneven = ask(&mut bed, &mut endpoints, &clients, Duration::from_secs(3));
    assert!(uneven[2] * 50 < uneven[0] + uneven[1], "{uneven:?}");

    endpoints[2].delay = STEP;
    ask(&mut bed, &mut endpoints, &clients, Duration::from_secs(4));
    let cured = ask(&mut bed, &mut endpoints, &clients, Duration::from_secs(2));
    assert!(cured[2] * 5 > cured.iter().sum::<usize>(), "{cured:?}");

    clients.into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}
