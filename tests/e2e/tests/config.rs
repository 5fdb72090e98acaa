//! The command line and the bootstrap: how they are read, merged, and refused.

use std::io::Write;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Finished, Proxy, run};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

pub(crate) const CASES: &[Case] = &[
    case!(validate_accepts),
    case!(validate_binds_nothing),
    case!(version),
    case!(flag_and_value_in_one_argument),
    case!(unknown_flag),
    case!(nothing_configured),
    case!(fifo),
    case!(yaml_from_the_command_line),
    case!(yaml_merges_over_the_file),
    case!(json_file_in_camel_case),
    case!(bad_configurations_end_with_code_1),
    case!(bad_configurations_say_why_in_one_line, not_envoy: "Envoy's messages span lines and log levels"),
    case!(port_in_use),
    case!(unreadable_admin_address_path),
];

/// Runs with these arguments to the end.
fn call(subject: &Subject, arguments: &[&str]) -> Finished {
    let mut command = subject.command();
    command.args(arguments).args(["--disable-hot-restart", "--log-level", "warning"]);
    run(command)
}

pub(crate) fn with_file(subject: &Subject, name: &str, text: &str, arguments: &[&str]) -> Finished {
    let directory = Directory::new();
    let path = directory.write(name, text);
    let path = path.to_string_lossy().into_owned();
    call(subject, &[&["-c", &path], arguments].concat())
}

fn direct() -> Bootstrap {
    Bootstrap::new().http(Http::routes(
        "- match: {prefix: \"/\"}\n  direct_response: {status: 200, body: {inline_string: hi}}\n",
    ))
}

fn validate_accepts(subject: &Subject) {
    let finished = with_file(subject, "good.yaml", &direct().yaml(), &["--mode", "validate"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("good.yaml' OK"), "{finished:?}");
}

fn validate_binds_nothing(subject: &Subject) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().map(|a| a.port()).unwrap_or_default();
    let yaml = direct().yaml().replace("port_value: 0", &format!("port_value: {port}"));
    assert_eq!(with_file(subject, "taken.yaml", &yaml, &["--mode", "validate"]).code, Some(0));
}

fn version(subject: &Subject) {
    let mut command = subject.command();
    command.arg("--version");
    let finished = run(command);
    assert_eq!(finished.code, Some(0));
    let version = finished.stdout.split_once("version: ").map(|(_, v)| v.trim()).unwrap_or("");
    assert_eq!(version.split('/').count(), 5, "{finished:?}");
    let number = version.split('/').nth(1).unwrap_or("");
    assert_eq!(number.split('.').filter(|p| p.parse::<u32>().is_ok()).count(), 3, "{finished:?}");
}

fn flag_and_value_in_one_argument(subject: &Subject) {
    let directory = Directory::new();
    let config = directory.write("bootstrap.yaml", &direct().yaml());
    let mut command = subject.command();
    command.arg("-c").arg(config).args(["--concurrency 1", "--service-cluster c", "--service-node n"]);
    let proxy = Proxy::launch(command, directory);
    let info = proxy.admin_get("/server_info").text();
    assert!(info.contains("\"concurrency\": 1"), "{info}");
    assert_eq!(proxy.client().get("/").text(), "hi");
}

fn unknown_flag(subject: &Subject) {
    let finished = call(subject, &["--no-such-flag"]);
    assert_eq!(finished.code, Some(1));
    assert!(format!("{}{}", finished.stdout, finished.stderr).contains("no-such-flag"), "{finished:?}");
}

fn nothing_configured(subject: &Subject) {
    assert_eq!(call(subject, &[]).code, Some(1));
}

fn fifo(subject: &Subject) {
    let directory = Directory::new();
    let path = directory.path().join("bootstrap.yaml");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    let yaml = direct().yaml().replace("@DIR@", &directory.path().to_string_lossy());
    let target = path.clone();
    let writer = std::thread::spawn(move || {
        std::fs::File::create(target).and_then(|mut f| f.write_all(yaml.as_bytes()))
    });
    let mut command = subject.command();
    command.arg("--config-path").arg(path).args(["--concurrency", "1"]);
    let proxy = Proxy::launch(command, directory);
    assert!(writer.join().is_ok_and(|r| r.is_ok()));
    assert_eq!(proxy.client().get("/").text(), "hi");
}

fn yaml_from_the_command_line(subject: &Subject) {
    let directory = Directory::new();
    let yaml = direct().yaml().replace("@DIR@", &directory.path().to_string_lossy());
    let mut command = subject.command();
    command.args(["--config-yaml", &yaml, "--concurrency", "1"]);
    assert_eq!(Proxy::launch(command, directory).client().get("/").text(), "hi");
}

fn yaml_merges_over_the_file(subject: &Subject) {
    let directory = Directory::new();
    let config =
        directory.write("bootstrap.yaml", &direct().top("node: {id: from-file, cluster: kept}").yaml());
    let mut command = subject.command();
    command.arg("-c").arg(config);
    command.args([
        "--config-yaml",
        "{node: {id: from-flag}, layered_runtime: {layers: [{name: extra, static_layer: {a: 1}}]}}",
        "--concurrency",
        "1",
    ]);
    let proxy = Proxy::launch(command, directory);
    let dump = proxy.admin_get("/config_dump").text();
    assert!(dump.contains("\"id\": \"from-flag\"") && dump.contains("\"cluster\": \"kept\""));
    assert!(proxy.admin_get("/runtime").text().contains("extra"));
    assert_eq!(proxy.client().get("/").text(), "hi");
}

fn json_file_in_camel_case(subject: &Subject) {
    let upstream = Upstream::fixed("json");
    let port = upstream.address().port();
    let text = format!(
        r#"{{"admin": {{"address": {{"socketAddress": {{"address": "127.0.0.1", "portValue": 0}}}}}},
        "staticResources": {{
          "listeners": [{{"name": "main", "address": {{"socketAddress": {{"address": "127.0.0.1", "portValue": "0"}}}},
            "filterChains": {{"filters": {{"name": "tcp", "typedConfig": {{
              "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
              "statPrefix": "main", "cluster": "up", "idleTimeout": "3.5s"}}}}}}}}],
          "clusters": [{{"name": "up", "connectTimeout": "1s", "loadAssignment": {{"cluster_name": "up", "endpoints":
            [{{"lbEndpoints": [{{"endpoint": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {port}}}}}}}}}]}}]}}}}]}}}}"#
    );
    let directory = Directory::new();
    let config = directory.write("bootstrap.json", &text);
    let mut command = subject.command();
    command.arg("-c").arg(config).args(["--concurrency", "1"]);
    assert_eq!(Proxy::launch(command, directory).client().get("/").text(), "json");
}

/// Name, document, and a word that the message must contain.
fn bad_configurations() -> Vec<(&'static str, String, &'static str)> {
    let routed = |route: &str| Bootstrap::new().http(Http::routes(route)).yaml();
    let good = direct().yaml();
    let line = good.lines().find(|l| l.trim_start().starts_with("stat_prefix:")).unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    vec![
        ("not-yaml.yaml", "a: [".into(), "not-yaml.yaml"),
        ("bad.json", "{\"a\":".into(), "bad.json"),
        ("unknown-field.yaml", good.replace("static_resources:", "statik_resources:"), "statik_resources"),
        (
            "deep-field.yaml",
            good.replace("stat_prefix:", &format!("stat_prefixx: 1\n{indent}stat_prefix:")),
            "stat_prefixx",
        ),
        ("type-url.yaml", good.replace("router.v3.Router", "router.v3.Rooter"), "Rooter"),
        ("missing-cluster.yaml", routed("- match: {prefix: \"/\"}\n  route: {cluster: absent}\n"), "absent"),
        (
            "bad-regex.yaml",
            routed("- match: {safe_regex: {regex: \"(\"}}\n  direct_response: {status: 200}\n"),
            "(",
        ),
        ("bad-duration.yaml", direct().cluster("up", &[], "connect_timeout: soon").yaml(), "connect_timeout"),
        ("negative.yaml", direct().cluster("up", &[], "connect_timeout: -1s").yaml(), "connect_timeout"),
        (
            "bad-address.yaml",
            good.replace(
                "address: 127.0.0.1, port_value: 0}}\n    filter",
                "address: not-an-ip, port_value: 0}}\n    filter",
            ),
            "not-an-ip",
        ),
        ("bad-status.yaml", routed("- match: {prefix: \"/\"}\n  direct_response: {status: 99}\n"), "status"),
        ("bad-format.yaml", good.replace("%RESPONSE_CODE%", "%NO_SUCH_OPERATOR%"), "NO_SUCH_OPERATOR"),
    ]
}

fn bad_configurations_end_with_code_1(subject: &Subject) {
    for (name, text, _) in bad_configurations() {
        for mode in [&["--mode", "serve"], &["--mode", "validate"]] {
            let finished = with_file(subject, name, &text, mode);
            assert_eq!(finished.code, Some(1), "{name}: {finished:?}");
        }
    }
    assert_eq!(call(subject, &["-c", "/nonexistent/file.yaml"]).code, Some(1));
}

fn bad_configurations_say_why_in_one_line(subject: &Subject) {
    for (name, text, word) in bad_configurations() {
        let finished = with_file(subject, name, &text, &[]);
        assert_eq!(finished.stderr.lines().count(), 1, "{name}: {finished:?}");
        assert!(finished.stderr.contains(word) && finished.stderr.contains(name), "{name}: {finished:?}");
    }
    let missing = call(subject, &["-c", "/nonexistent/file.yaml"]);
    assert_eq!(missing.stderr.lines().count(), 1, "{missing:?}");
    assert!(missing.stderr.contains("/nonexistent/file.yaml"), "{missing:?}");
}

fn port_in_use(subject: &Subject) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().map(|a| a.port()).unwrap_or_default();
    let yaml = direct().yaml();
    let at = yaml.rfind("port_value: 0").unwrap_or_default();
    let yaml = format!("{}port_value: {port}{}", &yaml[..at], &yaml[at + "port_value: 0".len()..]);
    let finished = with_file(subject, "taken.yaml", &yaml, &[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&port.to_string()), "{finished:?}");
    assert!(finished.stderr.contains("Address already in use"), "{finished:?}");
}

fn unreadable_admin_address_path(subject: &Subject) {
    let directory = Directory::new();
    let config = directory.write("bootstrap.yaml", &direct().yaml());
    let mut command = subject.command();
    command.arg("-c").arg(config);
    command.args([
        "--admin-address-path",
        "/nonexistent/file",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]);
    command.arg("--concurrency").arg("1");
    // Not fatal: the file is a courtesy to whoever started the process.
    let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("start the subject");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(matches!(child.try_wait(), Ok(None)), "ended");
    let _ = child.kill();
    let _ = child.wait();
}
