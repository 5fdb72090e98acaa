//! Response heads on their way out (Envoy's `mutateResponseHeaders` and what surrounds it).

use millrace_base::WallTime;
use millrace_config::{HttpConnectionManager, ServerHeaderTransformation};
use millrace_http::{HeaderId, RequestHead, ResponseHead};

use super::date::DateCache;
use super::request::append_list;

/// What a response needs beside its head.
#[derive(Debug)]
pub struct ResponseContext<'a> {
    /// The connection manager.
    pub hcm: &'a HttpConnectionManager,
    /// The request it answers, as it went upstream; `None` when it never became a head.
    pub request: Option<&'a RequestHead>,
    /// Now.
    pub now: WallTime,
    /// The connection ends after this response: draining, or the client asked for it.
    pub close: bool,
}

/// Applies the connection manager's rules to any response; hop-by-hop fields are gone already
/// ([`millrace_http::hop::strip_response`]). `scratch` is cleared and used.
pub fn mutate(
    context: &ResponseContext<'_>,
    date: &mut DateCache,
    head: &mut ResponseHead,
    scratch: &mut Vec<u8>,
) {
    let hcm = context.hcm;
    let headers = &mut head.headers;
    if !headers.contains(HeaderId::Date) {
        headers.set_id(HeaderId::Date, date.get(context.now));
    }
    let replace = match hcm.server_header {
        ServerHeaderTransformation::Overwrite => true,
        ServerHeaderTransformation::AppendIfAbsent => !headers.contains(HeaderId::Server),
        ServerHeaderTransformation::PassThrough => false,
    };
    if replace {
        headers.set_id(HeaderId::Server, hcm.server_name.as_bytes());
    }
    if let Some(request) = context.request
        && (hcm.always_set_request_id_in_response || request.headers.contains(HeaderId::XEnvoyForceTrace))
        && let Some(id) = request.headers.get(HeaderId::XRequestId)
    {
        headers.set_id(HeaderId::XRequestId, id);
    }
    if !hcm.via.is_empty() {
        append_list(headers, HeaderId::Via, hcm.via.as_bytes(), scratch);
    }
    if context.close {
        headers.set_id(HeaderId::Connection, b"close");
    }
}
