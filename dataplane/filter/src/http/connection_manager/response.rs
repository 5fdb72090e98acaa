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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{fields, hcm, head as request_head, lines};

    fn answer(
        change: impl FnOnce(&mut HttpConnectionManager),
        request: &[(&str, &str)],
        response: &[(&str, &str)],
        close: bool,
    ) -> String {
        let (mut hcm, request, mut head) = (hcm(), request_head("/", request), ResponseHead::new());
        change(&mut hcm);
        head.status = 200;
        fields(&mut head.headers, response);
        let now = WallTime(784_111_777_000_000_000);
        let context = ResponseContext { hcm: &hcm, request: Some(&request), now, close };
        mutate(&context, &mut DateCache::default(), &mut head, &mut Vec::new());
        lines(&head.headers)
    }

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn as_envoy_1_40_answered() {
        assert_eq!(answer(|_| {}, &[], &[], false), format!("date: {NOW} | server: envoy"));
        let sent = [("server", "up"), ("date", "Mon"), ("via", "1.1 z"), ("x-request-id", "fromup")];
        let expected = "server: envoy | date: Mon | via: 1.1 z, v | x-request-id: fromup | connection: close";
        assert_eq!(answer(|hcm| hcm.via = "v".into(), &[], &sent, true), expected);
        let expected = "server: up | date: Mon | via: 1.1 z | x-request-id: id";
        let id = [("x-request-id", "id")];
        let pass = |hcm: &mut HttpConnectionManager| {
            hcm.server_header = ServerHeaderTransformation::PassThrough;
            hcm.always_set_request_id_in_response = true;
        };
        assert_eq!(answer(pass, &id, &sent, false), expected);
        let forced = [("x-request-id", "id"), ("x-envoy-force-trace", "1")];
        let expected = format!("date: {NOW} | server: me | x-request-id: id");
        let absent = |hcm: &mut HttpConnectionManager| {
            hcm.server_header = ServerHeaderTransformation::AppendIfAbsent;
            hcm.server_name = "me".into();
        };
        assert_eq!(answer(absent, &forced, &[], false), expected);
        assert!(answer(absent, &id, &[("server", "up")], false).starts_with("server: up | date"));
    }
}
