//! Active health checks: what is asked, what the answers change, and who notices. Each case holds for Envoy, too.

mod endpoint;
mod filter;
pub(crate) mod membership;
pub(crate) mod protocols;
mod secure;
pub(crate) mod thresholds;

pub(crate) use filter::CASES as FILTER;
pub(crate) use membership::CASES as MEMBERSHIP;
pub(crate) use protocols::CASES as PROTOCOLS;
pub(crate) use secure::CASES as SECURE;
pub(crate) use thresholds::CASES as THRESHOLDS;

use std::net::SocketAddr;

use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::wait;

/// Short times; two of each threshold.
const TIMES: &str = "timeout: 0.4s, interval: 0.05s, no_traffic_interval: 0.05s, unhealthy_threshold: 2, \
                     healthy_threshold: 2";

/// The cluster's fields for such checks, and others besides.
fn fields(check: &str, more: &str) -> String {
    format!("health_checks: [{{{TIMES}, {check}}}]\n{more}")
}

fn bootstrap(endpoints: &[SocketAddr], check: &str, more: &str) -> Bootstrap {
    Bootstrap::new().http(Http::to("up")).cluster("up", endpoints, &fields(check, more))
}

/// A proxy whose cluster `up` is checked.
fn checked(subject: &Subject, endpoints: &[SocketAddr], check: &str, more: &str) -> Proxy {
    Proxy::start(subject, &bootstrap(endpoints, check, more))
}

/// What `/clusters` says of an endpoint.
fn flags(proxy: &Proxy, endpoint: SocketAddr) -> String {
    let head = format!("up::{endpoint}::health_flags::");
    let text = proxy.admin_get("/clusters").text();
    text.lines().find_map(|line| line.strip_prefix(&head)).unwrap_or("missing").to_owned()
}

#[track_caller]
fn wait_flags(proxy: &Proxy, endpoint: SocketAddr, wanted: &str) {
    let mut last = String::new();
    let met = wait::until(wait::PATIENCE, || {
        last = flags(proxy, endpoint);
        (last == wanted).then_some(())
    });
    assert!(met.is_some(), "waited for {wanted}, the flags are {last}");
}

/// A counter or gauge of the checks; 0 when it does not exist.
fn stat(proxy: &Proxy, name: &str) -> u64 {
    proxy.stat(&format!("cluster.up.health_check.{name}")).unwrap_or(0)
}

#[track_caller]
fn wait_for_more(proxy: &Proxy, name: &str, more: u64) {
    let before = stat(proxy, name);
    wait::for_true(&format!("{more} more of {name}"), || stat(proxy, name) >= before + more);
}
