//! Access logs: formats, operators, filters, sinks.

use std::path::PathBuf;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;
use serde_json::Value;

pub(crate) const CASES: &[Case] = &[
    case!(default_format),
    case!(json_format),
    case!(text_operators),
    case!(status_code_filter),
    case!(header_filter),
    case!(response_flag_filter),
    case!(combined_filters),
    case!(two_logs),
    case!(stdout_and_stderr),
    case!(listener_access_log),
];

const FILE: &str = "\"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

/// A file log under `name` with more fields of the logger and, at its side, a filter.
fn file(name: &str, format: &str, filter: &str) -> String {
    let mut out = format!(
        "- name: envoy.access_loggers.file\n  typed_config:\n    {FILE}\n    path: \"@DIR@/{name}\"\n"
    );
    if !format.is_empty() {
        out.push_str(&format!("    log_format: {format}\n"));
    }
    if !filter.is_empty() {
        out.push_str(&format!("  filter: {filter}\n"));
    }
    out
}

fn start(subject: &Subject, upstream: &Upstream, logs: &str) -> Proxy {
    let http = Http::to("up").without_log().hcm(&format!("access_log:\n{logs}"));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn lines(proxy: &Proxy, name: &str, count: usize) -> Vec<String> {
    let path: PathBuf = proxy.directory().join(name);
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    wait::for_true(&format!("{count} lines in {name}"), || read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}

/// A format of one inline string.
fn text(format: &str) -> String {
    format!("{{text_format_source: {{inline_string: \"{format}\\n\"}}}}")
}

fn default_format(subject: &Subject) {
    let upstream = Upstream::fixed("body");
    let proxy = start(subject, &upstream, &file("log", "", ""));
    proxy.client().get_with(
        "/p?q",
        &[("user-agent", "test/1"), ("x-request-id", "the-id"), ("x-forwarded-for", "9.9.9.9")],
    );
    let line = lines(&proxy, "log", 1).remove(0);
    let (time, rest) = line.split_once("] ").unwrap_or_default();
    assert!(time.len() == 25 && time.starts_with("[20") && time.ends_with('Z'), "{line}");
    assert!(rest.starts_with("\"GET /p?q HTTP/1.1\" 200 - 0 4 "), "{line}");
    let tail = format!(" \"9.9.9.9\" \"test/1\" \"the-id\" \"test.local\" \"{}\"", upstream.address());
    assert!(rest.ends_with(&tail), "{line}");
    let durations: Vec<&str> = rest["\"GET /p?q HTTP/1.1\" 200 - 0 4 ".len()..].split(' ').take(2).collect();
    assert!(durations.iter().all(|d| d.parse::<u64>().is_ok()), "{line}");
}

fn json_format(subject: &Subject) {
    let upstream = Upstream::fixed("body");
    let format = "{json_format: {code: \"%RESPONSE_CODE%\", text: \"is %PROTOCOL%\", absent: \"%REQ(X-NONE)%\", nested: {tx: \"%BYTES_SENT%\"}}}";
    let proxy = start(subject, &upstream, &file("log", format, ""));
    proxy.client().get("/");
    let parsed: Value = serde_json::from_str(&lines(&proxy, "log", 1)[0]).expect("a line of JSON");
    let expected =
        serde_json::json!({"code": 200, "text": "is HTTP/1.1", "absent": null, "nested": {"tx": 4}});
    assert_eq!(parsed, expected);
}

fn text_operators(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::with(200, &[("x-from", "origin")], b"body"));
    let operators = [
        "%REQ(X-NONE?X-OWN)%",
        "%REQ(X-OWN):3%",
        "%RESP(X-FROM)%",
        "%REQ(:METHOD)% %REQ(:AUTHORITY)% %REQ(:SCHEME)%",
        "%START_TIME(%Y)%",
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        "%DOWNSTREAM_LOCAL_ADDRESS%",
        "%UPSTREAM_HOST%",
        "%UPSTREAM_CLUSTER%",
        "%UPSTREAM_PROTOCOL%",
        "%RESPONSE_CODE_DETAILS%",
        "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
        "%REQUEST_HEADERS_BYTES% %DURATION%",
        "100%%",
        "%CONNECTION_ID%",
    ];
    let proxy = start(subject, &upstream, &file("log", &text(&operators.join("|")), ""));
    proxy.client().get_with("/", &[("x-own", "mine!")]);
    let line = lines(&proxy, "log", 1).remove(0);
    let fields: Vec<&str> = line.split('|').collect();
    let (local, up) = (proxy.listener("main").to_string(), upstream.address().to_string());
    let expected = ["mine!", "min", "origin", "GET test.local http"];
    assert_eq!(fields[..4], expected, "{line}");
    assert!(fields[4].parse::<u32>().is_ok_and(|year| year >= 2024), "{line}");
    let expected = ["127.0.0.1", "127.0.0.1", &local, &up, "up", "HTTP/1.1", "via_upstream", "- -"];
    assert_eq!(fields[5..13], expected, "{line}");
    assert!(fields[13].split(' ').all(|n| n.parse::<u64>().is_ok()), "{line}");
    assert_eq!(fields[14], "100%", "{line}");
    assert!(fields[15].parse::<u64>().is_ok(), "{line}");
}

fn by_target() -> Upstream {
    Upstream::start(|request| match request.target.as_str() {
        "/500" => Reply::status(500),
        "/404" => Reply::status(404),
        "/reset" => Reply::reset(),
        _ => Reply::ok("x"),
    })
}

/// Requests `/`, `/404`, `/500` and `/reset`, and gives the paths that were logged.
fn logged(subject: &Subject, filter: &str) -> Vec<String> {
    let upstream = by_target();
    let logs = file("log", &text("%REQ(:PATH)%"), filter) + &file("all", &text("%REQ(:PATH)%"), "");
    let proxy = start(subject, &upstream, &logs);
    let mut client = proxy.client();
    for target in ["/", "/404", "/500", "/reset"] {
        client.get_with(target, &[("x-mark", if target == "/404" { "yes" } else { "no" })]);
    }
    lines(&proxy, "all", 4);
    std::thread::sleep(std::time::Duration::from_millis(100));
    lines(&proxy, "log", 0)
}

const SERVER_ERRORS: &str =
    "status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: k}}}";
const MARKED: &str = "header_filter: {header: {name: x-mark, string_match: {exact: \"yes\"}}}";

fn status_code_filter(subject: &Subject) {
    assert_eq!(logged(subject, &format!("{{{SERVER_ERRORS}}}")), ["/500", "/reset"]);
}

fn header_filter(subject: &Subject) {
    assert_eq!(logged(subject, &format!("{{{MARKED}}}")), ["/404"]);
}

fn response_flag_filter(subject: &Subject) {
    assert_eq!(logged(subject, "{response_flag_filter: {flags: [UC]}}"), ["/reset"]);
    assert_eq!(logged(subject, "{response_flag_filter: {}}"), ["/reset"]);
}

fn combined_filters(subject: &Subject) {
    let both = format!("filters: [{{{SERVER_ERRORS}}}, {{{MARKED}}}]");
    assert_eq!(logged(subject, &format!("{{or_filter: {{{both}}}}}")), ["/404", "/500", "/reset"]);
    assert!(logged(subject, &format!("{{and_filter: {{{both}}}}}")).is_empty());
    assert_eq!(logged(subject, "{not_health_check_filter: {}}").len(), 4);
}

fn two_logs(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let logs = file("one", &text("1 %REQ(:PATH)%"), "") + &file("two", &text("2 %REQ(:PATH)%"), "");
    let proxy = start(subject, &upstream, &logs);
    proxy.client().get("/a");
    assert_eq!(
        (lines(&proxy, "one", 1), lines(&proxy, "two", 1)),
        (vec!["1 /a".to_owned()], vec!["2 /a".to_owned()])
    );
}

fn stdout_and_stderr(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let stream = |kind: &str, name: &str| {
        let url = format!("type.googleapis.com/envoy.extensions.access_loggers.stream.v3.{kind}");
        let format = text(&format!("to-{name} %REQ(:PATH)%"));
        format!("- name: {name}\n  typed_config:\n    \"@type\": {url}\n    log_format: {format}\n")
    };
    let logs = stream("StdoutAccessLog", "stdout") + &stream("StderrAccessLog", "stderr");
    let proxy = start(subject, &upstream, &logs);
    proxy.client().get("/a");
    assert_eq!(lines(&proxy, "stdout", 1), ["to-stdout /a"]);
    wait::for_true("the line on stderr", || proxy.stderr().lines().any(|l| l == "to-stderr /a"));
}

/// The listener's own log has one line for each connection.
fn listener_access_log(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let log = format!("access_log:\n{}", file("log", &text("%PROTOCOL% %BYTES_RECEIVED%"), ""));
    let http = Http::to("up").without_log().listener(&log);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    for _ in 0..2 {
        let mut client = proxy.client();
        client.get("/");
        client.get("/");
    }
    assert_eq!(lines(&proxy, "log", 2).len(), 2);
}
