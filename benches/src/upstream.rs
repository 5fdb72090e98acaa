//! The choice of an endpoint, and its connections.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, Rng, Time};
use millrace_config::{
    Address, Balancing, CircuitBreakers, Cluster, ClusterDiscovery, ClusterId, Endpoint, EndpointChanges,
    HappyEyeballs, HashFunction, HealthStatus, LbPolicy, LeastRequest, LocalityEndpoints, Maglev, PeakEwma,
    RingHash, ScopeId, UpstreamHttp,
};
use millrace_upstream::{
    Acquire, ChooseContext, ClusterShared, ClusterState, ConnId, HostId, HttpProtocol, PoolAction,
    ResourcePriority, TransportKey, TryResult,
};

use crate::{Bench, Routine, repeat};

const LEAST: LbPolicy =
    LbPolicy::LeastRequest(LeastRequest { choice_count: 2, active_request_bias: 1.0, full_scan: false });

const RING: LbPolicy = LbPolicy::RingHash(RingHash {
    minimum_ring_size: 1_000_000,
    maximum_ring_size: RingHash::SIZE_MAX,
    hash_function: HashFunction::XxHash,
});
const SMALL_RING: LbPolicy = LbPolicy::RingHash(RingHash {
    minimum_ring_size: 1024,
    maximum_ring_size: RingHash::SIZE_MAX,
    hash_function: HashFunction::XxHash,
});
const MAGLEV: LbPolicy = LbPolicy::Maglev(Maglev { table_size: 65_537 });

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new("upstream/round_robin_10", "round robin over 10 endpoints", || pick(LbPolicy::RoundRobin, 10)),
    Bench::new("upstream/round_robin_10000", "round robin over 10,000 endpoints", || {
        pick(LbPolicy::RoundRobin, 10_000)
    }),
    Bench::new("upstream/random_10", "random over 10 endpoints", || pick(LbPolicy::Random, 10)),
    Bench::new("upstream/random_10000", "random over 10,000 endpoints", || pick(LbPolicy::Random, 10_000)),
    Bench::new("upstream/least_request_10", "least request (2 choices) over 10 endpoints", || {
        pick(LEAST, 10)
    }),
    Bench::new("upstream/least_request_10000", "least request (2 choices) over 10,000 endpoints", || {
        pick(LEAST, 10_000)
    }),
    Bench::new(
        "upstream/peak_ewma_10000",
        "peak-EWMA over 10,000 endpoints that have all answered, 10 us between choices",
        || pick_by_time(10_000),
    ),
    Bench::new("upstream/ring_hash_10000", "ring hash over 10,000 endpoints, a million positions", || {
        pick_hashed(RING, 10_000)
    }),
    Bench::new("upstream/maglev_10000", "Maglev over 10,000 endpoints", || pick_hashed(MAGLEV, 10_000)),
    Bench::new("upstream/change_10000", "one of 10,000 endpoints comes or goes, least request", || {
        change(LEAST, 10_000)
    }),
    Bench::new("upstream/change_ring_10000", "the same with a ring hash, a ring of 10,000 positions", || {
        change(SMALL_RING, 10_000)
    }),
    Bench::new("upstream/change_maglev_10000", "the same with Maglev", || change(MAGLEV, 10_000)),
    Bench::new(
        "upstream/rebuild_10000",
        "10,000 endpoints are compared with as many, least request; one comes or goes",
        || rebuild(LEAST, 10_000),
    ),
    Bench::new("upstream/pool", "take an idle connection of one endpoint and give it back", pool),
    Bench::new("upstream/http2_pool", "begin and end a stream on the connection of one endpoint", http2_pool),
];

fn cluster(policy: LbPolicy, endpoints: u32) -> Cluster {
    let endpoint = |number: u32| Endpoint {
        address: Address::Inet(([10, 0, (number >> 8) as u8, number as u8], 80).into()),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Healthy,
        scope: ScopeId(number),
        transport_metadata: None,
        lb_metadata: None,
        additional_addresses: None,
        health_check: None,
        leaving: false,
    };
    let localities =
        vec![LocalityEndpoints { endpoints: (0..endpoints).map(endpoint).collect(), ..Default::default() }];
    Cluster {
        pool_per_downstream: false,
        name: "service".into(),
        id: ClusterId(0),
        scope: ScopeId(0),
        stat_name: "service".into(),
        discovery: ClusterDiscovery::Static,
        localities,
        endpoints_version: 0,
        lb_policy: policy,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        balancing: Balancing::default(),
        connect_timeout: Duration::from_secs(5),
        circuit_breakers: CircuitBreakers::default(),
        outlier_detection: None,
        buffer_limit_bytes: 1024 * 1024,
        tcp_keepalive: None,
        bind: None,
        happy_eyeballs: HappyEyeballs::default(),
        health_check: None,
        close_on_health_failure: false,
        close_on_host_set_change: false,
        http: UpstreamHttp::default(),
        transport: millrace_config::UpstreamTransport::default(),
        transport_matches: Vec::new(),
        tracked: None,
        istio_alpn_override: true,
        drop_overload: None,
        load_metrics: Box::default(),
    }
}

fn state(policy: LbPolicy, endpoints: u32) -> ClusterState {
    ClusterState::new(&Arc::new(cluster(policy, endpoints)), Arc::new(ClusterShared::default()), 1)
}

fn pick(policy: LbPolicy, endpoints: u32) -> Routine {
    let (mut state, mut rng) = (state(policy, endpoints), Rng::new(1));
    repeat(move || {
        black_box(state.choose_host(black_box(&mut rng), &ChooseContext::default()))
            .expect("healthy endpoints");
    })
}

fn pick_hashed(policy: LbPolicy, endpoints: u32) -> Routine {
    let (mut state, mut rng) = (state(policy, endpoints), Rng::new(1));
    // The table is built at the first choice.
    let _ = state.choose_host(&mut rng, &ChooseContext::default());
    let mut hash = 1u64;
    repeat(move || {
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        let context = ChooseContext { hash: Some(black_box(hash)), ..ChooseContext::default() };
        black_box(state.choose_host(black_box(&mut rng), &context)).expect("healthy endpoints");
    })
}

fn pick_by_time(endpoints: u32) -> Routine {
    let mut state = state(LbPolicy::PeakEwma(PeakEwma::default()), endpoints);
    let hosts: Vec<HostId> = state.hosts().map(|(id, _)| id).collect();
    let (mut rng, mut now) = (Rng::new(1), 1_000_000_000);
    for host in hosts {
        state.time_try(host, TryResult::Status(200), Duration::from_micros(rng.below(50_000)), Time(now));
    }
    repeat(move || {
        now += 10_000;
        let context = ChooseContext { now: Time(now), ..ChooseContext::default() };
        black_box(state.choose_host(black_box(&mut rng), &context)).expect("healthy endpoints");
    })
}

/// An update with one endpoint less or more, told as the control thread tells it, and the choice after it.
fn change(policy: LbPolicy, endpoints: u32) -> Routine {
    let mut fewer = cluster(policy, endpoints);
    let (all, gone) = (Arc::new(cluster(policy, endpoints)), endpoints as usize / 2);
    fewer.localities[0].endpoints.remove(gone);
    let fewer = Arc::new(fewer);
    let told = |old, new| EndpointChanges::between(old, new).expect("one endpoint");
    let (less, more) = (told(&all, &fewer), told(&fewer, &all));
    let mut state = ClusterState::new(&all, Arc::new(ClusterShared::default()), 1);
    let (mut rng, mut out, mut turn) = (Rng::new(1), Vec::new(), false);
    let _ = state.choose_host(&mut rng, &ChooseContext::default());
    repeat(move || {
        turn = !turn;
        let (next, changes) = if turn { (&fewer, &less) } else { (&all, &more) };
        state.update_by(next, Some(changes), &mut out);
        black_box(state.choose_host(&mut rng, &ChooseContext::default())).expect("healthy endpoints");
        out.clear();
    })
}

/// An update whose endpoints have to be compared one by one, and the choice after it.
fn rebuild(policy: LbPolicy, endpoints: u32) -> Routine {
    let (all, fewer) = (Arc::new(cluster(policy, endpoints)), Arc::new(cluster(policy, endpoints - 1)));
    let (mut state, mut rng, mut out) = (state(policy, endpoints), Rng::new(1), Vec::new());
    let mut turn = false;
    repeat(move || {
        turn = !turn;
        state.update(if turn { &fewer } else { &all }, &mut out);
        black_box(state.choose_host(&mut rng, &ChooseContext::default())).expect("healthy endpoints");
        out.clear();
    })
}

/// An established connection to one endpoint that carries nothing, with its pool.
fn connected(protocol: HttpProtocol) -> (ClusterState, HostId, ConnId) {
    let mut state = state(LbPolicy::RoundRobin, 1);
    let (key, mut out) = (Key { slot: 1, generation: 0 }, Vec::new());
    let host = state.hosts().map(|(id, _)| id).next().expect("one endpoint");
    let waits =
        state.acquire(host, ResourcePriority::Default, protocol, TransportKey::DEFAULT, key, &mut out);
    assert!(matches!(waits, Acquire::Queued(_)));
    let opened = out.iter().find_map(|action| match action {
        PoolAction::Connect { conn, .. } => Some(*conn),
        _ => None,
    });
    let conn = opened.expect("a connection is opened");
    state.bind(conn, key);
    state.connected(conn, Time(1), &mut out);
    (state, host, conn)
}

fn pool() -> Routine {
    let (mut state, host, conn) = connected(HttpProtocol::Http1);
    let (key, priority, mut out) = (Key { slot: 1, generation: 0 }, ResourcePriority::Default, Vec::new());
    state.released(conn, true, Time(2), &mut out);
    let mut now = 2;
    repeat(move || {
        now += 1;
        out.clear();
        match state.acquire(host, priority, HttpProtocol::Http1, TransportKey::DEFAULT, key, &mut out) {
            Acquire::Reuse { id, .. } => state.released(id, true, Time(now), &mut out),
            other => unreachable!("{other:?}"),
        }
        black_box(&out);
    })
}

/// Beside one stream that goes on, as on a connection that many share.
fn http2_pool() -> Routine {
    let (mut state, host, _) = connected(HttpProtocol::Http2);
    let (key, priority, mut out) = (Key { slot: 1, generation: 0 }, ResourcePriority::Default, Vec::new());
    let mut now = 2;
    repeat(move || {
        now += 1;
        out.clear();
        match state.acquire(host, priority, HttpProtocol::Http2, TransportKey::DEFAULT, key, &mut out) {
            Acquire::Reuse { id, .. } => state.stream_ended(id, Time(now), &mut out),
            other => unreachable!("{other:?}"),
        }
        black_box(&out);
    })
}
