//! Bounds on downstream connections that all workers share.

use std::process::Command;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Proxy};
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

use super::{LISTENER, Pressure, TYPE, at_90, forward};

pub(crate) const CASES: &[Case] = &[
    case!(no_more_than_the_bound_whoever_accepts_them),
    case!(a_listener_may_ignore_the_bound),
    case!(connections_drive_actions),
    case!(the_runtime_bounds_the_process),
    case!(the_runtime_bounds_a_listener),
    case!(files_bound_connections_by_default, not_envoy: "its default is no bound"),
    case!(the_default_can_be_switched_off, not_envoy: "a flag of our own"),
];

const NAME: &str = "envoy.resource_monitors.global_downstream_max_connections";
const TWO: [&str; 2] = ["--concurrency", "2"];

fn bounded(max: u32) -> String {
    let kind = format!("{TYPE}.downstream_connections.v3.DownstreamConnectionsConfig");
    format!("- name: {NAME}\n  typed_config: {{'@type': {kind}, max_active_downstream_connections: {max}}}\n")
}

/// As many connections as are served, of so many that are opened one after the other.
fn served(proxy: &Proxy, attempts: usize) -> Vec<Client> {
    let mut open = Vec::new();
    for _ in 0..attempts {
        let mut client = proxy.client();
        if client.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_ok() && client.response("GET").is_ok() {
            open.push(client);
        }
    }
    open
}

fn no_more_than_the_bound_whoever_accepts_them(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = Proxy::start_with(subject, &forward(&upstream, &pressure.manager(&bounded(5), "")), &TWO);
    for round in 1..=3 {
        let open = served(&proxy, 9);
        assert_eq!(open.len(), 5);
        proxy.wait_stat(&format!("{LISTENER}.downstream_global_cx_overflow"), 4 * round);
        proxy.wait_stat(&format!("overload.{NAME}.pressure"), 100);
        proxy.wait_stat(&format!("overload.{NAME}.failed_updates"), 4 * round);
        drop(open);
        proxy.wait_stat(&format!("overload.{NAME}.pressure"), 0);
    }
}

fn a_listener_may_ignore_the_bound(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    for field in ["ignore_global_conn_limit: true", "bypass_overload_manager: true"] {
        let http = Http::to("up").listener(field);
        let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
        let proxy = Proxy::start(subject, &bootstrap.top(&pressure.manager(&bounded(2), "")));
        assert_eq!(served(&proxy, 6).len(), 6, "{field}");
    }
}

fn connections_drive_actions(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let action = at_90("envoy.overload_actions.stop_accepting_requests", "");
    let actions = format!("actions:\n{}", action.replace(super::MONITOR, NAME));
    let proxy = Proxy::start(subject, &forward(&upstream, &pressure.manager(&bounded(3), &actions)));
    let mut open: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    proxy.wait_stat(&format!("overload.{NAME}.pressure"), 100);
    millrace_support::wait::for_true("requests are refused", || open[0].get("/").status == 503);
    open.truncate(1);
    proxy.wait_stat(&format!("overload.{NAME}.pressure"), 33);
    millrace_support::wait::for_true("requests are served", || open[0].get("/").status == 200);
}

fn runtime(key: &str, value: u32) -> String {
    format!("layered_runtime: {{layers: [{{name: s, static_layer: {{{key}: {value}}}}}]}}\n")
}

fn the_runtime_bounds_the_process(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    // Envoy's admin endpoint counts, too.
    let admin = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}, ignore_global_conn_limit: true}\n";
    let bound = runtime("overload.global_downstream_max_connections", 4);
    let bootstrap = Bootstrap::forward(upstream.address()).top(admin).top(&bound);
    let proxy = Proxy::start_with(subject, &bootstrap, &TWO);
    assert_eq!(served(&proxy, 7).len(), 4);
    proxy.wait_stat(&format!("{LISTENER}.downstream_global_cx_overflow"), 3);
}

fn the_runtime_bounds_a_listener(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let bound = runtime("envoy.resource_limits.listener.main.connection_limit", 3);
    let proxy = Proxy::start_with(subject, &Bootstrap::forward(upstream.address()).top(&bound), &TWO);
    let open = served(&proxy, 7);
    assert_eq!(open.len(), 3);
    proxy.wait_stat(&format!("{LISTENER}.downstream_cx_overflow"), 4);
    drop(open);
    proxy.wait_stat(&format!("{LISTENER}.downstream_cx_active"), 0);
    assert_eq!(served(&proxy, 7).len(), 3);
}

/// With 160 files, 48 connections leave room for as many to endpoints.
fn files_bound_connections_by_default(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let directory = Directory::new();
    let config = directory.write("bootstrap.yaml", &Bootstrap::forward(upstream.address()).yaml());
    let own = subject.command();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 160 && exec \"$0\" \"$@\""]).arg(own.get_program()).args(own.get_args());
    command.arg("-c").arg(config).args(TWO);
    let proxy = Proxy::launch(command, directory);
    for round in 1..=3 {
        let open = served(&proxy, 60);
        assert_eq!(open.len(), 48);
        proxy.wait_stat(&format!("{LISTENER}.downstream_global_cx_overflow"), 12 * round);
        drop(open);
        proxy.wait_stat(&format!("{LISTENER}.downstream_cx_active"), 0);
    }
    assert_eq!(proxy.stat("cluster.up.upstream_cx_connect_fail"), Some(0));
}

fn the_default_can_be_switched_off(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let arguments = ["--concurrency", "1", "--default-overload", "off"];
    let proxy = Proxy::start_with(subject, &Bootstrap::forward(upstream.address()), &arguments);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(proxy.stat(&format!("overload.{NAME}.failed_updates")), None);
    drop(client);
    assert!(!matches!(proxy.client().end_within(std::time::Duration::from_millis(200)), End::Reset));
}
