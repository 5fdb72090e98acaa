//! HTTP/2 on either side of the proxy.

pub(crate) mod bad;
pub(crate) mod errors;
pub(crate) mod floods;
pub(crate) mod grpc;
pub(crate) mod grpc_rules;
pub(crate) mod interop;
pub(crate) mod lifecycle;
pub(crate) mod observe;
pub(crate) mod pairs;
pub(crate) mod spec;
pub(crate) mod streams;
pub(crate) mod upgrades;
pub(crate) mod upstreams;
mod vectors;

use millrace_support::any::{Origin, Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;

/// Fields of a cluster that speaks `version`.
fn cluster(version: Version) -> String {
    match version {
        Version::Http1 => String::new(),
        Version::Http2 => http2_cluster(""),
    }
}

/// A proxy in front of one origin; `hcm` are more fields of the connection manager.
#[track_caller]
fn start(subject: &Subject, origin: &Origin, hcm: &str) -> Proxy {
    let version = match origin {
        Origin::Http1(_) => Version::Http1,
        Origin::Http2(_) => Version::Http2,
    };
    let http = Http::to("up").hcm(hcm);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[origin.address()], &cluster(version)))
}

/// Resident memory of a process in KiB.
fn rss_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
