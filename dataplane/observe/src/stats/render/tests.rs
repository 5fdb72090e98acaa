//! Lines as the real Envoy printed them for the same facts.

use super::super::{
    CodeFamily, Group, GrpcProtocol, Registry, ScopeKind, cluster, grpc, http, http_listener, http2,
    listener, process, route, server,
};
use super::*;

fn text(registry: &Registry, selection: &Selection<'_>) -> String {
    let mut out = String::new();
    assert!(render_text(registry, selection, &mut out));
    out
}

#[test]
fn text_is_sorted_and_sums_threads() {
    let registry = Registry::new();
    let scope = registry.scope(ScopeKind::Listener, "127.0.0.1_80");
    let admin = registry.scope(ScopeKind::Listener, "127.0.0.1_80.http.i");
    assert_eq!(scope, registry.scope(ScopeKind::Listener, "127.0.0.1_80"));
    assert_ne!(scope, admin);
    assert_eq!(scope, registry.scope(ScopeKind::Listener, "127.0.0.1:80"));
    let (mut a, mut b) = (registry.attach_shard("worker_0"), registry.attach_shard("worker_1"));
    a.inc(scope, listener::DOWNSTREAM_CX_TOTAL);
    b.add(scope, listener::DOWNSTREAM_CX_TOTAL, 2);
    a.gauge_inc(scope, listener::DOWNSTREAM_CX_ACTIVE);
    b.gauge_dec(scope, listener::DOWNSTREAM_CX_ACTIVE);
    let used = Selection { used_only: true, ..Selection::ALL };
    assert_eq!(
        text(&registry, &used),
        "listener.127.0.0.1_80.downstream_cx_active: 0\n\
         listener.127.0.0.1_80.downstream_cx_total: 3\n\
         listener.127.0.0.1_80.worker_0.downstream_cx_active: 1\n\
         listener.127.0.0.1_80.worker_0.downstream_cx_total: 1\n\
         listener.127.0.0.1_80.worker_1.downstream_cx_active: 0\n\
         listener.127.0.0.1_80.worker_1.downstream_cx_total: 2\n"
    );
    registry.reset_counters();
    assert_eq!(registry.counter(scope, listener::DOWNSTREAM_CX_TOTAL), 0);
    b.inc(scope, listener::DOWNSTREAM_CX_TOTAL);
    assert_eq!(registry.counter(scope, listener::DOWNSTREAM_CX_TOTAL), 1);
}

#[test]
fn everything_is_in_byte_order() {
    let registry = Registry::new();
    for (kind, name) in [
        (ScopeKind::Process, ""),
        (ScopeKind::Server, ""),
        (ScopeKind::Cluster, "a"),
        (ScopeKind::Cluster, "a.b"),
        (ScopeKind::Cluster, "a-b"),
        (ScopeKind::Http, "i"),
        (ScopeKind::HttpListener, "x.http.i"),
        (ScopeKind::Listener, "x"),
        (ScopeKind::Tcp, "t"),
    ] {
        registry.scope(kind, name);
    }
    let mut shard = registry.attach_shard("worker_0");
    shard.inc(registry.scope(ScopeKind::Process, ""), process::SERVER_WATCHDOG_MISS);
    let out = text(&registry, &Selection { only: Some(StatType::Counters), ..Selection::ALL });
    let names: Vec<&str> = out.lines().collect();
    assert!(names.is_sorted(), "{out}");
    assert!(out.contains("server.worker_0.watchdog_miss: 1\n"));
    assert!(!out.contains("health_check.attempt"), "not configured");
}

#[test]
fn codes_classes_and_groups() {
    let registry = Registry::new();
    let scope = registry.scope(ScopeKind::Cluster, "c1");
    let mut shard = registry.attach_shard("worker_0");
    for code in [200, 200, 503] {
        shard.upstream_response(scope, code, false, false);
    }
    let (h, l) = (registry.scope(ScopeKind::Http, "i"), registry.scope(ScopeKind::HttpListener, "l.http.i"));
    shard.downstream_response(h, l, 204);
    assert_eq!(registry.counter(h, http::DOWNSTREAM_RQ_2XX), 1);
    assert_eq!(registry.counter(l, http_listener::DOWNSTREAM_RQ_COMPLETED), 1);
    registry.retire(h);
    registry.retire(l);
    registry.enable(scope, Group::HealthCheck);
    let wants =
        |name: &str| name.contains("rq_2") || name.contains("completed") || name.contains("health_check.a");
    assert_eq!(
        text(&registry, &Selection { wants: &wants, ..Selection::ALL }),
        "cluster.c1.external.upstream_rq_200: 2\n\
         cluster.c1.external.upstream_rq_2xx: 2\n\
         cluster.c1.external.upstream_rq_completed: 3\n\
         cluster.c1.health_check.attempt: 0\n\
         cluster.c1.upstream_rq_200: 2\n\
         cluster.c1.upstream_rq_2xx: 2\n\
         cluster.c1.upstream_rq_completed: 3\n"
    );
    let mut out = String::new();
    assert!(render_prometheus(&registry, &Selection { wants: &wants, ..Selection::ALL }, &mut out));
    assert_eq!(
        out,
        "# TYPE envoy_cluster_external_upstream_rq counter\n\
         envoy_cluster_external_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"c1\"} 2\n\
         # TYPE envoy_cluster_external_upstream_rq_completed counter\n\
         envoy_cluster_external_upstream_rq_completed{envoy_cluster_name=\"c1\"} 3\n\
         # TYPE envoy_cluster_external_upstream_rq_xx counter\n\
         envoy_cluster_external_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"c1\"} 2\n\
         # TYPE envoy_cluster_health_check_attempt counter\n\
         envoy_cluster_health_check_attempt{envoy_cluster_name=\"c1\"} 0\n\
         # TYPE envoy_cluster_upstream_rq counter\n\
         envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"c1\"} 2\n\
         # TYPE envoy_cluster_upstream_rq_completed counter\n\
         envoy_cluster_upstream_rq_completed{envoy_cluster_name=\"c1\"} 3\n\
         # TYPE envoy_cluster_upstream_rq_xx counter\n\
         envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"c1\"} 2\n"
    );
}

#[test]
fn calls_have_the_labels_of_envoy_1_40() {
    let registry = Registry::new();
    let mut shard = registry.attach_shard("worker_0");
    for cluster in ["c", "out.x"] {
        let scope = registry.scope(ScopeKind::Cluster, cluster);
        for name in [None, Some("a_b_C.D"), Some("a.b.C.D")] {
            for protocol in [GrpcProtocol::Grpc, GrpcProtocol::Web] {
                let scope = shard.grpc_scope(scope, protocol, name).unwrap();
                shard.inc(scope, grpc::STATUS_0);
            }
        }
    }
    let wants = |name: &str| name.contains(".grpc");
    let mut out = String::new();
    assert!(render_prometheus(&registry, &Selection { wants: &wants, ..Selection::ALL }, &mut out));
    let mut lines: Vec<&str> = out.lines().filter(|line| !line.starts_with('#')).collect();
    lines.sort_unstable();
    let method = |service, method| {
        format!("envoy_grpc_bridge_method=\"{method}\",envoy_grpc_bridge_service=\"{service}\",")
    };
    let mut expected = vec![
        "envoy_cluster_grpc_0{envoy_cluster_name=\"c\"} 1".to_owned(),
        format!("envoy_cluster_grpc_0{{{}envoy_cluster_name=\"c\"}} 1", method("a_b_C", "D")),
        format!("envoy_cluster_grpc_C_D_0{{{}envoy_cluster_name=\"c\"}} 1", method("a", "b")),
        "envoy_cluster_grpc_web_0{envoy_cluster_name=\"c\"} 1".to_owned(),
        "envoy_cluster_grpc_web_a_b_C_D_0{envoy_cluster_name=\"c\"} 1".to_owned(),
    ];
    for name in ["grpc_0", "grpc_a_b_C_D_0", "grpc_web_0", "grpc_web_a_b_C_D_0"] {
        expected.push(format!("envoy_cluster_x_{name}{{envoy_cluster_name=\"out\"}} 1"));
    }
    // Both names of a method look alike where there are no labels.
    lines.dedup();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn histograms_print_as_envoys() {
    let registry = Registry::new();
    let scope = registry.scope(ScopeKind::Http, "ingress");
    let mut shard = registry.attach_shard("worker_0");
    let wants = |name: &str| name.ends_with("downstream_rq_time");
    let selection = Selection { wants: &wants, ..Selection::ALL };
    assert_eq!(text(&registry, &selection), "http.ingress.downstream_rq_time: No recorded values\n");
    for value in [1, 43, 44] {
        shard.record(scope, http::DOWNSTREAM_RQ_TIME, value);
    }
    assert_eq!(
        text(&registry, &selection),
        "http.ingress.downstream_rq_time: P0(nan,1.05) P25(nan,1.05) P50(nan,43.5) P75(nan,44.5) P90(nan,44.5) \
         P95(nan,44.5) P99(nan,44.5) P99.5(nan,44.5) P99.9(nan,44.5) P100(nan,44.5)\n"
    );
    registry.flush_histograms();
    let detailed = Selection { buckets: HistogramBuckets::Detailed, ..selection };
    assert_eq!(
        text(&registry, &detailed).lines().take(3).collect::<Vec<_>>(),
        [
            "http.ingress.downstream_rq_time:",
            "  totals=1,0.1:1, 43,1:1, 44,1:1",
            "  intervals=1,0.1:1, 43,1:1, 44,1:1"
        ]
    );
    let disjoint = Selection { buckets: HistogramBuckets::Disjoint, ..selection };
    assert_eq!(
        text(&registry, &disjoint),
        "http.ingress.downstream_rq_time: B0.5(0,0) B1(1,1) B5(0,0) B10(0,0) B25(0,0) B50(2,2) B100(0,0) \
         B250(0,0) B500(0,0) B1000(0,0) B2500(0,0) B5000(0,0) B10000(0,0) B30000(0,0) B60000(0,0) B300000(0,0) \
         B600000(0,0) B1.8e+06(0,0) B3.6e+06(0,0)\n"
    );
    let mut json = String::new();
    assert!(render_json(&registry, &selection, &mut json));
    assert!(json.starts_with(
        "{\"stats\":[{\"histograms\":{\"supported_quantiles\":[0,25,50,75,90,95,99,99.5,99.9,100],\
         \"computed_quantiles\":[{\"name\":\"http.ingress.downstream_rq_time\",\"values\":[\
         {\"cumulative\":1.05,\"interval\":1.05},"
    ));
    assert!(json.ends_with("{\"cumulative\":44.5,\"interval\":44.5}]}]}}]}"));
    let mut prometheus = String::new();
    assert!(render_prometheus(&registry, &selection, &mut prometheus));
    let label = "envoy_http_conn_manager_prefix=\"ingress\"";
    for line in [
        "# TYPE envoy_http_downstream_rq_time histogram".to_owned(),
        format!("envoy_http_downstream_rq_time_bucket{{{label},le=\"0.5\"}} 0"),
        format!("envoy_http_downstream_rq_time_bucket{{{label},le=\"50\"}} 3"),
        format!("envoy_http_downstream_rq_time_bucket{{{label},le=\"3600000\"}} 3"),
        format!("envoy_http_downstream_rq_time_bucket{{{label},le=\"+Inf\"}} 3"),
        format!("envoy_http_downstream_rq_time_sum{{{label}}} 89.036253943654173781396821141243"),
        format!("envoy_http_downstream_rq_time_count{{{label}}} 3"),
    ] {
        assert!(prometheus.lines().any(|l| l == line), "{line}\n{prometheus}");
    }
}

#[test]
fn json_and_text_readouts() {
    let registry = Registry::new();
    let scope = registry.scope(ScopeKind::Server, "");
    registry.set_text("cluster_manager.cds.version_text", "v\"1");
    let mut control = registry.attach_shard("main_thread");
    control.gauge_set(scope, server::STATE, 0);
    control.gauge_set(scope, server::CONCURRENCY, 2);
    let used = Selection { used_only: true, ..Selection::ALL };
    let mut out = String::new();
    assert!(render_json(&registry, &used, &mut out));
    assert_eq!(
        out,
        "{\"stats\":[{\"name\":\"cluster_manager.cds.version_text\",\"value\":\"v\\\"1\"},\
         {\"name\":\"server.concurrency\",\"value\":2},{\"name\":\"server.state\",\"value\":0}]}"
    );
    assert!(text(&registry, &used).starts_with("cluster_manager.cds.version_text: \"v\"1\"\n"));
}

#[test]
fn labels_of_every_kind() {
    let registry = Registry::new();
    for (kind, name) in [
        (ScopeKind::Listener, "127.0.0.1_29902"),
        (ScopeKind::Listener, "admin"),
        (ScopeKind::HttpListener, "127.0.0.1_29902.http.ingress"),
        (ScopeKind::Tcp, "tp"),
        (ScopeKind::Route, "vh.vcluster.vc"),
        (ScopeKind::Route, "vh.route.rsp"),
        (ScopeKind::Process, ""),
    ] {
        registry.scope(kind, name);
    }
    registry.attach_shard("worker_0");
    let mut out = String::new();
    assert!(render_prometheus(&registry, &Selection::ALL, &mut out));
    for line in [
        "envoy_listener_downstream_cx_destroy{envoy_listener_address=\"127.0.0.1_29902\"} 0",
        "envoy_listener_admin_downstream_cx_destroy{} 0",
        "envoy_listener_http_downstream_rq_xx{envoy_response_code_class=\"1\",envoy_http_conn_manager_prefix=\"ingress\",envoy_listener_address=\"127.0.0.1_29902\"} 0",
        "envoy_listener_worker_downstream_cx_total{envoy_worker_id=\"0\",envoy_listener_address=\"127.0.0.1_29902\"} 0",
        "envoy_server_worker_watchdog_mega_miss{envoy_worker_id=\"0\"} 0",
        "envoy_tcp_downstream_cx_drain_close{envoy_tcp_prefix=\"tp\"} 0",
        "envoy_vhost_vcluster_upstream_rq_retry{envoy_virtual_cluster=\"vc\",envoy_virtual_host=\"vh\"} 0",
        "envoy_vhost_route_upstream_rq_retry{envoy_virtual_host=\"vh\",envoy_route=\"rsp\"} 0",
    ] {
        assert!(out.lines().any(|l| l == line), "{line}");
    }
}

#[test]
fn http2_counts_where_it_can_be_spoken() {
    let registry = Registry::new();
    let (plain, spoken) =
        (registry.scope(ScopeKind::Cluster, "plain"), registry.scope(ScopeKind::Cluster, "spoken"));
    registry.enable(spoken, Group::Http2);
    let mut shard = registry.attach_shard("worker_0");
    shard.inc(spoken, cluster::HTTP2_RX_RESET);
    shard.inc(registry.scope(ScopeKind::Http2, ""), http2::TX_RESET);
    let out = text(&registry, &Selection::ALL);
    for line in
        ["cluster.spoken.http2.rx_reset: 1", "cluster.spoken.http2.streams_active: 0", "http2.tx_reset: 1"]
    {
        assert!(out.lines().any(|l| l == line), "{line}");
    }
    assert!(!out.contains("cluster.plain.http2."));
    assert_eq!(registry.counter(plain, cluster::HTTP2_RX_RESET), 0);
    let mut out = String::new();
    assert!(render_prometheus(&registry, &Selection::ALL, &mut out));
    for line in ["envoy_cluster_http2_rx_reset{envoy_cluster_name=\"spoken\"} 1", "envoy_http2_tx_reset{} 1"]
    {
        assert!(out.lines().any(|l| l == line), "{line}");
    }
}

#[test]
fn configured_tags_and_matchers() {
    let registry = Registry::new();
    let scope = registry.scope(ScopeKind::Cluster, "outbound|80||a.b.svc;");
    let mut shard = registry.attach_shard("worker_0");
    shard.inc(scope, cluster::UPSTREAM_CX_TOTAL);
    let rules = vec![
        TagRule::regex("cluster_name", "^cluster(\\.(.+);)").unwrap(),
        TagRule::regex("x", "^listener(?=\\.).*?\\.http\\.((.*?)\\.)").unwrap(),
        TagRule::Fixed { name: "pod".to_owned(), value: "a\"b".to_owned() },
    ];
    registry.set_tags(TagRules { defaults: false, rules });
    let used = Selection { used_only: true, ..Selection::ALL };
    let mut out = String::new();
    assert!(render_prometheus(&registry, &used, &mut out));
    assert_eq!(
        out,
        "# TYPE envoy_cluster_upstream_cx_total counter\n\
         envoy_cluster_upstream_cx_total{cluster_name=\"outbound|80||a.b.svc\",pod=\"a\\\"b\"} 1\n"
    );
    assert!(TagRule::regex("x", "(").is_err());
    // The shapes that Istio's bootstrap uses.
    for pattern in [
        r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
        r"(tag\.(.+?);\.)",
    ] {
        assert!(TagRule::regex("x", pattern).is_ok(), "{pattern}");
    }
    registry.set_matcher(StatsMatcher::RejectAll);
    assert_eq!(text(&registry, &used), "");
}

#[test]
fn output_is_bounded_and_ids_are_reused_only_after_a_sweep() {
    let registry = Registry::new();
    let scope = registry.scope(ScopeKind::Cluster, "a");
    let mut shard = registry.attach_shard("worker_0");
    shard.inc(scope, cluster::UPSTREAM_CX_TOTAL);
    let mut out = String::new();
    assert!(!render_text(&registry, &Selection { max_bytes: 100, ..Selection::ALL }, &mut out));
    assert!(out.len() < 300);
    registry.retire(scope);
    assert_eq!(text(&registry, &Selection::ALL), "");
    let other = registry.scope(ScopeKind::Cluster, "b");
    assert_ne!(other, scope);
    shard.sweep();
    assert_eq!(registry.host_scope(), scope);
    assert_eq!(registry.counter(scope, cluster::UPSTREAM_CX_TOTAL), 0);
}

/// The scopes of the bootstrap that the vectors were taken with: one HTTP and one TCP listener, a cluster
/// with health checks and outlier detection, a dead one, a route and virtual clusters with statistics.
fn twin_of_the_measured_envoy() -> Registry {
    let registry = Registry::new();
    let (mut worker, _main) = (registry.attach_shard("worker_0"), registry.attach_shard("main_thread"));
    for kind in ScopeKind::ALL.iter().filter(|kind| **kind < ScopeKind::Listener) {
        registry.scope(*kind, "");
    }
    for (kind, names) in [
        (ScopeKind::Listener, &["admin", "127.0.0.1:29902", "tcplis"][..]),
        (ScopeKind::Http, &["admin", "async-client", "ingress"]),
        (ScopeKind::HttpListener, &["admin.http.admin", "127.0.0.1_29902.http.ingress"]),
        (ScopeKind::Tcp, &["tp"]),
    ] {
        for name in names {
            registry.scope(kind, name);
        }
    }
    let c1 = registry.scope(ScopeKind::Cluster, "c1");
    let dead = registry.scope(ScopeKind::Cluster, "dead");
    registry.enable(c1, Group::HealthCheck);
    registry.enable(c1, Group::OutlierDetection);
    for family in [CodeFamily::Plain, CodeFamily::External] {
        worker.code(c1, family, 200);
        worker.code(c1, family, 503);
        worker.code(dead, family, 503);
    }
    worker.code(c1, CodeFamily::Retry, 503);
    worker.record(c1, cluster::UPSTREAM_RQ_TIME, 1);
    worker.record(c1, cluster::EXTERNAL_UPSTREAM_RQ_TIME, 1);
    for (name, codes) in
        [("vh.route.rsp", &[200, 503][..]), ("vh.vcluster.other", &[200, 503]), ("vh.vcluster.vc", &[503])]
    {
        let scope = registry.scope(ScopeKind::Route, name);
        worker.record(scope, route::UPSTREAM_RQ_TIME, 1);
        for code in codes {
            worker.code(scope, CodeFamily::Plain, *code);
        }
    }
    registry
}

#[test]
fn every_name_and_label_of_a_busy_envoy_in_its_order() {
    let registry = twin_of_the_measured_envoy();
    let out = text(&registry, &Selection::ALL);
    let names: Vec<&str> = out.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    let expected: Vec<&str> = include_str!("vectors/envoy-1.40.0-text-names.txt").lines().collect();
    assert_eq!(names, expected);
    let mut out = String::new();
    assert!(render_prometheus(&registry, &Selection::ALL, &mut out));
    let expected = include_str!("vectors/envoy-1.40.0-prometheus-names.txt").lines();
    let ours =
        out.lines().filter(|line| !line.contains("_bucket{")).map(|line| match line.starts_with('#') {
            true => line,
            false => line.rsplit_once(' ').map_or(line, |(name, _)| name),
        });
    assert_eq!(ours.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn the_control_thread_counts_without_arrays() {
    let registry = Registry::new();
    let scope = registry.scope(ScopeKind::Cluster, "c");
    let (mut control, mut shard) = (registry.attach_control(), registry.attach_shard("worker_0"));
    control.gauge_set(scope, cluster::MEMBERSHIP_TOTAL, 3);
    control.inc(scope, cluster::UPDATE_SUCCESS);
    shard.inc(scope, cluster::UPDATE_SUCCESS);
    assert_eq!(registry.gauge(scope, cluster::MEMBERSHIP_TOTAL), 3);
    assert_eq!(registry.counter(scope, cluster::UPDATE_SUCCESS), 2);
    registry.reset_counters();
    control.add(scope, cluster::UPDATE_SUCCESS, 5);
    assert_eq!(registry.counter(scope, cluster::UPDATE_SUCCESS), 5);
    let mut out = String::new();
    assert!(render_text(&registry, &Selection { used_only: true, ..Selection::ALL }, &mut out));
    assert!(out.contains("cluster.c.membership_total: 3"), "{out}");
    registry.retire(scope);
    shard.sweep();
    control.gauge_set(scope, cluster::MEMBERSHIP_TOTAL, 9);
    assert_eq!(registry.scope(ScopeKind::Cluster, "d"), scope);
    assert_eq!(registry.gauge(scope, cluster::MEMBERSHIP_TOTAL), 0);
}
