//! The dynamic forward proxy: its cluster and its filters, and the cache that they share.

use millrace_config::{
    Cluster, ClusterDiscovery, ConnectionGate, DnsLookupFamily, ForwardProxyHost, HttpFilterKind,
    NetworkFilter, PerFilterConfig, RouteSource,
};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml};

use super::*;
use crate::error::RejectionKind;
use crate::{Compiled, Overrides};

const EXTENSIONS: &str = "t/envoy.extensions";

/// A cluster with these fields of its type and of itself, and a listener with this chain.
fn compile(typed: &str, cluster: &str, chain: &str) -> Result<(Compiled, Context), Rejection> {
    let text = format!(
        "static_resources: {{clusters: [{{name: c, lb_policy: CLUSTER_PROVIDED, cluster_type: {{name: d, typed_config: {{'@type': {EXTENSIONS}.clusters.dynamic_forward_proxy.v3.ClusterConfig, {typed}}}}}, {cluster}}}], listeners: [{{name: a, address: {{pipe: {{path: /x}}}}, filter_chains: [{{filters: [{chain}]}}]}}]}}\n"
    );
    let parsed = bootstrap_from_yaml(&text, &LoadOptions::default()).unwrap();
    let mut cx = Context::new(Registry::new(), Overrides::default());
    crate::bootstrap(&parsed.bytes, &mut cx).map(|compiled| (compiled, cx))
}

fn http(filter: &str, per_route: &str) -> String {
    let filters = format!("{EXTENSIONS}.filters.http");
    format!(
        "{{name: h, typed_config: {{'@type': {EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, http_filters: [{{name: f, typed_config: {{'@type': {filters}.dynamic_forward_proxy.v3.FilterConfig, {filter}}}}}, {{name: r, typed_config: {{'@type': {filters}.router.v3.Router}}}}], route_config: {{virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: c}}, typed_per_filter_config: {{f: {{'@type': {filters}.dynamic_forward_proxy.v3.PerRouteConfig, {per_route}}}}}}}]}}]}}}}}}"
    )
}

fn sni(filter: &str, last: &str) -> String {
    let filters = format!("{EXTENSIONS}.filters.network");
    format!(
        "{{name: s, typed_config: {{'@type': {filters}.sni_dynamic_forward_proxy.v3.FilterConfig, {filter}}}}}, {last}"
    )
}

fn tcp() -> String {
    format!(
        "{{name: t, typed_config: {{'@type': {EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}}}"
    )
}

const CACHE: &str = "dns_cache_config: {name: 'n:1'}";
const TLS: &str = "transport_socket: {name: t, typed_config: {'@type': t/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}";

fn cluster(compiled: &Compiled) -> &Cluster {
    compiled.snapshot.clusters.iter().flatten().next().expect("a cluster")
}

#[test]
fn cluster_and_filters_share_the_cache_of_a_name() {
    let (compiled, mut cx) = compile(CACHE, "", &http(CACHE, "host_rewrite_header: X-Host")).unwrap();
    let own = cluster(&compiled);
    let ClusterDiscovery::ForwardProxy(proxy) = &own.discovery else { panic!("{:?}", own.discovery) };
    assert_eq!((proxy.default_port, own.http.auto_sni, own.http.auto_san_validation), (80, true, true));
    assert_eq!(proxy.cache.config, DnsCacheConfig { name: "n:1".into(), ..DnsCacheConfig::named("") });
    let NetworkFilter::HttpConnectionManager(manager) =
        &compiled.snapshot.listeners[0].filter_chains[0].filters[0]
    else {
        panic!("a connection manager")
    };
    let HttpFilterKind::ForwardProxy(filter) = &manager.http_filters[0].kind else { panic!("the filter") };
    assert!(Arc::ptr_eq(&filter.cache, &proxy.cache));
    let RouteSource::Inline(table) = &manager.routes else { panic!("a table") };
    let PerFilterConfig::ForwardProxy(host) = &table.virtual_hosts[0].routes[0].per_filter[0].1 else {
        panic!("its own")
    };
    assert_eq!(*host, ForwardProxyHost::Header(Arc::from(&b"x-host"[..])));
    assert_eq!((cx.dns_caches.take_new().len(), cx.dns_caches.living().count()), (1, 1));
    // Nobody uses it any more: the name is free.
    drop((compiled, cx.dns_caches.take_new()));
    assert_eq!(cx.dns_caches.living().count(), 0);
}

#[test]
fn every_setting_of_a_cache() {
    let fields = "dns_cache_config: {name: other, dns_lookup_family: V4_PREFERRED, dns_refresh_rate: 2s, \
        dns_min_refresh_rate: 3s, host_ttl: 4s, max_hosts: 5, disable_dns_refresh_on_failure: true, \
        dns_failure_refresh_rate: {base_interval: 1s}, dns_cache_circuit_breaker: {max_pending_requests: 6}, \
        use_tcp_for_dns_lookups: true, dns_query_timeout: 0s, preresolve_hostnames: [{address: a, port_value: 7}], \
        resolved_address_filter: {ranges: [{address_prefix: 10.1.2.3, prefix_len: 8}], invert_match: true}}";
    let (compiled, _) = compile(fields, TLS, &sni(&format!("port_value: 8443, {fields}"), &tcp())).unwrap();
    let ClusterDiscovery::ForwardProxy(proxy) = &cluster(&compiled).discovery else { panic!("the type") };
    assert_eq!(proxy.default_port, 443);
    let config = &proxy.cache.config;
    assert_eq!(config.family, DnsLookupFamily::V4Preferred);
    let seconds = [config.refresh_rate, config.min_refresh_rate, config.host_ttl].map(|time| time.as_secs());
    assert_eq!((seconds, config.max_hosts, config.max_pending_requests), ([2, 3, 4], 5, 6));
    assert!(config.no_refresh_on_failure && config.query_timeout.is_none());
    assert_eq!(config.failure_refresh, Some((Duration::from_secs(1), Duration::from_secs(10))));
    assert!(config.resolver.as_ref().is_some_and(|resolver| resolver.use_tcp));
    assert_eq!(config.preresolve, [(Arc::from("a"), 7)]);
    let filter = config.filter.as_ref().unwrap();
    assert!(filter.inverted && !filter.matches("10.9.9.9".parse().unwrap()));
    let ConnectionGate::SniForwardProxy(gate) = &compiled.snapshot.listeners[0].filter_chains[0].gates[0]
    else {
        panic!("the gate")
    };
    assert!(gate.port == 8443 && Arc::ptr_eq(&gate.cache, &proxy.cache));
}

#[test]
fn what_is_refused_says_where() {
    let typed = "static_resources.clusters[0].cluster_type.typed_config";
    let other = "dns_cache_config: {name: 'n:1', max_hosts: 3}";
    let manager = http(CACHE, "");
    let sub = "sub_clusters_config: {}";
    for (fields, more, chain, path, reason, kind) in [
        (CACHE, "", &http(other, ""), ".dns_cache_config", "with different settings", RejectionKind::Invalid),
        (
            CACHE,
            "upstream_http_protocol_options: {auto_sni: true}",
            &manager,
            typed,
            "must have auto_sni and auto_san_validation true",
            RejectionKind::Invalid,
        ),
        (sub, "", &manager, "sub_clusters_config", "not served", RejectionKind::NotServed),
        ("", "", &manager, "dns_cache_config", "value is required", RejectionKind::Invalid),
        (
            CACHE,
            "",
            &http(CACHE, "host_rewrite_literal: 'a b'"),
            "host_rewrite_literal",
            "is no host",
            RejectionKind::Invalid,
        ),
        (
            CACHE,
            "",
            &sni(CACHE, &manager),
            "filters[0]",
            "in front of a TCP proxy only",
            RejectionKind::NotServed,
        ),
        (
            "dns_cache_config: {name: other, max_hosts: 1, preresolve_hostnames: [{address: a, port_value: 1}, {address: b, port_value: 1}]}",
            "",
            &manager,
            "preresolve_hostnames",
            "larger than max_hosts=1",
            RejectionKind::Invalid,
        ),
    ] {
        let error = compile(fields, more, chain).err().unwrap_or_else(|| panic!("{reason}"));
        let text = error.to_string();
        assert!(text.contains(path) && text.contains(reason) && error.kind == kind, "{text}");
    }
    let insecure = format!("allow_insecure_cluster_options: true, {CACHE}");
    let allowed = compile(&insecure, "upstream_http_protocol_options: {}", &manager);
    assert!(allowed.is_ok_and(|(compiled, _)| !cluster(&compiled).http.auto_sni));
}
