//! Clusters for the tests, built by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Address, Balancing, CircuitBreakers, Cluster, ClusterDiscovery, ClusterId, Endpoint, HappyEyeballs,
    HealthStatus, LbPolicy, LocalityEndpoints, ScopeId, UpstreamHttp,
};

/// The endpoint `10.0.0.<number>:80`.
pub fn endpoint(number: u8, weight: u32, health: HealthStatus) -> Endpoint {
    Endpoint {
        address: Address::Inet(SocketAddr::from((Ipv4Addr::new(10, 0, 0, number), 80))),
        hostname: Arc::from(""),
        weight,
        health,
        scope: ScopeId(u32::from(number)),
        transport_metadata: None,
        lb_metadata: None,
        additional_addresses: None,
        health_check: None,
        leaving: false,
    }
}

/// A cluster with Envoy's defaults and one locality for each priority.
pub fn cluster(policy: LbPolicy, levels: Vec<Vec<Endpoint>>) -> Cluster {
    let localities = levels
        .into_iter()
        .enumerate()
        .map(|(priority, endpoints)| LocalityEndpoints {
            priority: priority as u32,
            endpoints,
            ..LocalityEndpoints::default()
        })
        .collect();
    Cluster {
        name: Arc::from("c"),
        id: ClusterId(0),
        scope: ScopeId(0),
        stat_name: Arc::from("c"),
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
        pool_per_downstream: false,
        http: UpstreamHttp::default(),
        transport: millrace_config::UpstreamTransport::default(),
        transport_matches: Vec::new(),
        tracked: None,
        istio_alpn_override: true,
        drop_overload: None,
        load_metrics: Box::default(),
    }
}
