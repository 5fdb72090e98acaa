//! The lists that Istio sends, by what the cluster speaks.

use millrace_config::{
    CircuitBreakers, ClusterDiscovery, ClusterId, FilterConfigId, HappyEyeballs, HttpFilter, LbPolicy,
    ScopeId, UpstreamHttp, UpstreamTransport,
};

use super::*;
use crate::http::test::hcm;

fn names(list: &[&str]) -> Arc<[Arc<[u8]>]> {
    list.iter().map(|name| Arc::from(name.as_bytes())).collect()
}

fn filter(config: IstioAlpn, disabled: bool) -> HttpFilter {
    let kind = HttpFilterKind::IstioAlpn(Arc::new(config));
    HttpFilter { name: "istio.alpn".into(), id: FilterConfigId(0), disabled, kind }
}

fn istio() -> IstioAlpn {
    IstioAlpn {
        http10: names(&["istio-http/1.0", "istio", "http/1.0"]),
        http11: names(&["istio-http/1.1", "istio", "http/1.1"]),
        http2: names(&["istio-h2", "istio", "h2"]),
    }
}

fn cluster(protocol: UpstreamProtocol, istio_alpn_override: bool) -> Cluster {
    Cluster {
        name: "c".into(),
        id: ClusterId(0),
        scope: ScopeId(0),
        stat_name: "c".into(),
        discovery: ClusterDiscovery::Static,
        localities: Vec::new(),
        endpoints_version: 0,
        lb_policy: LbPolicy::RoundRobin,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        balancing: millrace_config::Balancing::default(),
        connect_timeout: std::time::Duration::from_secs(5),
        circuit_breakers: CircuitBreakers::default(),
        outlier_detection: None,
        buffer_limit_bytes: 0,
        tcp_keepalive: None,
        bind: None,
        happy_eyeballs: HappyEyeballs::default(),
        health_check: None,
        close_on_health_failure: false,
        close_on_host_set_change: false,
        pool_per_downstream: false,
        http: UpstreamHttp { protocol, ..UpstreamHttp::default() },
        tracked: None,
        istio_alpn_override,
        drop_overload: None,
        load_metrics: Box::default(),
        transport: UpstreamTransport::default(),
        transport_matches: Vec::new(),
    }
}

/// The first protocol that is offered.
fn offered(filters: Vec<HttpFilter>, cluster: &Cluster, downstream: Version) -> Option<String> {
    let mut hcm = hcm();
    hcm.http_filters.splice(0..0, filters);
    let start = Start::of(&hcm, None);
    let list = offer(&start, cluster, downstream)?;
    list.first().map(|name| String::from_utf8_lossy(name).into_owned())
}

#[test]
fn the_cluster_decides() {
    use UpstreamProtocol::{Auto, Http1, Http2, UseDownstream};
    use Version::{Http10, Http11};
    for (upstream, downstream, expected) in [
        (Http1, Version::Http2, "istio-http/1.1"),
        (Http1, Http10, "istio-http/1.1"),
        (Http2, Http11, "istio-h2"),
        (Auto, Http11, "istio-h2"),
        (UseDownstream, Http10, "istio-http/1.0"),
        (UseDownstream, Http11, "istio-http/1.1"),
        (UseDownstream, Version::Http2, "istio-h2"),
    ] {
        let found = offered(vec![filter(istio(), false)], &cluster(upstream, true), downstream);
        assert_eq!(found.as_deref(), Some(expected), "{upstream:?} {downstream:?}");
    }
}

#[test]
fn who_does_not_want_it_gets_the_own_list() {
    let http1 = |on| cluster(UpstreamProtocol::Http1, on);
    let http = Version::Http11;
    assert_eq!(offered(vec![], &http1(true), http), None);
    assert_eq!(offered(vec![filter(istio(), true)], &http1(true), http), None, "disabled");
    assert_eq!(offered(vec![filter(istio(), false)], &http1(false), http), None, "metadata");
    assert_eq!(offered(vec![filter(IstioAlpn::default(), false)], &http1(true), http), None, "no list");
    let two = vec![filter(istio(), false), filter(IstioAlpn::default(), false)];
    assert_eq!(offered(two, &http1(true), http).as_deref(), Some("istio-http/1.1"));
}
