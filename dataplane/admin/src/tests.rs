//! Whole requests against a fixed process; expected bodies were taken from Envoy 1.40.0.

use std::time::Duration;

use millrace_config::{Address, HealthStatus, Thresholds};
use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct Process {
    state: Option<ServerState>,
    commands: Vec<AdminCommand>,
    queries: Vec<StatsQuery>,
    admin_layer: bool,
}

impl AdminState for Process {
    fn server_state(&self) -> ServerState {
        self.state.unwrap_or(ServerState::Live)
    }
    fn uptime(&self) -> Duration {
        Duration::from_millis(2900)
    }
    fn version(&self) -> String {
        "0/1.40.0/Clean/RELEASE/x".to_owned()
    }
    fn hot_restart_version(&self) -> String {
        "disabled".to_owned()
    }
    fn command_line_options(&self) -> Value {
        json!({"base_id": "0", "concurrency": 1})
    }
    fn node(&self) -> Value {
        json!({"id": "n1"})
    }
    fn memory(&self) -> Memory {
        Memory { allocated: 5, total_physical_bytes: 9, ..Memory::default() }
    }
    fn clusters(&mut self) -> Vec<ClusterStatus> {
        let host = HostStatus {
            address: Address::Inet("127.0.0.2:29903".parse().unwrap()),
            hostname: "h".to_owned(),
            weight: 3,
            locality: ("r".to_owned(), "z".to_owned(), String::new()),
            canary: true,
            priority: 0,
            health: HealthStatus::Degraded,
            checks: HostChecks::default(),
            stats: HostStats { cx_connect_fail: 1, cx_total: 1, rq_error: 1, ..HostStats::default() },
        };
        let cluster = |name: &str, hosts| ClusterStatus {
            name: name.to_owned(),
            observability_name: format!("{name};"),
            added_via_api: false,
            default_priority: Thresholds::default(),
            high_priority: Thresholds { max_requests: 7, ..Thresholds::default() },
            success_rates: None,
            hosts,
        };
        vec![cluster("up", vec![host]), cluster("empty", Vec::new())]
    }
    fn listeners(&self) -> Vec<ListenerStatus> {
        vec![ListenerStatus {
            name: "l1".to_owned(),
            local_address: Address::Inet("127.0.0.1:29902".parse().unwrap()),
            additional_addresses: vec![Address::Pipe { path: "/run/x".into(), mode: 0 }],
        }]
    }
    fn stats(&mut self, query: &StatsQuery) -> Vec<u8> {
        self.queries.push(query.clone());
        if query.wants_name("server.state") { b"server.state: 0\n".to_vec() } else { Vec::new() }
    }
    fn config_dump(&mut self, section: ConfigSection) -> Option<Value> {
        match section {
            ConfigSection::Bootstrap => {
                Some(json!({"bootstrap": {"node": {"id": "n1", "cluster": "c1"}, "admin": {}}}))
            }
            ConfigSection::Clusters => Some(json!({"static_clusters": [
                {"cluster": {"@type": "c", "name": "dns", "type": "STRICT_DNS"}, "last_updated": "t"},
                {"cluster": {"@type": "c", "name": "up"}, "last_updated": "t"},
            ]})),
            ConfigSection::Endpoints => Some(json!({"static_endpoint_configs": [
                {"endpoint_config": {"cluster_name": "up"}},
            ]})),
            ConfigSection::Secrets => Some(json!({})),
            _ => None,
        }
    }
    fn runtime(&self) -> RuntimeView {
        let entry = RuntimeEntry {
            key: "a.b".to_owned(),
            layer_values: vec!["1".to_owned(), String::new()],
            final_value: "1".to_owned(),
        };
        RuntimeView {
            layers: vec!["base".to_owned(), "adm".to_owned()],
            entries: vec![entry],
            has_admin_layer: self.admin_layer,
        }
    }
    fn certificates(&self) -> Vec<Value> {
        Vec::new()
    }
    fn unready_targets(&self) -> Vec<String> {
        Vec::new()
    }
    fn loggers(&self) -> Vec<LoggerStatus> {
        let level = if self.commands.is_empty() { "info" } else { "debug" };
        vec![LoggerStatus { name: "admin", level }, LoggerStatus { name: "main", level: "info" }]
    }
    fn execute(&mut self, command: AdminCommand) {
        self.commands.push(command);
    }
}

fn call(process: &mut Process, method: &str, target: &str) -> (u16, String) {
    let response = handle(&Request { method, path_and_query: target, body: b"" }, process);
    (response.status, String::from_utf8(response.body).unwrap())
}

fn get(target: &str) -> (u16, String) {
    call(&mut Process::default(), "GET", target)
}

#[test]
fn readiness_follows_the_state() {
    assert_eq!(get("/ready"), (200, "LIVE\n".to_owned()));
    assert_eq!(get("//ready?x=1"), (200, "LIVE\n".to_owned()));
    for (state, name) in [
        (ServerState::Draining, "DRAINING\n"),
        (ServerState::PreInitializing, "PRE_INITIALIZING\n"),
        (ServerState::Initializing, "INITIALIZING\n"),
    ] {
        let mut process = Process { state: Some(state), ..Process::default() };
        assert_eq!(call(&mut process, "GET", "/ready"), (503, name.to_owned()));
    }
    assert_eq!(ServerState::Initializing as u8, 3);
}

#[test]
fn headers_are_the_same_everywhere() {
    let request = Request { method: "GET", path_and_query: "/certs", body: b"" };
    let response = handle(&request, &mut Process::default());
    assert_eq!(response.content_type, "application/json");
    assert_eq!(
        response.headers,
        [("cache-control", "no-cache, max-age=0"), ("x-content-type-options", "nosniff")]
    );
    assert_eq!(response.body, b"{\n \"certificates\": []\n}\n");
}

#[test]
fn unknown_paths_and_wrong_methods() {
    let (status, body) = get("/nope");
    assert_eq!(status, 404);
    assert!(body.starts_with("invalid path. admin commands are:\n  /: "), "{body}");
    assert_eq!(get("/ready/").0, 404);
    for path in ["/drain_listeners", "/quitquitquit", "/logging", "/healthcheck/fail", "/runtime_modify"] {
        assert_eq!(get(path), (405, "Method GET not allowed, POST required.".to_owned()), "{path}");
    }
    let mut process = Process::default();
    assert_eq!(call(&mut process, "DELETE", "/quitquitquit").0, 405);
    assert!(process.commands.is_empty());
}

#[test]
fn every_endpoint_of_envoy_is_listed() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/corpora/envoy/reference/envoy-1.40.0-admin-help.txt"
    );
    let Ok(theirs) = std::fs::read_to_string(path) else {
        println!("skipped: {path} is absent");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        return;
    };
    let lines = |text: &str| -> Vec<String> {
        let own = text.lines().filter(|line| line.starts_with("  /"));
        own.map(|line| line.split(": ").next().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(lines(&get("/help").1), lines(&theirs));
    for line in lines(&theirs) {
        let path = line.trim().trim_end_matches(" (POST)");
        assert!(endpoint::find(path).is_some(), "{path}");
    }
}

#[test]
fn mutations_become_commands() {
    let mut process = Process { admin_layer: true, ..Process::default() };
    for target in [
        "/drain_listeners?inboundonly&graceful",
        "/drain_listeners?graceful&skip_exit",
        "/healthcheck/fail",
        "/healthcheck/ok",
        "/reset_counters",
        "/reopen_logs",
        "/quitquitquit",
        "/runtime_modify?a=1&b=",
    ] {
        assert_eq!(call(&mut process, "POST", target), (200, "OK\n".to_owned()), "{target}");
    }
    let drain =
        |inbound_only, skip_exit| AdminCommand::DrainListeners { graceful: true, inbound_only, skip_exit };
    assert_eq!(
        process.commands,
        [
            drain(true, false),
            drain(false, true),
            AdminCommand::HealthCheckFail,
            AdminCommand::HealthCheckOk,
            AdminCommand::ResetCounters,
            AdminCommand::ReopenLogs,
            AdminCommand::Quit,
            AdminCommand::RuntimeModify(vec![("a".into(), "1".into()), ("b".into(), String::new())]),
        ]
    );
}

#[test]
fn runtime_needs_an_admin_layer_to_change() {
    let mut process = Process::default();
    assert_eq!(
        call(&mut process, "POST", "/runtime_modify?a=b"),
        (503, "No admin layer specified".to_owned())
    );
    let (status, body) = call(&mut process, "POST", "/runtime_modify");
    assert_eq!(status, 400);
    assert!(body.starts_with("usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send"));
    assert!(process.commands.is_empty());
    process.admin_layer = true;
    let form = Request { method: "POST", path_and_query: "/runtime_modify", body: b"foo=b%20r" };
    assert_eq!(handle(&form, &mut process).status, 200);
    assert_eq!(process.commands, [AdminCommand::RuntimeModify(vec![("foo".into(), "b r".into())])]);
    let (_, body) = get("/runtime");
    assert_eq!(
        body,
        "{\n \"entries\": {\n  \"a.b\": {\n   \"final_value\": \"1\",\n   \"layer_values\": [\n    \"1\",\n    \
         \"\"\n   ]\n  }\n },\n \"layers\": [\n  \"base\",\n  \"adm\"\n ]\n}\n"
    );
}

#[test]
fn stats_take_a_raw_regular_expression() {
    let mut process = Process::default();
    let target = r"/stats?usedonly&filter=^(cluster_manager\.cds|listener_manager\.lds)\.(update_success)$";
    assert_eq!(call(&mut process, "GET", target), (200, String::new()));
    assert!(process.queries[0].used_only);
    assert!(process.queries[0].wants_name("cluster_manager.cds.update_success"));
    assert_eq!(get(r"/stats?filter=^(server\.state)"), (200, "server.state: 0\n".to_owned()));
    assert_eq!(get(r"/stats?filter=server.state&invert_filter"), (200, String::new()));
    let (status, body) = get("/stats?filter=(");
    assert_eq!((status, body.starts_with("Invalid re2 regex: ")), (400, true), "{body}");
    assert_eq!(
        get("/stats?format=xx"),
        (400, "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n".to_owned())
    );
    assert_eq!(get("/stats?type=foo"), (400, "invalid &type= param".to_owned()));
    assert_eq!(
        get("/stats/prometheus?histogram_buckets=detailed"),
        (400, "unsupported prometheus histogram bucket mode".to_owned())
    );
    call(&mut process, "GET", "/stats?format=prometheus&type=Counters&text_readouts");
    let last = process.queries.last().unwrap();
    assert_eq!(last.format, StatsFormat::Prometheus);
    assert!(last.wants_type(StatType::Counters) && !last.wants_type(StatType::Gauges) && last.text_readouts);
    assert!(get("/stats?format=html").1.contains("<pre>server.state: 0\n</pre>"));
}

#[test]
fn clusters_in_text_and_json() {
    let (_, text) = get("/clusters?filter=^up$");
    assert_eq!(
        text,
        "up::observability_name::up;\n\
         up::default_priority::max_connections::1024\nup::default_priority::max_pending_requests::1024\n\
         up::default_priority::max_requests::1024\nup::default_priority::max_retries::3\n\
         up::high_priority::max_connections::1024\nup::high_priority::max_pending_requests::1024\n\
         up::high_priority::max_requests::7\nup::high_priority::max_retries::3\n\
         up::added_via_api::false\n\
         up::127.0.0.2:29903::cx_active::0\nup::127.0.0.2:29903::cx_connect_fail::1\n\
         up::127.0.0.2:29903::cx_total::1\nup::127.0.0.2:29903::rq_active::0\n\
         up::127.0.0.2:29903::rq_error::1\nup::127.0.0.2:29903::rq_pending_active::0\n\
         up::127.0.0.2:29903::rq_success::0\nup::127.0.0.2:29903::rq_timeout::0\n\
         up::127.0.0.2:29903::rq_total::0\nup::127.0.0.2:29903::hostname::h\n\
         up::127.0.0.2:29903::health_flags::/degraded_eds_health\nup::127.0.0.2:29903::weight::3\n\
         up::127.0.0.2:29903::region::r\nup::127.0.0.2:29903::zone::z\nup::127.0.0.2:29903::sub_zone::\n\
         up::127.0.0.2:29903::canary::true\nup::127.0.0.2:29903::priority::0\n\
         up::127.0.0.2:29903::success_rate::-1\nup::127.0.0.2:29903::local_origin_success_rate::-1\n"
    );
    let (_, body) = get("/clusters?format=json&filter=up");
    let json: Value = serde_json::from_str(&body).unwrap();
    let host = &json["cluster_statuses"][0]["host_statuses"][0];
    assert_eq!(host["address"]["socket_address"], json!({"address": "127.0.0.2", "port_value": 29903}));
    assert_eq!(host["stats"][0], json!({"value": "1", "name": "cx_connect_fail"}));
    assert_eq!(host["stats"][3], json!({"name": "rq_success"}));
    assert_eq!(host["stats"][6], json!({"type": "GAUGE", "name": "cx_active"}));
    assert_eq!(host["health_status"], json!({"eds_health_status": "DEGRADED"}));
    assert_eq!(host["locality"], json!({"region": "r", "zone": "z"}));
    assert_eq!(json["cluster_statuses"][0]["circuit_breakers"]["thresholds"][1]["priority"], "HIGH");
    assert_eq!(get("/clusters?format=json&filter=zz"), (200, "{}\n".to_owned()));
    assert_eq!(get("/clusters?filter=("), (400, "Invalid re2 regex".to_owned()));
}

#[test]
fn listeners_in_text_and_json() {
    assert_eq!(get("/listeners?format=xx"), (200, "l1::127.0.0.1:29902\nl1::/run/x\n".to_owned()));
    let (_, body) = get("/listeners?format=json");
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        json["listener_statuses"][0],
        json!({
            "name": "l1",
            "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 29902}},
            "additional_local_addresses": [{"pipe": {"path": "/run/x"}}],
        })
    );
}

#[test]
fn config_dump_masks_and_resources() {
    let configs = |target: &str| -> Value {
        let (status, body) = get(target);
        assert_eq!(status, 200, "{target}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()["configs"].take()
    };
    assert_eq!(configs("/config_dump").as_array().unwrap().len(), 3);
    assert_eq!(configs("/config_dump?include_eds").as_array().unwrap().len(), 4);
    assert_eq!(
        configs("/config_dump?mask=bootstrap.node.id"),
        json!([{
            "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": {"node": {"id": "n1"}},
        }])
    );
    assert_eq!(
        configs("/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets"),
        json!([{"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump"}])
    );
    assert_eq!(
        configs("/config_dump?resource=static_clusters&mask=cluster.name&name_regex=up"),
        json!([{
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
            "cluster": {"@type": "c", "name": "up"},
        }])
    );
    assert_eq!(
        configs("/config_dump?name_regex=zz&mask=static_clusters"),
        json!([{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"}])
    );
    assert_eq!(get("/config_dump?resource=dynamic_active_clusters"), (200, "{}\n".to_owned()));
}

#[test]
fn config_dump_errors() {
    for (target, status, text) in [
        ("?resource=x", 404, "x not found in config dump"),
        ("?resource=static_endpoint_configs", 404, "static_endpoint_configs not found in config dump"),
        (
            "?resource=bootstrap",
            400,
            "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field",
        ),
        ("?mask=bogus", 400, "FieldMask bogus could not be successfully applied to any configs."),
        (
            "?mask=static_clusters.cluster",
            400,
            "FieldMask static_clusters.cluster could not be successfully applied to any configs.",
        ),
        ("?resource=static_clusters&mask=foo", 400, "FieldMask foo could not be successfully used."),
    ] {
        let target = format!("/config_dump{target}");
        assert_eq!(get(&target), (status, text.to_owned()), "{target}");
    }
    assert_eq!(get("/config_dump?name_regex=(").0, 400);
}

#[test]
fn log_levels_are_shown_and_changed() {
    let mut process = Process::default();
    let list = "active loggers:\n  admin: info\n  main: info\n\n";
    assert_eq!(call(&mut process, "POST", "/logging"), (200, list.to_owned()));
    assert_eq!(call(&mut process, "POST", "/logging?paths="), (200, list.to_owned()));
    for (target, error) in [
        ("?level=warn", "unknown logger level"),
        ("?x=info", "unknown logger name"),
        ("?paths=admin:debug,foo:info", "unknown logger name"),
        ("?group=admin:debug", "group parameter requires fine-grain logging to be enabled"),
        ("?paths=admin", "empty logger name or empty logger level"),
        ("?level=info&paths=admin:debug", "invalid number of parameters"),
    ] {
        let (status, body) = call(&mut process, "POST", &format!("/logging{target}"));
        assert_eq!(status, 400, "{target}");
        assert!(body.starts_with(&format!("error: {error}\n\nusage: /logging?<name>=<level>")), "{body}");
        assert!(body.ends_with(list), "{body}");
    }
    assert!(process.commands.is_empty());
    let (_, body) = call(&mut process, "POST", "/logging?paths=admin:debug,main:trace");
    assert!(body.contains("admin: debug"));
    call(&mut process, "POST", "/logging?level=warning");
    call(&mut process, "POST", "/logging?main=off");
    assert_eq!(
        process.commands,
        [
            AdminCommand::SetLogLevels(vec![("admin", "debug"), ("main", "trace")]),
            AdminCommand::SetAllLogLevels("warning"),
            AdminCommand::SetLogLevels(vec![("main", "off")]),
        ]
    );
}

#[test]
fn facts_about_the_process() {
    let (_, body) = get("/server_info");
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["state"], "LIVE");
    assert_eq!(json["uptime_current_epoch"], "2s");
    assert_eq!(json["command_line_options"]["base_id"], "0");
    assert!(body.starts_with("{\n \"version\": \"0/1.40.0/Clean/RELEASE/x\",\n \"state\""), "{body}");
    assert!(get("/memory").1.starts_with("{\n \"allocated\": \"5\",\n \"heap_size\": \"0\""));
    assert_eq!(get("/init_dump"), (200, "{}\n".to_owned()));
    assert_eq!(get("/hot_restart_version"), (200, "disabled".to_owned()));
    assert_eq!(get("/heap_dump").0, 501);
    let index = get("/").1;
    assert!(index.starts_with("<!DOCTYPE html>") && index.contains("<a href=\"/stats\">"), "{index}");
    assert!(index.contains("<form method=\"post\" action=\"/quitquitquit\">"));
}
