//! Request heads on their way in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use millrace_base::Rng;
use millrace_config::{HttpConnectionManager, RouteConfiguration};
use millrace_http::{HeaderId, HeaderMap, Method, RequestHead};

use super::{Accepted, Downstream, address, reject, request_id, xfcc};
use crate::http::LocalReply;

/// Checks what the connection manager demands of a head that the codec accepted. The codec refuses requests
/// without `host` itself; an empty one is fine.
///
/// # Errors
/// The reply for a request without a path that starts with a slash; `OPTIONS *` is one of them in Envoy.
pub fn validate(head: &RequestHead) -> Result<(), LocalReply> {
    match (head.method_kind(), head.path()) {
        (Method::Connect, _) => Ok(()),
        (_, b"") => Err(reject::missing_path()),
        (_, path) if path[0] != b'/' => Err(reject::absolute_path()),
        _ => Ok(()),
    }
}

/// Makes the head what filters, routes and the upstream may trust (Envoy's `mutateRequestHeaders`). Hop-by-hop
/// fields are gone already ([`millrace_http::hop::strip_request`]). `routes` is the table in force, for its
/// `internal_only_headers`. `scratch` is cleared and used.
pub fn mutate(
    hcm: &HttpConnectionManager,
    routes: Option<&RouteConfiguration>,
    downstream: &Downstream<'_>,
    head: &mut RequestHead,
    rng: &mut Rng,
    scratch: &mut Vec<u8>,
) -> Accepted {
    head.headers.remove_id(HeaderId::XEnvoyInternal);
    sanitize_referer(&mut head.headers);
    let (remote, trusted) = client_address(hcm, downstream, &mut head.headers, scratch);
    scheme(downstream, head);
    let internal = trusted && is_internal(hcm, remote);
    let edge = !internal && hcm.use_remote_address;
    if internal {
        head.headers.set_id(HeaderId::XEnvoyInternal, b"true");
    } else {
        strip_internal(routes, edge, &mut head.headers);
    }
    if hcm.add_user_agent {
        add_user_agent(downstream, &mut head.headers);
    }
    if !hcm.via.is_empty() {
        append_list(&mut head.headers, HeaderId::Via, hcm.via.as_bytes(), scratch);
    }
    if edge && let Some(remote) = remote {
        set_ip(&mut head.headers, HeaderId::XEnvoyExternalAddress, remote.ip(), scratch);
    }
    if hcm.generate_request_id {
        request_id::apply(&mut head.headers, edge, hcm.preserve_external_request_id, rng);
    }
    xfcc::apply(hcm, downstream.tls, &mut head.headers, scratch);
    Accepted { remote, internal }
}

/// A referer that is not one absolute or relative URI without fragment and user info is dropped.
fn sanitize_referer(headers: &mut HeaderMap) {
    let Some(first) = headers.get(HeaderId::Referer) else { return };
    if headers.values(HeaderId::Referer).nth(1).is_some() || !referer_is_valid(first) {
        headers.remove_id(HeaderId::Referer);
    }
}

/// As Envoy 1.40 judges: no fragment, and an absolute one has a host and neither user nor an opaque form.
fn referer_is_valid(value: &[u8]) -> bool {
    if value.contains(&b'#') {
        return false;
    }
    let Some(colon) = value.iter().position(|b| matches!(b, b':' | b'/' | b'?')) else { return true };
    if value[colon] != b':' {
        return true;
    }
    let Some(rest) = value[colon..].strip_prefix(b"://") else { return false };
    let authority = rest.split(|b| matches!(b, b'/' | b'?')).next().unwrap_or_default();
    !authority.is_empty() && !authority.contains(&b'@')
}

/// The client's address, and whether it may make the request internal.
fn client_address(
    hcm: &HttpConnectionManager,
    downstream: &Downstream<'_>,
    headers: &mut HeaderMap,
    scratch: &mut Vec<u8>,
) -> (Option<SocketAddr>, bool) {
    address::join(headers, scratch);
    if !hcm.use_remote_address {
        return match address::last_address(headers, hcm.xff_num_trusted_hops) {
            Some(found) => (Some(found.address), found.only),
            None => (downstream.peer, false),
        };
    }
    let trusted = !headers.contains(HeaderId::XForwardedFor);
    let hops = hcm.xff_num_trusted_hops;
    let forwarded =
        hops.checked_sub(1).and_then(|skip| address::last_address(headers, skip)).map(|found| found.address);
    if !hcm.skip_xff_append
        && let Some(peer) = downstream.peer
    {
        // Only the loopback address itself: 127.0.0.2 may be one of several sidecars of a host.
        let loopback = match peer.ip() {
            IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST,
            IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
        };
        let shown = downstream.host_address.filter(|_| loopback).unwrap_or(peer.ip());
        address::append(headers, shown, scratch);
    }
    if hops == 0 || !headers.contains(HeaderId::XForwardedProto) {
        headers.set_id(HeaderId::XForwardedProto, plain_scheme(downstream));
    }
    if hcm.append_x_forwarded_port
        && (hops == 0 || !headers.contains(HeaderId::XForwardedPort))
        && let Some(local) = downstream.local
    {
        set_number(headers, HeaderId::XForwardedPort, u64::from(local.port()));
    }
    (forwarded.or(downstream.peer), trusted)
}

fn plain_scheme(downstream: &Downstream<'_>) -> &'static [u8] {
    if downstream.tls.is_some() { b"https" } else { b"http" }
}

/// `x-forwarded-proto` exists from here on; `:scheme` follows it unless the target named one.
fn scheme(downstream: &Downstream<'_>, head: &mut RequestHead) {
    if !head.headers.contains(HeaderId::XForwardedProto) {
        head.headers.set_id(HeaderId::XForwardedProto, plain_scheme(downstream));
    }
    let scheme: &[u8] = match head.scheme() {
        b"" => match head.headers.get(HeaderId::XForwardedProto) {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => b"https",
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => b"http",
            _ => plain_scheme(downstream),
        },
        scheme if scheme.eq_ignore_ascii_case(b"https") => b"https",
        _ => b"http",
    };
    head.set_scheme(scheme);
}

fn is_internal(hcm: &HttpConnectionManager, remote: Option<SocketAddr>) -> bool {
    match remote {
        None => hcm.internal_unix_sockets,
        Some(remote) => {
            hcm.internal_addresses.as_deref().unwrap_or_default().iter().any(|net| net.contains(remote.ip()))
        }
    }
}

/// Fields that only the first proxy of our own network may set.
const EDGE_ONLY: [HeaderId; 5] = [
    HeaderId::XEnvoyDecoratorOperation,
    HeaderId::XEnvoyDownstreamServiceCluster,
    HeaderId::XEnvoyDownstreamServiceNode,
    HeaderId::XEnvoyOriginalPath,
    HeaderId::XEnvoyOriginalHost,
];

/// Fields that steer the proxy and that no outsider may set.
const INTERNAL_ONLY: [HeaderId; 15] = [
    HeaderId::XEnvoyRetriableStatusCodes,
    HeaderId::XEnvoyRetriableHeaderNames,
    HeaderId::XEnvoyRetryOn,
    HeaderId::XEnvoyRetryGrpcOn,
    HeaderId::XEnvoyMaxRetries,
    HeaderId::XEnvoyUpstreamAltStatName,
    HeaderId::XEnvoyUpstreamRqTimeoutMs,
    HeaderId::XEnvoyUpstreamRqPerTryTimeoutMs,
    HeaderId::XEnvoyUpstreamRqTimeoutAltResponse,
    HeaderId::XEnvoyExpectedRqTimeoutMs,
    HeaderId::XEnvoyForceTrace,
    HeaderId::XEnvoyIpTags,
    HeaderId::XEnvoyOriginalUrl,
    HeaderId::XEnvoyHedgeOnPerTryTimeout,
    HeaderId::XEnvoyUpstreamStreamDurationMs,
];

fn strip_internal(routes: Option<&RouteConfiguration>, edge: bool, headers: &mut HeaderMap) {
    // Most requests carry none of them: one test for all.
    if edge && headers.contains_any(const { HeaderId::set(&EDGE_ONLY) }) {
        for id in EDGE_ONLY {
            headers.remove_id(id);
        }
    }
    if headers.contains_any(const { HeaderId::set(&INTERNAL_ONLY) }) {
        for id in INTERNAL_ONLY {
            headers.remove_id(id);
        }
    }
    for name in routes.iter().flat_map(|config| &config.internal_only_headers) {
        headers.remove_name(name);
    }
}

fn add_user_agent(downstream: &Downstream<'_>, headers: &mut HeaderMap) {
    let cluster = downstream.node.cluster.as_bytes();
    headers.set_id(HeaderId::XEnvoyDownstreamServiceCluster, cluster);
    if headers.get(HeaderId::UserAgent).is_none_or(<[u8]>::is_empty) {
        headers.set_id(HeaderId::UserAgent, cluster);
    }
    if !downstream.node.id.is_empty() {
        headers.set_id(HeaderId::XEnvoyDownstreamServiceNode, downstream.node.id.as_bytes());
    }
}

/// Appends to a list field, making one field of several.
pub(crate) fn append_list(headers: &mut HeaderMap, id: HeaderId, value: &[u8], scratch: &mut Vec<u8>) {
    scratch.clear();
    if headers.joined(id.name().as_bytes(), scratch) && !scratch.is_empty() {
        scratch.extend_from_slice(b", ");
    }
    scratch.extend_from_slice(value);
    headers.set_id(id, scratch);
}

pub(crate) fn set_number(headers: &mut HeaderMap, id: HeaderId, value: u64) {
    // The longest u64 has 20 digits.
    let mut text = [0; 20];
    let (mut at, mut left) = (text.len(), value);
    loop {
        at -= 1;
        text[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 || at == 0 {
            break;
        }
    }
    headers.set_id(id, &text[at..]);
}

fn set_ip(headers: &mut HeaderMap, id: HeaderId, ip: IpAddr, scratch: &mut Vec<u8>) {
    use std::io::Write as _;
    scratch.clear();
    let _ = write!(scratch, "{ip}");
    headers.set_id(id, scratch);
}

#[cfg(test)]
mod tests;
