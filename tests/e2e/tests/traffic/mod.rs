//! What routes do to the traffic besides forwarding it: copies, redirects, retries, hedges, timeouts, breakers.

pub(crate) mod breakers;
pub(crate) mod counted;
pub(crate) mod drops;
pub(crate) mod hedging;
pub(crate) mod mirror;
pub(crate) mod redirects;
pub(crate) mod retries;
mod scripted;
pub(crate) mod timeouts;
pub(crate) mod tracked;

use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;

/// Routes to clusters with one endpoint each, in this order; `(name, endpoint, fields)`.
fn start(subject: &Subject, routes: &str, clusters: &[(&str, std::net::SocketAddr, &str)]) -> Proxy {
    start_http(subject, Http::routes(routes), clusters)
}

fn start_http(subject: &Subject, http: Http, clusters: &[(&str, std::net::SocketAddr, &str)]) -> Proxy {
    let bootstrap =
        clusters.iter().fold(Bootstrap::new().http(http), |bootstrap, (name, endpoint, fields)| {
            bootstrap.cluster(name, &[*endpoint], fields)
        });
    Proxy::start(subject, &bootstrap)
}

/// A route for a prefix; `action` are fields of the `RouteAction` as flow YAML.
fn route(prefix: &str, action: &str) -> String {
    format!("- match: {{prefix: \"{prefix}\"}}\n  route: {{{action}}}\n")
}
