//! Envoy's admin interface as a pure function: a request and a view of the process in, a response out.
//!
//! Read [`state`] first (what the process must be able to answer and do), then `endpoint` (the table of
//! paths) and the module of the endpoint in question. Nothing here opens a socket, reads a clock or keeps
//! state; `date`, `server` and framing headers are the HTTP server's.

mod clusters;
mod config_dump;
mod endpoint;
mod html;
mod info;
mod json;
mod listeners;
mod logging;
mod mask;
mod mutations;
mod query;
mod response;
pub mod state;
mod stats;

pub use query::Query;
pub use response::Response;
pub use state::{
    AdminCommand, AdminState, ClusterStatus, ConfigSection, HistogramBuckets, HostChecks, HostStats,
    HostStatus, ListenerStatus, LoggerStatus, Memory, RuntimeEntry, RuntimeView, ServerState, StatType,
    StatsFormat, StatsQuery,
};

/// One admin request. `path_and_query` is the request target as received, nothing decoded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST` ...
    pub method: &'a str,
    /// Origin-form target, for example `/stats?filter=^a\|b$`.
    pub path_and_query: &'a str,
    /// The request body (form values of `/runtime_modify`).
    pub body: &'a [u8],
}

/// Answers one request. Never fails: what is wrong with the request becomes a 4xx response in Envoy's words.
pub fn handle(request: &Request<'_>, state: &mut dyn AdminState) -> Response {
    let (path, query) = match request.path_and_query.split_once('?') {
        Some((path, query)) => (path, query),
        None => (request.path_and_query, ""),
    };
    let path = query::normalize_path(path.split('#').next().unwrap_or(path));
    let Some(endpoint) = endpoint::find(&path) else {
        return Response::text(404, format!("invalid path. {}", endpoint::help()));
    };
    if endpoint.mutates && request.method != "POST" {
        return Response::text(405, format!("Method {} not allowed, POST required.", request.method));
    }
    (endpoint.serve)(&endpoint::Call { query: Query::parse(query), body: request.body }, state)
}

#[cfg(test)]
mod tests;
