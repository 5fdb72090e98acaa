//! HTTP filters that delay, refuse, pace and rewrite.

pub(crate) mod admission;
pub(crate) mod bandwidth;
pub(crate) mod buffer;
pub(crate) mod compression;
pub(crate) mod connections;
pub(crate) mod custom_matchers;
pub(crate) mod custom_response;
pub(crate) mod decompression;
pub(crate) mod fault;
pub(crate) mod json;
pub(crate) mod metadata;
pub(crate) mod origins;
pub(crate) mod rate_limit;
pub(crate) mod replies;
pub(crate) mod rewrite;
pub(crate) mod sessions;

use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

/// A route that answers `hello` itself.
const DIRECT: &str = "direct_response: {status: 200, body: {inline_string: hello}}";
/// A route to the upstream.
const FORWARD: &str = "route: {cluster: up}";

/// `http_filters`: these `(name, type, fields)` and the router. A type is `fault.v3.HTTPFault`.
pub(crate) fn chain(filters: &[(&str, &str, &str)]) -> String {
    let mut out = String::from("http_filters:\n");
    for (name, kind, fields) in filters.iter().chain(&[("router", "router.v3.Router", "")]) {
        out.push_str(&format!("- name: {name}\n  typed_config: {}\n", any(kind, fields)));
    }
    out
}

/// A configuration as flow YAML.
fn any(kind: &str, fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { ", " };
    format!("{{\"@type\": type.googleapis.com/envoy.extensions.filters.http.{kind}{comma}{fields}}}")
}

/// A route for a prefix with a configuration of the filter `name`.
fn route(prefix: &str, action: &str, name: &str, kind: &str, fields: &str) -> String {
    let config = any(kind, fields);
    format!(
        "- match: {{prefix: \"{prefix}\"}}\n  {action}\n  typed_per_filter_config: {{{name}: {config}}}\n"
    )
}

/// A route for everything else.
fn rest(action: &str) -> String {
    format!("- match: {{prefix: \"/\"}}\n  {action}\n")
}

fn start(subject: &Subject, filters: &[(&str, &str, &str)], routes: &str, upstream: &Upstream) -> Proxy {
    let http = Http::routes(routes).hcm(&chain(filters));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

/// For everybody.
const ALL: &str = "{default_value: {numerator: 100}}";
