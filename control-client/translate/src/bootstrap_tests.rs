//! Whole bootstraps: what they become, and which are refused with which path.

use millrace_config::{
    Address, Codec, GrpcMethods, Http2Options, HttpFilterKind, ListenerFilterKind, NetworkFilter,
    TcpClusterSpecifier,
};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, Parsed, bootstrap_from_yaml};

use super::*;
use crate::context::Overrides;

fn parsed(text: &str) -> Parsed {
    bootstrap_from_yaml(text, &LoadOptions::default()).unwrap()
}

fn compile(text: &str) -> Result<Compiled, Rejection> {
    bootstrap(&parsed(text).bytes, &mut Context::new(Registry::new(), Overrides::default()))
}

const TCP: &str = "{filters: [{name: t, typed_config: {'@type': t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}]}";

fn listener_text(name: &str, port: u16, more: &str) -> String {
    format!(
        "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, filter_chains: [{TCP}], {more}}}"
    )
}

#[test]
fn a_whole_bootstrap() {
    let text = format!(
        "node: {{id: nn, cluster: k, locality: {{zone: z}}}}\n\
         admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 9901}}}}, access_log_path: /dev/null}}\n\
         stats_config: {{use_all_default_tags: false, stats_tags: [{{tag_name: a, fixed_value: b}}]}}\n\
         layered_runtime: {{layers: [{{name: s, static_layer: {{envoy.resource_limits.listener.l.connection_limit: 5}}}}]}}\n\
         static_resources:\n  clusters: [{{name: c}}]\n  listeners: [{}]\n",
        listener_text(
            "l",
            1234,
            "traffic_direction: INBOUND, listener_filters: [{name: o, typed_config: {'@type': t/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]"
        )
    );
    let compiled = compile(&text).unwrap();
    let listener = &compiled.snapshot.listeners[0];
    assert_eq!((&*listener.name, listener.connection_limit, listener.reuse_port), ("l", Some(5), true));
    assert_eq!(listener.listener_filters[0].kind, ListenerFilterKind::OriginalDst);
    let NetworkFilter::TcpProxy(proxy) = &listener.filter_chains[0].filters[0] else { panic!("a TCP proxy") };
    let TcpClusterSpecifier::Cluster(id) = proxy.cluster else { panic!("one cluster") };
    assert_eq!(&*compiled.snapshot.cluster(id).unwrap().name, "c");
    assert!(compiled.snapshot.cluster_by_name("c").is_some());
    assert_eq!(compiled.admin.address, Some(Address::Inet("127.0.0.1:9901".parse().unwrap())));
    assert_eq!((compiled.admin.access_logs.len(), compiled.stats.tags.len()), (1, 1));
    assert_eq!((&*compiled.snapshot.node.id, &*compiled.snapshot.node.zone), ("nn", "z"));
    assert_eq!((compiled.static_listeners.len(), &*compiled.static_clusters[0].name), (1, "c"));
    assert!(compiled.unsupported.is_empty(), "{:?}", compiled.unsupported);
    assert_eq!(compiled.stats_flush_interval, Some(Duration::from_secs(5)));
}

#[test]
fn the_command_line_names_the_node() {
    let overrides = Overrides {
        service_node: Some("n2".into()),
        service_cluster: Some("k2".into()),
        service_zone: Some("z2".into()),
        ..Overrides::default()
    };
    let compiled =
        bootstrap(&parsed("node: {id: n1}").bytes, &mut Context::new(Registry::new(), overrides)).unwrap();
    let node = &compiled.snapshot.node;
    assert_eq!((&*node.id, &*node.cluster, &*node.zone), ("n2", "k2", "z2"));
    let dumped = millrace_proto::message_to_json(BOOTSTRAP, &compiled.bootstrap).unwrap();
    assert_eq!(dumped["node"]["id"], "n2");
}

#[test]
fn an_overlay_merges_as_protobuf_does() {
    let base = parsed("{node: {id: a, cluster: b}, static_resources: {clusters: [{name: x}]}}");
    let overlay = parsed("{node: {id: c}, static_resources: {clusters: [{name: yy}]}}");
    let merged = millrace_proto::merge(base, overlay);
    let compiled =
        bootstrap(&merged.bytes, &mut Context::new(Registry::new(), Overrides::default())).unwrap();
    assert_eq!((&*compiled.snapshot.node.id, &*compiled.snapshot.node.cluster), ("c", "b"));
    assert!(
        compiled.snapshot.cluster_by_name("x").is_some() && compiled.snapshot.cluster_by_name("yy").is_some()
    );
}

#[test]
fn listeners_that_collide() {
    let two = |a: &str, b: &str| compile(&format!("static_resources: {{listeners: [{a}, {b}]}}"));
    let same_address = two(&listener_text("a", 1, ""), &listener_text("b", 1, "")).unwrap_err();
    assert!(
        same_address.reason.contains("'b' has duplicate address '127.0.0.1:1' as existing listener"),
        "{same_address}"
    );
    let replaced = two(&listener_text("a", 1, ""), &listener_text("a", 2, "")).unwrap();
    assert_eq!((replaced.snapshot.listeners.len(), replaced.unsupported.len()), (1, 1));
    assert!(two(&listener_text("a", 0, ""), &listener_text("b", 0, "")).is_ok());
    assert!(two(&listener_text("a", 1, ""), &listener_text("b", 1, "bind_to_port: false")).is_ok());
}

#[test]
fn wrong_listeners_are_refused_with_their_path() {
    for (listener, reason) in [
        ("{name: a, filter_chains: [{}]}", "address: error adding listener named 'a': address is necessary"),
        (
            "{address: {socket_address: {address: 127.0.0.1, port_value: 1}}}",
            "filter_chains: error adding listener '127.0.0.1:1': no filter chains specified",
        ),
        (
            "{address: {socket_address: {address: foo, port_value: 1}}, filter_chains: [{}]}",
            "address.socket_address.address: malformed IP address: foo",
        ),
        (
            "{address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filter_chain_match: {server_names: ['a*.b']}}]}",
            "partial wildcards are not supported",
        ),
        (
            "{address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{name: x}, {name: w}]}",
            "filter chain 'w' has the same matching rules defined as 'x'",
        ),
        (
            "{address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{transport_socket: {name: tls, typed_config: {'@type': t/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext}}}]}",
            "common_tls_context: No TLS certificates found for server context",
        ),
        (
            "{address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [{name: z, typed_config: {'@type': t/envoy.extensions.filters.network.echo.v3.Echo}}]}]}",
            "network filter 'z' of type envoy.extensions.filters.network.echo.v3.Echo is not served by this build",
        ),
        (
            "{address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 1}}, filter_chains: [{}]}",
            "UDP is not served by this build",
        ),
    ] {
        let error =
            compile(&format!("static_resources: {{listeners: [{listener}]}}")).unwrap_err().to_string();
        assert!(
            error.starts_with("static_resources.listeners[0]") && error.contains(reason),
            "{listener}: {error}"
        );
    }
    let twice = compile("static_resources: {clusters: [{name: a}, {name: a}]}").unwrap_err();
    assert_eq!(
        twice.to_string(),
        "static_resources.clusters[1].name: cluster manager: duplicate cluster 'a'"
    );
    let two_proxies = TCP.replace("[{name: t", "[{name: t, typed_config: {'@type': t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}, {name: t");
    let error = compile(&format!("static_resources: {{listeners: [{{address: {{pipe: {{path: /x}}}}, filter_chains: [{two_proxies}]}}]}}")).unwrap_err();
    assert!(error.reason.contains("must be the last filter in a network filter chain"), "{error}");
}

/// A bootstrap with one connection manager.
fn manager(fields: &str) -> Result<Compiled, Rejection> {
    compile(&format!(
        "static_resources: {{listeners: [{{name: a, address: {{pipe: {{path: /x}}}}, filter_chains: [{{filters: [{{name: h, typed_config: {{'@type': t/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, {fields}}}}}]}}]}}]}}"
    ))
}

#[test]
fn a_chain_of_grpc_filters() {
    let stats = "{name: s, typed_config: {'@type': t/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig, individual_method_stats_allowlist: {services: [{name: b, method_names: [P, M, M]}]}, enable_upstream_stats: true}}";
    let web = "{name: w, typed_config: {'@type': t/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb}}";
    let bridge = "{name: b, typed_config: {'@type': t/envoy.extensions.filters.http.grpc_http1_bridge.v3.Config, ignore_query_parameters: true}}";
    let router = "{name: r, typed_config: {'@type': t/envoy.extensions.filters.http.router.v3.Router}}";
    let chain = format!("route_config: {{}}, http_filters: [{stats}, {web}, {bridge}, {router}]");
    let compiled = manager(&chain).unwrap();
    let NetworkFilter::HttpConnectionManager(built) =
        &compiled.snapshot.listeners[0].filter_chains[0].filters[0]
    else {
        panic!("a connection manager")
    };
    let [stats, web, bridge, _] = &built.http_filters[..] else { panic!("{:?}", built.http_filters) };
    let HttpFilterKind::GrpcStats(stats) = &stats.kind else { panic!("{stats:?}") };
    let listed = GrpcMethods::Listed(vec![("b".into(), "M".into()), ("b".into(), "P".into())]);
    assert_eq!((&stats.methods, stats.upstream_time, stats.replace_dots), (&listed, true, false));
    assert!(matches!(web.kind, HttpFilterKind::GrpcWeb));
    let HttpFilterKind::GrpcHttp1Bridge(bridge) = bridge.kind else { panic!("{bridge:?}") };
    assert!(bridge.ignore_query && !bridge.upgrade_protobuf);
}

#[test]
fn the_connection_manager() {
    let router = "http_filters: [{name: r, typed_config: {'@type': t/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}]";
    let compiled = manager(&format!("route_config: {{}}, {router}, request_headers_timeout: 0s, stream_idle_timeout: 0s, via: v, upgrade_configs: [{{upgrade_type: WebSocket}}]")).unwrap();
    let NetworkFilter::HttpConnectionManager(built) =
        &compiled.snapshot.listeners[0].filter_chains[0].filters[0]
    else {
        panic!("a connection manager")
    };
    assert_eq!((built.request_headers_timeout, built.stream_idle_timeout), (None, None));
    assert_eq!(built.stream_flush_timeout, None, "the one of idle streams, without one of its own");
    assert_eq!((&*built.server_name, &*built.via, built.upgrades.len()), ("envoy", "v", 1));
    assert!(built.http1.allow_absolute_url && built.generate_request_id && !built.use_remote_address);
    assert_eq!((built.codec, built.http2), (Codec::Auto, Http2Options::DOWNSTREAM));
    for (codec, wanted) in [("HTTP1", Codec::Http1), ("HTTP2", Codec::Http2)] {
        let compiled = manager(&format!(
            "route_config: {{}}, {router}, codec_type: {codec}, http2_protocol_options: {{max_concurrent_streams: 7}}"
        ));
        let compiled = compiled.unwrap();
        let NetworkFilter::HttpConnectionManager(built) =
            &compiled.snapshot.listeners[0].filter_chains[0].filters[0]
        else {
            panic!("a connection manager")
        };
        assert_eq!((built.codec, built.http2.max_concurrent_streams), (wanted, 7));
        assert!(compiled.unsupported.is_empty(), "{:?}", compiled.unsupported);
    }
    for (fields, reason) in [
        (
            "route_config: {}, http_filters: [{name: w, typed_config: {'@type': t/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb}}]",
            "Error: non-terminal filter named w of type envoy.extensions.filters.http.grpc_web.v3.GrpcWeb is the last filter",
        ),
        (
            "scoped_routes: {name: x, scope_key_builder: {fragments: [{header_value_extractor: {name: h}}]}, rds_config_source: {ads: {}}, scoped_rds: {scoped_rds_config_source: {ads: {}}}}",
            "scoped_routes.scope_key_builder.fragments[0].header_value_extractor: HeaderValueExtractor extract_type not set.",
        ),
        ("route_config: {}, codec_type: HTTP3", "codec_type: HTTP/3 codec configured on non-QUIC listener."),
        ("route_config: {}, max_request_headers_kb: 9000", "value must be less than or equal to 8192"),
        (
            "route_config: {}, strip_matching_host_port: true, strip_any_host_port: true",
            "Only one of `strip_matching_host_port` or `strip_any_host_port`",
        ),
        (
            "route_config: {}, upgrade_configs: [{upgrade_type: a}, {upgrade_type: A}]",
            "multiple upgrade configs with the same name: 'A'",
        ),
        (
            "route_config: {}, http_filters: [{name: l, typed_config: {'@type': t/envoy.extensions.filters.http.lua.v3.Lua}}]",
            "HTTP filter 'l' of type envoy.extensions.filters.http.lua.v3.Lua",
        ),
        (
            "route_config: {}, access_log: [{name: f, typed_config: {'@type': t/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /x, log_format: {text_format_source: {inline_string: '%NOPE%'}}}}]",
            "Not supported field in StreamInfo: NOPE",
        ),
    ] {
        let error = manager(fields).unwrap_err().to_string();
        assert!(error.contains("filters[0].typed_config") && error.contains(reason), "{fields}: {error}");
    }
}

#[test]
fn unknown_field_numbers_are_refused_unless_allowed() {
    let mut bytes = parsed("node: {id: a}").bytes;
    bytes.extend([0xf8, 0xff, 0x01, 0x01]);
    let refused = bootstrap(&bytes, &mut Context::new(Registry::new(), Overrides::default())).unwrap_err();
    assert!(refused.reason.contains("unknown field number 4095"), "{refused}");
    let allowed = Overrides { allow_unknown_static_fields: true, ..Overrides::default() };
    let compiled = bootstrap(&bytes, &mut Context::new(Registry::new(), allowed)).unwrap();
    assert_eq!(compiled.unsupported.len(), 1);
}
