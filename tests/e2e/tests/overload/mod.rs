//! The overload manager: a pressure written to a file drives every action and load shed point.

pub(crate) mod actions;
pub(crate) mod connections;
pub(crate) mod memory;
pub(crate) mod points;

use std::fmt::Write as _;

use millrace_support::bootstrap::Bootstrap;
use millrace_support::process::{Directory, Proxy};
use millrace_support::raw::Client;
use millrace_support::wait;

pub(crate) const MONITOR: &str = "envoy.resource_monitors.injected_resource";
/// Where connections of the one listener are counted.
pub(crate) const LISTENER: &str = "listener.127.0.0.1_0";
pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const TYPE: &str = "type.googleapis.com/envoy.extensions.resource_monitors";

/// The file that says how hard the subject is pressed.
pub(crate) struct Pressure(Directory);

impl Pressure {
    pub(crate) fn none() -> Self {
        let directory = Directory::new();
        directory.write("pressure", "0");
        Self(directory)
    }

    /// `overload_manager` with this monitor and these fields besides.
    pub(crate) fn manager(&self, more_monitors: &str, fields: &str) -> String {
        let file = self.0.path().join("pressure");
        let mut out = format!(
            "overload_manager:\n  refresh_interval: 0.05s\n  resource_monitors:\n  - name: {MONITOR}\n    typed_config: \
             {{'@type': {TYPE}.injected_resource.v3.InjectedResourceConfig, filename: {}}}\n",
            file.display()
        );
        for line in more_monitors.lines().chain(fields.lines()) {
            let _ = writeln!(out, "  {line}");
        }
        out
    }

    /// Presses the subject so hard and waits until it knows.
    #[track_caller]
    pub(crate) fn set(&self, proxy: &Proxy, pressure: f64) {
        let next = self.0.write("next", &pressure.to_string());
        // Envoy sees files only that are moved into place.
        std::fs::rename(next, self.0.path().join("pressure")).expect("move a file");
        proxy.wait_stat(&format!("overload.{MONITOR}.pressure"), (pressure * 100.0).round() as u64);
        // Workers learn it a moment after the main thread.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// One action or point that is saturated from 0.9 on.
pub(crate) fn at_90(name: &str, more: &str) -> String {
    format!("- {{name: {name}, triggers: [{{name: {MONITOR}, threshold: {{value: 0.9}}}}]{more}}}\n")
}

pub(crate) fn with_action(pressure: &Pressure, action: &str) -> String {
    let action = at_90(&format!("envoy.overload_actions.{action}"), "");
    pressure.manager("", &format!("actions:\n{action}"))
}

pub(crate) fn with_point(pressure: &Pressure, point: &str) -> String {
    let point = at_90(&format!("envoy.load_shed_points.{point}"), "");
    pressure.manager("", &format!("loadshed_points:\n{point}"))
}

/// Sheds counted at a point.
pub(crate) fn sheds(proxy: &Proxy, point: &str) -> Option<u64> {
    proxy.stat(&format!("overload.envoy.load_shed_points.{point}.shed_load_count"))
}

pub(crate) fn forward(upstream: &millrace_support::upstream::Upstream, manager: &str) -> Bootstrap {
    Bootstrap::forward(upstream.address()).top(manager)
}

/// A new client is served, as soon as the workers know.
#[track_caller]
pub(crate) fn serves_again(proxy: &Proxy) {
    let listener = proxy.listener("main");
    let mut last = String::new();
    let served = wait::until(wait::PATIENCE, || {
        match Client::try_connect(listener) {
            Ok(mut client) => {
                client.send(GET);
                match client.response("GET") {
                    Ok(response) if response.status == 200 => return Some(()),
                    Ok(response) => last = format!("status {}", response.status),
                    Err(fault) => last = fault.to_string(),
                }
            }
            Err(error) => last = error.to_string(),
        }
        None
    });
    assert!(served.is_some(), "nobody is served again: {last}\n{}", proxy.admin_get("/stats").text());
}
