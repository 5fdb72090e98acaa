//! The admin endpoint as meshes read it.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Bootstrap;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use serde_json::Value;

pub(crate) const CASES: &[Case] = &[
    case!(ready),
    case!(server_info),
    case!(stats_text),
    case!(stats_filter_and_usedonly),
    case!(stats_json),
    case!(stats_prometheus),
    case!(clusters),
    case!(listeners),
    case!(config_dump),
    case!(mutations_need_post),
    case!(unknown_path_and_help),
    case!(health_check_fail_and_ok),
    case!(reset_counters),
    case!(logging),
    case!(drain_listeners),
    case!(quitquitquit),
    case!(memory_and_runtime),
];

fn start(subject: &Subject) -> (Upstream, Proxy) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(subject, &Bootstrap::forward(upstream.address()));
    (upstream, proxy)
}

fn json(proxy: &Proxy, target: &str) -> Value {
    let response = proxy.admin_get(target);
    assert_eq!((response.status, response.get("content-type")), (200, Some("application/json")), "{target}");
    serde_json::from_slice(&response.body).expect("JSON from the admin endpoint")
}

fn ready(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let response = proxy.admin_get("/ready");
    assert_eq!((response.status, response.text().as_str()), (200, "LIVE\n"));
    assert_eq!(response.get("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(response.get("cache-control"), Some("no-cache, max-age=0"));
    assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.get("server"), Some("envoy"));
}

fn server_info(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let info = json(&proxy, "/server_info");
    assert_eq!(info["state"], "LIVE");
    assert_eq!(info["version"].as_str().map(|v| v.split('/').count()), Some(5));
    assert!(info["uptime_current_epoch"].as_str().is_some_and(|v| v.ends_with('s')));
    assert_eq!(info["command_line_options"]["concurrency"], 1);
}

fn stats_text(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    proxy.client().get("/");
    let text = proxy.admin_get("/stats").text();
    let names: Vec<&str> = text.lines().filter_map(|l| l.split_once(": ")).map(|(n, _)| n).collect();
    for name in [
        "cluster.up.upstream_rq_total",
        "cluster.up.upstream_rq_200",
        "cluster.up.upstream_rq_2xx",
        "cluster.up.membership_total",
        "cluster_manager.active_clusters",
        "http.main.downstream_rq_2xx",
        "http.main.downstream_cx_active",
        "listener.127.0.0.1_0.downstream_cx_total",
        "listener_manager.total_listeners_active",
        "server.live",
        "server.uptime",
    ] {
        assert!(names.contains(&name), "{name} is missing");
    }
    assert_eq!(proxy.stat("server.live"), Some(1));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_2xx"), Some(1));
}

fn stats_filter_and_usedonly(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    proxy.client().get("/");
    let filtered = proxy.admin_get("/stats?filter=^cluster\\.up\\.upstream_rq_(200|total)$").text();
    assert_eq!(filtered, "cluster.up.upstream_rq_200: 1\ncluster.up.upstream_rq_total: 1\n");
    let used = proxy.admin_get("/stats?usedonly&filter=cluster.up").text();
    assert!(used.contains("upstream_rq_total") && !used.contains("upstream_rq_timeout"), "{used}");
    // Envoy Gateway asks with two slashes.
    assert!(proxy.admin_get("//stats?filter=server.live").text().contains("server.live: 1"));
}

fn stats_json(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    proxy.client().get("/");
    let stats = json(&proxy, "/stats?format=json&filter=^http.main.downstream_cx_total$");
    assert_eq!(stats, serde_json::json!({"stats": [{"name": "http.main.downstream_cx_total", "value": 1}]}));
}

fn stats_prometheus(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    proxy.client().get("/");
    let response = proxy.admin_get("/stats/prometheus");
    let text = response.text();
    assert!(text.contains("# TYPE envoy_cluster_upstream_rq_total counter\n"));
    assert!(text.contains("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"up\"} 1\n"));
    assert!(text.contains("envoy_http_downstream_cx_total{envoy_http_conn_manager_prefix=\"main\"} 1\n"));
    assert!(text.contains("# TYPE envoy_http_downstream_cx_active gauge\n"));
    assert_eq!(proxy.admin_get("/stats?format=prometheus").status, 200);
}

fn clusters(subject: &Subject) {
    let (upstream, proxy) = start(subject);
    proxy.client().get("/");
    let text = proxy.admin_get("/clusters").text();
    let address = upstream.address();
    for line in [
        "up::observability_name::up".to_owned(),
        "up::default_priority::max_connections::1024".to_owned(),
        "up::added_via_api::false".to_owned(),
        format!("up::{address}::rq_total::1"),
        format!("up::{address}::health_flags::healthy"),
        format!("up::{address}::weight::1"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    let parsed = json(&proxy, "/clusters?format=json");
    let status = &parsed["cluster_statuses"][0];
    assert_eq!(status["name"], "up");
    let host = &status["host_statuses"][0];
    assert_eq!(host["address"]["socket_address"]["port_value"], address.port());
    assert_eq!(host["health_status"]["eds_health_status"], "HEALTHY");
}

fn listeners(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let address = proxy.listener("main");
    let parsed = json(&proxy, "/listeners?format=json");
    let status = &parsed["listener_statuses"][0];
    assert_eq!(status["name"], "main");
    assert_eq!(status["local_address"]["socket_address"]["port_value"], address.port());
}

fn config_dump(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let dump = json(&proxy, "/config_dump");
    let kinds: Vec<&str> = dump["configs"]
        .as_array()
        .map(|a| a.iter().filter_map(|c| c["@type"].as_str()).filter_map(|t| t.rsplit('.').next()).collect())
        .unwrap_or_default();
    for kind in ["BootstrapConfigDump", "ClustersConfigDump", "ListenersConfigDump"] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
    let clusters = dump["configs"].as_array().into_iter().flatten().find(|c| c["static_clusters"].is_array());
    assert!(clusters.is_some_and(|c| c["static_clusters"][0]["cluster"]["name"] == "up"));
}

const MUTATIONS: [&str; 6] = [
    "/quitquitquit",
    "/healthcheck/fail",
    "/healthcheck/ok",
    "/drain_listeners",
    "/reset_counters",
    "/logging",
];

fn mutations_need_post(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    for path in MUTATIONS {
        let response = proxy.admin_get(path);
        assert_eq!(
            (response.status, response.text()),
            (405, "Method GET not allowed, POST required.".to_owned()),
            "{path}"
        );
    }
    assert_eq!(proxy.admin_get("/ready").status, 200);
}

fn unknown_path_and_help(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let unknown = proxy.admin_get("/nothing");
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("admin commands are:"), "{}", unknown.text());
    let help = proxy.admin_get("/help");
    assert_eq!(help.status, 200);
    for path in
        ["/clusters", "/config_dump", "/listeners", "/ready", "/server_info", "/stats", "/stats/prometheus"]
    {
        assert!(help.text().contains(path), "{path}");
    }
}

fn health_check_fail_and_ok(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    assert_eq!(proxy.admin_post("/healthcheck/fail").text(), "OK\n");
    let draining = proxy.admin_get("/ready");
    assert_eq!((draining.status, draining.text().as_str()), (503, "DRAINING\n"));
    // Traffic is told to go elsewhere, politely.
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.closes()), (200, true));
    assert_eq!(proxy.admin_post("/healthcheck/ok").text(), "OK\n");
    assert_eq!(proxy.admin_get("/ready").text(), "LIVE\n");
}

fn reset_counters(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    proxy.client().get("/");
    proxy.wait_stat("cluster.up.upstream_rq_total", 1);
    assert_eq!(proxy.admin_post("/reset_counters").text(), "OK\n");
    assert_eq!(proxy.stat("cluster.up.upstream_rq_total"), Some(0));
    assert_eq!(proxy.stat("cluster.up.membership_total"), Some(1));
}

fn logging(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let response = proxy.admin_post("/logging?level=info");
    assert_eq!(response.status, 200);
    assert!(response.text().contains("active loggers:"));
    assert_eq!(proxy.admin_post("/logging?level=nonsense").status, 400);
}

fn drain_listeners(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let target = proxy.listener("main");
    assert_eq!(proxy.admin_post("/drain_listeners").text(), "OK\n");
    millrace_support::wait::for_true("the listener to close", || {
        std::net::TcpStream::connect(target).is_err()
    });
    assert_eq!(proxy.admin_get("/ready").status, 200);
}

fn quitquitquit(subject: &Subject) {
    let (_upstream, mut proxy) = start(subject);
    assert_eq!(proxy.admin_post("/quitquitquit").text(), "OK\n");
    let status = proxy.wait_exit(millrace_support::wait::PATIENCE);
    assert_eq!(status.and_then(|s| s.code()), Some(0));
}

fn memory_and_runtime(subject: &Subject) {
    let (_upstream, proxy) = start(subject);
    let memory = json(&proxy, "/memory");
    assert!(memory["allocated"].as_str().is_some_and(|v| v.parse::<u64>().is_ok()));
    let runtime = json(&proxy, "/runtime");
    assert!(runtime["layers"].is_array() && runtime["entries"].is_object());
}
