//! Sources of configuration: what they become, which clusters and files they may name, and what is refused.

use millrace_ads::source::{
    ConfigSource, DataSource, Endpoint, GrpcSource, SanKind, SanPattern, Tls, TokenFile, Upstream, Variant,
};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml};

use super::*;
use crate::{Compiled, Overrides, RejectionKind, bootstrap};

fn load(text: &str) -> Result<(Compiled, Context), Rejection> {
    let parsed = bootstrap_from_yaml(text, &LoadOptions::default()).unwrap();
    let mut cx = Context::new(Registry::new(), Overrides::default());
    bootstrap(&parsed.bytes, &mut cx).map(|compiled| (compiled, cx))
}

/// A bootstrap with clusters and an ADS source.
fn ads_of(clusters: &str, ads: &str) -> Result<GrpcSource, Rejection> {
    let text = format!(
        "{{static_resources: {{clusters: [{clusters}]}}, dynamic_resources: {{ads_config: {{transport_api_version: V3, {ads}}}}}}}"
    );
    load(&text).map(|(compiled, _)| compiled.dynamic.ads.unwrap())
}

const ENDPOINT: &str = "load_assignment: {cluster_name: x, endpoints: {lb_endpoints: {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 18000}}}}}}";
/// Traffic cannot be balanced so; for the control client it makes no difference.
const UNSERVED: &str = "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, custom_health_check: {name: redis}}]";
const SERVICE: &str = "api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]";

fn upstream_of(cluster: &str) -> Result<Upstream, Rejection> {
    ads_of(&format!("{{name: x, {cluster}}}"), SERVICE).map(|mut ads| ads.services.remove(0).target)
}

fn tls_of(context: &str) -> Result<Tls, Rejection> {
    let socket = format!(
        "{ENDPOINT}, {UNSERVED}, transport_socket: {{name: tls, typed_config: {{'@type': t/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, {context}}}}}"
    );
    upstream_of(&socket).map(|upstream| upstream.tls.unwrap())
}

#[test]
fn an_ads_source_of_a_clear_text_cluster() {
    let ads = ads_of(
        &format!("{{name: x, connect_timeout: 3s, {ENDPOINT}}}"),
        "api_type: DELTA_GRPC, set_node_on_first_message_only: true, rate_limit_settings: {max_tokens: 5}, grpc_services: \
         [{envoy_grpc: {cluster_name: x, authority: a.test}, initial_metadata: [{key: X-Token, value: '100%%'}], timeout: 1s}, \
         {envoy_grpc: {cluster_name: x, max_receive_message_length: 9}}]",
    )
    .unwrap();
    assert_eq!((ads.variant, ads.set_node_on_first_message_only), (Variant::Delta, true));
    assert_eq!(ads.rate_limit, Some((5, 10_000)));
    let [first, second] = &ads.services[..] else { panic!("two services") };
    assert_eq!((first.authority.as_str(), second.authority.as_str()), ("a.test", "x"));
    assert_eq!(first.initial_metadata, [("x-token".to_owned(), "100%".to_owned())]);
    assert_eq!((first.message_bytes_max, second.message_bytes_max), (None, Some(9)));
    assert_eq!(first.target.endpoints, [Endpoint::Inet("10.0.0.1".into(), 18000)]);
    assert_eq!((first.target.connect_timeout, first.target.tls.is_none()), (Duration::from_secs(3), true));
}

#[test]
fn who_is_told_of_the_load() {
    let text = |api: &str| {
        format!(
            "{{static_resources: {{clusters: [{{name: x, {ENDPOINT}}}]}}, cluster_manager: {{load_stats_config: {{\
             transport_api_version: V3, {}}}}}}}",
            SERVICE.replace("GRPC", api)
        )
    };
    for api in ["GRPC", "DELTA_GRPC"] {
        let (compiled, _) = load(&text(api)).unwrap();
        let service = compiled.dynamic.load_stats.unwrap();
        assert_eq!((&*service.authority, &*service.target.name), ("x", "x"));
        assert!(compiled.unsupported.is_empty(), "{:?}", compiled.unsupported);
    }
    assert!(load("{}").unwrap().0.dynamic.load_stats.is_none());
}

#[test]
fn a_cluster_that_traffic_cannot_use_is_for_the_control_client_only() {
    let text = format!(
        "{{static_resources: {{clusters: [{{name: x, type: STRICT_DNS, {UNSERVED}, transport_socket: {{name: t, typed_config: {{'@type': \
         t/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}}}, \
         http2_protocol_options: {{connection_keepalive: {{interval: 30s, timeout: 5s}}}}, \
         upstream_connection_options: {{tcp_keepalive: {{keepalive_time: 7}}}}, {}}}, {{name: other}}]}}, dynamic_resources: {{ads_config: {{transport_api_version: V3, {SERVICE}}}, \
         cds_config: {{ads: {{}}, initial_fetch_timeout: 0s}}, lds_config: {{ads: {{}}}}}}}}",
        ENDPOINT.replace("10.0.0.1", "istiod.test")
    );
    let (compiled, mut cx) = load(&text).unwrap();
    let ads = compiled.dynamic.ads.as_ref().unwrap();
    let target = &ads.services[0].target;
    assert_eq!(target.keepalive, Some((Duration::from_secs(30), Duration::from_secs(5))));
    assert_eq!(target.tcp_keepalive, Some((None, Some(7), None)));
    assert_eq!(target.endpoints, [Endpoint::Inet("istiod.test".into(), 18000)]);
    let (cds, lds) = (compiled.dynamic.cds.unwrap(), compiled.dynamic.lds.unwrap());
    assert_eq!((cds.source, lds.source, cds.initial_fetch_timeout), (Sources::ADS, Sources::ADS, None));
    assert_eq!(lds.initial_fetch_timeout, Some(Duration::from_secs(15)));
    // It is listed and reported, and traffic cannot reach it.
    assert!(
        compiled.snapshot.cluster_by_name("x").is_none()
            && compiled.snapshot.cluster_by_name("other").is_some()
    );
    assert_eq!(compiled.static_clusters.len(), 2);
    let reported = |path: &str| compiled.unsupported.iter().any(|field| field.path == path);
    assert!(reported("static_resources.clusters[0]"));
    let refused = cx.target_cluster("x", &Path::from("cluster")).unwrap_err();
    assert_eq!(refused.kind, RejectionKind::NotServed);
    assert!(refused.reason.contains("'x' cannot be served") && refused.reason.contains("Redis"), "{refused}");
    assert!(cx.target_cluster("other", &Path::from("cluster")).is_ok());
    assert_eq!(compiled.control_clusters.len(), 1);
}

#[test]
fn a_clear_text_cluster_of_http2_serves_the_control_client_and_traffic() {
    let text = format!(
        "{{static_resources: {{clusters: [{{name: x, http2_protocol_options: {{max_concurrent_streams: 9, connection_keepalive: \
         {{interval: 30s, timeout: 5s}}}}, {ENDPOINT}}}]}}, dynamic_resources: {{ads_config: {{transport_api_version: V3, {SERVICE}}}}}}}"
    );
    let (compiled, mut cx) = load(&text).unwrap();
    let target = &compiled.dynamic.ads.as_ref().unwrap().services[0].target;
    assert_eq!(target.keepalive, Some((Duration::from_secs(30), Duration::from_secs(5))));
    let cluster = compiled.snapshot.cluster_by_name("x").unwrap();
    assert_eq!(cluster.http.protocol, millrace_config::UpstreamProtocol::Http2);
    assert_eq!(cluster.http.http2.max_concurrent_streams, 9);
    assert!(compiled.control_clusters.is_empty() && cx.control_clusters.is_empty());
    assert!(compiled.unsupported.is_empty(), "{:?}", compiled.unsupported);
    assert!(cx.target_cluster("x", &Path::from("cluster")).is_ok());
}

#[test]
fn http2_options_by_extension_and_pipes() {
    let upstream = upstream_of(
        "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': \
         t/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {connection_keepalive: \
         {interval: 1s, timeout: 2s}}}}}, load_assignment: {cluster_name: x, endpoints: [{priority: 1, lb_endpoints: [{endpoint: {address: {pipe: {path: /b}}}}]}, \
         {lb_endpoints: [{endpoint: {address: {pipe: {path: '@a'}}}}]}]}",
    )
    .unwrap();
    assert_eq!(upstream.endpoints, [Endpoint::Unix("@a".into()), Endpoint::Unix("/b".into())]);
    assert_eq!(upstream.keepalive, Some((Duration::from_secs(1), Duration::from_secs(2))));
}

#[test]
fn tls_of_files_text_and_static_secrets() {
    let tls = tls_of(
        "sni: cp.test, common_tls_context: {tls_params: {tls_minimum_protocol_version: TLSv1_2}, alpn_protocols: [h2], \
         tls_certificates: [{certificate_chain: {inline_string: chain}, private_key: {filename: /dev/../etc/hostname}}], \
         validation_context: {trusted_ca: {inline_string: ca}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: cp.test}}, \
         {san_type: URI, matcher: {prefix: 'spiffe://'}}]}}",
    )
    .unwrap();
    assert_eq!((tls.sni.as_str(), tls.trusted_ca), ("cp.test", Some(DataSource::Inline(b"ca".to_vec()))));
    let (chain, key) = tls.identity.unwrap();
    assert_eq!(chain, DataSource::Inline(b"chain".to_vec()));
    assert_eq!(key, DataSource::File("/dev/../etc/hostname".into()));
    assert_eq!((tls.san_matchers[0].kind, tls.san_matchers[1].kind), (SanKind::Dns, SanKind::Uri));
    assert_eq!(tls.san_matchers[1].pattern, SanPattern::Prefix("spiffe://".into()));

    let secret = "secrets: [{name: s, validation_context: {trusted_ca: {inline_string: root}}}]";
    let text = format!(
        "{{static_resources: {{{secret}, clusters: [{{name: x, {UNSERVED}, {ENDPOINT}, transport_socket: {{name: tls, typed_config: {{'@type': \
         t/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {{combined_validation_context: {{default_validation_context: \
         {{match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: host}}}}]}}, validation_context_sds_secret_config: {{name: s}}}}}}}}}}}}]}}, \
         dynamic_resources: {{ads_config: {{transport_api_version: V3, {SERVICE}}}}}}}"
    );
    let tls = load(&text).unwrap().0.dynamic.ads.unwrap().services[0].target.tls.clone().unwrap();
    assert_eq!(tls.trusted_ca, Some(DataSource::Inline(b"root".to_vec())));
    assert_eq!(tls.san_matchers.len(), 1);
    let missing =
        load(&text.replace("name: s, validation_context", "name: other, validation_context")).unwrap_err();
    assert!(missing.reason.contains("Unknown static certificate validation context: s"), "{missing}");
    let crl = load(&text.replace(
        "{trusted_ca: {inline_string: root}}",
        "{trusted_ca: {inline_string: root}, crl: {inline_string: x}}",
    ));
    // Not served for the control client either, so that the refusal is that of the cluster.
    assert_eq!(crl.unwrap_err().path, "static_resources.clusters[0].health_checks[0].custom_health_check");

    let tls = tls_of(
        "common_tls_context: {tls_certificate_sds_secret_configs: [{name: c, sds_config: {path_config_source: {path: /etc/hostname, watched_directory: {path: /etc}}}}], \
         validation_context_sds_secret_config: {name: v, sds_config: {path: /etc/hostname}}}",
    )
    .unwrap();
    let (file, name) = tls.identity_sds.unwrap();
    assert_eq!((file.watched_directory, name.as_str()), (Some("/etc".into()), "c"));
    assert_eq!(tls.validation_sds.unwrap().1, "v");
}

#[test]
fn google_grpc_as_kuma_writes_it() {
    let ads = ads_of(
        "",
        "api_type: DELTA_GRPC, grpc_services: {google_grpc: {target_uri: 'cp.kuma-system:5678', stat_prefix: ads, channel_credentials: \
         {ssl_credentials: {root_certs: {inline_bytes: Y2E=}}}, call_credentials: [{access_token: tok}, {from_plugin: {name: \
         envoy.grpc_credentials.file_based_metadata, typed_config: {'@type': t/envoy.config.grpc_credential.v3.FileBasedMetadataConfig, \
         secret_data: {filename: /var/token}}}}], credentials_factory_name: envoy.grpc_credentials.file_based_metadata, channel_args: {args: \
         {grpc.keepalive_time_ms: {int_value: 30000}, grpc.max_receive_message_length: {int_value: 77}}}}}",
    )
    .unwrap();
    let service = &ads.services[0];
    assert_eq!(service.target.endpoints, [Endpoint::Inet("cp.kuma-system".into(), 5678)]);
    assert_eq!(service.authority, "cp.kuma-system:5678");
    assert_eq!(service.initial_metadata, [("authorization".to_owned(), "Bearer tok".to_owned())]);
    let token =
        TokenFile { path: "/var/token".into(), header: "authorization".into(), prefix: String::new() };
    assert_eq!((&service.token_files[..], service.message_bytes_max), (&[token][..], Some(77)));
    assert_eq!(service.target.keepalive, Some((Duration::from_secs(30), Duration::from_secs(20))));
    let tls = service.target.tls.as_ref().unwrap();
    assert_eq!((tls.sni.as_str(), tls.verify_host, tls.system_roots), ("cp.kuma-system", true, false));
}

#[test]
fn targets_of_google_grpc() {
    let target = |uri: &str| {
        let ads = format!(
            "api_type: GRPC, grpc_services: {{google_grpc: {{stat_prefix: p, target_uri: '{uri}'}}}}"
        );
        ads_of("", &ads).map(|mut ads| ads.services.remove(0).target.endpoints.remove(0))
    };
    for (uri, host, port) in [
        ("a.test:1", "a.test", 1),
        ("a.test", "a.test", 443),
        ("dns:///a.test:2", "a.test", 2),
        ("dns://8.8.8.8/a.test:3", "a.test", 3),
        ("ipv4:1.2.3.4:5", "1.2.3.4", 5),
        ("[::1]:6", "::1", 6),
        ("ipv6:[::1]:7", "::1", 7),
        ("::1", "::1", 443),
    ] {
        assert_eq!(target(uri), Ok(Endpoint::Inet(host.into(), port)), "{uri}");
    }
    assert_eq!(target("unix:/a/b"), Ok(Endpoint::Unix("/a/b".into())));
    assert_eq!(target("unix:///a/b"), Ok(Endpoint::Unix("/a/b".into())));
    assert_eq!(target("unix-abstract:n"), Ok(Endpoint::Unix("@n".into())));
    for bad in [":5", "a:port", "dns://x", "xds:///a/b:1", "a b:1"] {
        assert!(target(bad).is_err(), "{bad}");
    }
}

#[test]
fn rest_and_files() {
    let text = format!(
        "{{static_resources: {{clusters: [{{name: x, {ENDPOINT}}}]}}, dynamic_resources: {{cds_config: {{api_config_source: {{api_type: REST, \
         transport_api_version: V3, cluster_names: [x], refresh_delay: 2s}}}}, lds_config: {{resource_api_version: V3, path: /etc/hostname}}}}}}"
    );
    let (compiled, cx) = load(&text).unwrap();
    let Some(ConfigSource::Rest(rest)) = cx.sources.get(compiled.dynamic.cds.unwrap().source) else {
        panic!("REST")
    };
    assert_eq!((rest.authority.as_str(), rest.refresh_delay), ("x", Duration::from_secs(2)));
    assert_eq!(rest.request_timeout, Duration::from_secs(1));
    // A clear-text cluster serves both.
    assert!(compiled.snapshot.cluster_by_name("x").is_some());
    let Some(ConfigSource::Path(file)) = cx.sources.get(compiled.dynamic.lds.unwrap().source) else {
        panic!("file")
    };
    assert_eq!(file.path, std::path::Path::new("/etc/hostname"));
}
