//! Differences of counters, whatever comes and goes between two reports.

use std::cell::RefCell;
use std::collections::HashMap;

use millrace_config::{
    CircuitBreakers, DropOverload, Endpoint, HealthStatus, LbPolicy, SourceId, UpstreamHttp,
};

use millrace_proto::pb::envoy::config::endpoint::v3::EndpointLoadMetricStats;
use millrace_upstream::MetricSum;

use super::super::report::cluster_stats;
use super::*;

/// Counters that a test sets.
#[derive(Default)]
struct Fake {
    hosts: RefCell<HashMap<ScopeId, (Counts, u64)>>,
    dropped: RefCell<HashMap<ScopeId, Dropped>>,
}

impl Fake {
    /// Requests begin at an endpoint.
    fn begin(&self, scope: u32, n: u64) {
        let mut hosts = self.hosts.borrow_mut();
        let (counts, active) = hosts.entry(ScopeId(scope)).or_default();
        counts.issued += n;
        *active += n;
    }

    /// Requests end.
    fn end(&self, scope: u32, success: u64, error: u64) {
        let mut hosts = self.hosts.borrow_mut();
        let (counts, active) = hosts.entry(ScopeId(scope)).or_default();
        counts.success += success;
        counts.error += error;
        *active -= success + error;
    }
}

impl Counters for Fake {
    fn host(&self, scope: ScopeId) -> (Counts, u64) {
        self.hosts.borrow().get(&scope).copied().unwrap_or_default()
    }

    fn dropped(&self, scope: ScopeId) -> Dropped {
        self.dropped.borrow().get(&scope).copied().unwrap_or_default()
    }
}

/// A cluster with its endpoints as (zone, priority, scope).
fn cluster(id: u32, name: &str, endpoints: &[(&str, u32, u32)]) -> Arc<Cluster> {
    let locality = |(zone, priority, scope): &(&str, u32, u32)| LocalityEndpoints {
        locality: ("".into(), (*zone).into(), "".into()),
        priority: *priority,
        weight: 1,
        endpoints: vec![Endpoint {
            address: Address::Inet(([10, 0, 0, 1], 8000 + (*scope % 1000) as u16).into()),
            hostname: "".into(),
            weight: 1,
            health: HealthStatus::Unknown,
            scope: ScopeId(*scope),
            transport_metadata: None,
            lb_metadata: None,
            additional_addresses: None,
            health_check: None,
            leaving: false,
        }],
    };
    Arc::new(Cluster {
        name: name.into(),
        id: ClusterId(id),
        scope: ScopeId(1_000_000 + id),
        stat_name: name.into(),
        discovery: ClusterDiscovery::Eds {
            service_name: "service".into(),
            source: SourceId(0),
            initial_fetch_timeout: None,
        },
        localities: endpoints.iter().map(locality).collect(),
        endpoints_version: 0,
        lb_policy: LbPolicy::RoundRobin,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        balancing: millrace_config::Balancing::default(),
        connect_timeout: Duration::from_secs(5),
        circuit_breakers: CircuitBreakers::default(),
        outlier_detection: None,
        buffer_limit_bytes: 1 << 20,
        tcp_keepalive: None,
        bind: None,
        happy_eyeballs: millrace_config::HappyEyeballs::default(),
        health_check: None,
        close_on_health_failure: false,
        close_on_host_set_change: false,
        pool_per_downstream: false,
        http: UpstreamHttp::default(),
        transport: millrace_config::UpstreamTransport::default(),
        transport_matches: Vec::new(),
        tracked: None,
        istio_alpn_override: true,
        drop_overload: None,
        load_metrics: Box::default(),
    })
}

/// Endpoints that report nothing of themselves.
fn silent(_: ClusterId) -> BTreeMap<ScopeId, LoadMetrics> {
    BTreeMap::new()
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn update(id: u32, cluster: Option<&Arc<Cluster>>) -> Update {
    Update { clusters: vec![(ClusterId(id), cluster.cloned())], ..Update::default() }
}

/// What a report says: cluster, zone, priority, issued, success, error and in progress.
fn report(tally: &mut Tally, counters: &Fake, now: Time) -> Vec<(String, String, u32, u64, u64, u64, u64)> {
    let mut out = Vec::new();
    for stats in tally.read(counters, &silent).map(|load| cluster_stats(load, true, now)) {
        for l in stats.upstream_locality_stats {
            let endpoints = &l.upstream_endpoint_stats;
            assert!(
                endpoints.iter().map(|e| e.total_issued_requests).sum::<u64>() <= l.total_issued_requests
            );
            out.push((
                stats.cluster_name.clone(),
                l.locality.unwrap().zone,
                l.priority,
                l.total_issued_requests,
                l.total_successful_requests,
                l.total_error_requests,
                l.total_requests_in_progress,
            ));
        }
    }
    out
}

fn row(zone: &str, priority: u32, numbers: [u64; 4]) -> (String, String, u32, u64, u64, u64, u64) {
    let [issued, success, error, active] = numbers;
    ("c".to_owned(), zone.to_owned(), priority, issued, success, error, active)
}

fn counting(cluster: &Arc<Cluster>, counters: &Fake) -> Tally {
    let mut tally = Tally::default();
    tally.collect(Clusters::All, std::iter::once(cluster), counters, at(0));
    tally
}

#[test]
fn only_what_came_since_the_last_report_that_was_taken() {
    let (c, counters) = (cluster(0, "c", &[("a", 0, 1), ("a", 0, 2), ("b", 1, 3)]), Fake::default());
    counters.begin(1, 7);
    let mut tally = counting(&c, &counters);
    assert_eq!(report(&mut tally, &counters, at(1)), [row("a", 0, [0, 0, 0, 7])]);
    counters.end(1, 4, 3);
    counters.begin(2, 1);
    counters.begin(3, 2);
    counters.end(3, 0, 1);
    let expected = [row("a", 0, [1, 4, 3, 1]), row("b", 1, [2, 0, 1, 1])];
    assert_eq!(report(&mut tally, &counters, at(1)), expected);
    // It was not taken.
    counters.begin(3, 1);
    assert_eq!(report(&mut tally, &counters, at(2))[1], row("b", 1, [3, 0, 1, 2]));
    tally.restart(at(2));
    assert_eq!(report(&mut tally, &counters, at(3)), [row("a", 0, [0, 0, 0, 1]), row("b", 1, [0, 0, 0, 2])]);
}

#[test]
fn the_interval_the_service_and_the_dropped_requests_of_a_cluster() {
    let (c, counters) = (cluster(0, "c", &[("a", 0, 1)]), Fake::default());
    let drops = Some(Box::new(DropOverload { category: "throttle".into(), per_million: 1 }));
    let c = Arc::new(Cluster { drop_overload: drops, ..Cluster::clone(&c) });
    let dropped = |overflow, on_purpose| Dropped { overflow, on_purpose };
    counters.dropped.borrow_mut().insert(c.scope, dropped(5, 3));
    let mut tally = counting(&c, &counters);
    counters.dropped.borrow_mut().insert(c.scope, dropped(6, 5));
    counters.begin(1, 1);
    let stats = cluster_stats(tally.read(&counters, &silent).next().unwrap(), false, at(3));
    assert_eq!((&*stats.cluster_service_name, stats.total_dropped_requests), ("service", 3));
    let categories = stats.dropped_requests.iter().map(|d| (&*d.category, d.dropped_count));
    assert_eq!(categories.collect::<Vec<_>>(), [("throttle", 2)]);
    assert_eq!(stats.load_report_interval.as_ref().map(|d| (d.seconds, d.nanos)), Some((3, 0)));
    assert!(stats.upstream_locality_stats[0].upstream_endpoint_stats.is_empty());
    tally.restart(at(3));
    let stats = cluster_stats(tally.read(&counters, &silent).next().unwrap(), true, at(4));
    assert_eq!((stats.total_dropped_requests, stats.dropped_requests.len()), (0, 0));
    assert_eq!(stats.load_report_interval.unwrap().seconds, 1);
    let endpoint = &stats.upstream_locality_stats[0].upstream_endpoint_stats[0];
    assert_eq!(endpoint.total_requests_in_progress, 1);
    assert_eq!(endpoint.address, Some(super::super::report::address(&c.localities[0].endpoints[0].address)));
}

#[test]
fn endpoints_that_left_are_reported_until_their_requests_end() {
    let counters = Fake::default();
    let mut tally = counting(&cluster(0, "c", &[("a", 0, 1), ("a", 0, 2)]), &counters);
    counters.begin(1, 2);
    counters.end(1, 1, 0);
    let smaller = cluster(0, "c", &[("a", 0, 2)]);
    tally.update(&update(0, Some(&smaller)), &counters, at(1));
    assert_eq!(report(&mut tally, &counters, at(2)), [row("a", 0, [2, 1, 0, 1])]);
    tally.restart(at(2));
    counters.end(1, 0, 1);
    assert_eq!(report(&mut tally, &counters, at(3)), [row("a", 0, [0, 0, 1, 0])]);
    tally.restart(at(3));
    assert_eq!(report(&mut tally, &counters, at(4)), []);
    tally.restart(at(4));
    assert_eq!(tally.loads[&ClusterId(0)].hosts.len(), 1);
}

#[test]
fn an_endpoint_that_comes_and_goes_within_an_interval_counts() {
    let counters = Fake::default();
    let mut tally = counting(&cluster(0, "c", &[]), &counters);
    tally.update(&update(0, Some(&cluster(0, "c", &[("a", 0, 9)]))), &counters, at(1));
    counters.begin(9, 1);
    counters.end(9, 1, 0);
    tally.update(&update(0, Some(&cluster(0, "c", &[]))), &counters, at(1));
    assert_eq!(report(&mut tally, &counters, at(2)), [row("a", 0, [1, 1, 0, 0])]);
}

#[test]
fn a_scope_that_others_may_get_is_let_go_of() {
    let counters = Fake::default();
    let mut tally = counting(&cluster(0, "c", &[("a", 0, 1)]), &counters);
    counters.begin(1, 2);
    tally.update(&update(0, Some(&cluster(0, "c", &[]))), &counters, at(1));
    counters.end(1, 1, 0);
    tally.let_go(&counters, at(300));
    assert_eq!(tally.loads[&ClusterId(0)].hosts.len(), 1);
    tally.let_go(&counters, at(301));
    // Somebody else counts there now.
    counters.begin(1, 100);
    assert_eq!(report(&mut tally, &counters, at(700)), [row("a", 0, [2, 1, 0, 0])]);
    tally.restart(at(700));
    assert_eq!(report(&mut tally, &counters, at(701)), []);
}

#[test]
fn a_removed_cluster_is_reported_once_more() {
    let (c, counters) = (cluster(0, "c", &[("a", 0, 1)]), Fake::default());
    let mut tally = counting(&c, &counters);
    counters.begin(1, 1);
    counters.end(1, 0, 1);
    tally.update(&update(0, None), &counters, at(1));
    assert_eq!(report(&mut tally, &counters, at(2)), [row("a", 0, [1, 0, 1, 0])]);
    tally.restart(at(2));
    assert!(tally.loads.is_empty());
    tally.update(&update(0, Some(&c)), &counters, at(3));
    assert_eq!(tally.loads.len(), 1);
}

#[test]
fn named_clusters_only_and_counting_goes_on_when_they_are_named_again() {
    let (a, b) = (cluster(0, "a", &[("z", 0, 1)]), cluster(1, "b", &[("z", 0, 2)]));
    let (counters, mut tally) = (Fake::default(), Tally::default());
    let both = [a.clone(), b.clone()];
    tally.update(&update(0, Some(&a)), &counters, at(0));
    assert!(tally.loads.is_empty(), "nobody has asked");
    let named = |name: &str| Clusters::Named(vec![name.to_owned()]);
    tally.collect(named("a"), both.iter(), &counters, at(0));
    counters.begin(1, 1);
    counters.begin(2, 1);
    tally.collect(named("a"), both.iter(), &counters, at(1));
    let names = |tally: &mut Tally| -> Vec<_> {
        report(tally, &counters, at(2)).into_iter().map(|r| (r.0, r.3)).collect()
    };
    assert_eq!(names(&mut tally), [("a".to_owned(), 1)]);
    tally.collect(named("b"), both.iter(), &counters, at(2));
    assert_eq!(names(&mut tally), [("b".to_owned(), 0)]);
    tally.collect(Clusters::All, both.iter(), &counters, at(2));
    assert_eq!(tally.loads.len(), 2);
}

#[test]
fn churn_without_reports_keeps_a_bounded_number_of_things_and_every_request() {
    let counters = Fake::default();
    let mut tally = counting(&cluster(0, "c", &[]), &counters);
    let rounds = 3000;
    for n in 0..rounds {
        let zone = format!("z{n}");
        tally.update(&update(0, Some(&cluster(0, "c", &[(&zone, 0, n)]))), &counters, at(1));
        counters.begin(n, 1);
        counters.end(n, 1, 0);
        tally.update(&update(0, Some(&cluster(0, "c", &[]))), &counters, at(1));
    }
    let load = &tally.loads[&ClusterId(0)];
    assert_eq!((load.hosts.len(), load.sums.len()), (LEFT_MAX, PLACES_MAX + 1));
    let issued: u64 = report(&mut tally, &counters, at(2)).iter().map(|row| row.3).sum();
    assert_eq!(issued, u64::from(rounds));
    for n in 1..2000 {
        let name = format!("c{n}");
        tally.update(&update(n, Some(&cluster(n, &name, &[("z", 0, n)]))), &counters, at(n.into()));
        tally.update(&update(n, None), &counters, at(n.into()));
    }
    assert_eq!(tally.loads.len(), REMOVED_MAX + 1);
    assert!(tally.loads.contains_key(&ClusterId(1999)) && !tally.loads.contains_key(&ClusterId(1)));
}

#[test]
fn metrics_that_endpoints_report_of_themselves() {
    let (c, counters) = (cluster(0, "c", &[("a", 0, 1), ("a", 0, 2), ("b", 0, 3)]), Fake::default());
    let sum = |responses, total| MetricSum { responses, total };
    let of = |list: &[(&str, MetricSum)]| list.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect();
    let said = |_| {
        BTreeMap::from([
            (ScopeId(1), of(&[("cpu_utilization", sum(2, 1.5))])),
            (ScopeId(2), of(&[("cpu_utilization", sum(1, 0.5)), ("named_metrics.q", sum(1, 7.0))])),
            // It is of no endpoint that is counted for.
            (ScopeId(9), of(&[("cpu_utilization", sum(1, 1.0))])),
        ])
    };
    let mut tally = counting(&c, &counters);
    let stats = |load: &Load| cluster_stats(load, true, at(1)).upstream_locality_stats;
    let flat = |stats: &[EndpointLoadMetricStats]| -> Vec<(String, u64, f64)> {
        let one = |stat: &EndpointLoadMetricStats| {
            (stat.metric_name.clone(), stat.num_requests_finished_with_metric, stat.total_metric_value)
        };
        stats.iter().map(one).collect()
    };
    let first = stats(tally.read(&counters, &said).next().unwrap());
    let (cpu, q) = ("cpu_utilization".to_owned(), "named_metrics.q".to_owned());
    assert_eq!(first.len(), 1, "nothing is known of b");
    assert_eq!(flat(&first[0].load_metric_stats), [(cpu.clone(), 3, 2.0), (q.clone(), 1, 7.0)]);
    let ends = &first[0].upstream_endpoint_stats;
    assert_eq!(ends.iter().map(|e| e.load_metric_stats.len()).collect::<Vec<_>>(), [1, 2]);
    // The report was not taken: what comes is added. Then it was.
    let second = stats(tally.read(&counters, &said).next().unwrap());
    assert_eq!(flat(&second[0].load_metric_stats), [(cpu, 6, 4.0), (q, 2, 14.0)]);
    tally.restart(at(2));
    assert!(stats(tally.read(&counters, &silent).next().unwrap()).is_empty());
}
