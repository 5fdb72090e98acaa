//! The heads of checks over HTTP and gRPC.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_config::format::Template;
use millrace_config::{Address, HeaderMutations, HealthCheck, HealthCheckKind, ProxyProtocolVersion};
use millrace_filter::http::grpc::timeout;
use millrace_filter::http::router::{Render, mutation};
use millrace_http::{HeaderId, RequestHead, ResponseHead, Version};
use millrace_observe::access_log::StreamInfo;
use millrace_observe::format::{self, Missing};

use crate::http::Names;
use crate::own_connection::Target;

/// What templates may read of a check: there is no client.
struct Renderer<'a>(StreamInfo<'a>);

impl Render for Renderer<'_> {
    fn render(
        &self,
        template: &Template,
        request: &RequestHead,
        _response: Option<&ResponseHead>,
        out: &mut Vec<u8>,
    ) {
        format::render(template, &StreamInfo { request: Some(request), ..self.0 }, Missing::Empty, out);
    }
}

/// The PROXY protocol header in front of each check.
pub(super) fn proxy_protocol(check: &HealthCheck) -> Option<ProxyProtocolVersion> {
    match &check.kind {
        HealthCheckKind::Tcp(tcp) => tcp.proxy_protocol,
        HealthCheckKind::Http(_) | HealthCheckKind::Grpc(_) => None,
    }
}

/// What is asked; `None` for TCP.
pub(super) fn head(check: &HealthCheck, target: &Target<'_>, names: &Names) -> Option<RequestHead> {
    let (cluster, endpoint) = (target.cluster, target.endpoint);
    let mut head = RequestHead::new();
    let own = endpoint.health_check.as_ref().map(|own| &*own.hostname).filter(|name| !name.is_empty());
    let authority = |configured: &str| -> String {
        let configured = if configured.is_empty() { &*cluster.name } else { configured };
        own.unwrap_or(configured).to_owned()
    };
    head.set_scheme(target.scheme());
    let mutations: &HeaderMutations = match &check.kind {
        HealthCheckKind::Http(http) => {
            head.set_method(http.method.as_bytes());
            head.set_authority(authority(&http.host).as_bytes());
            head.set_path(http.path.as_bytes());
            head.version = if http.http2 { Version::Http2 } else { Version::Http11 };
            head.headers.append_id(HeaderId::UserAgent, b"Envoy/HC");
            &http.headers
        }
        HealthCheckKind::Grpc(grpc) => {
            head.set_method(b"POST");
            head.set_authority(authority(&grpc.authority).as_bytes());
            head.set_path(b"/grpc.health.v1.Health/Check");
            head.version = Version::Http2;
            head.headers.append_id(HeaderId::Te, b"trailers");
            head.headers.append_id(HeaderId::ContentType, b"application/grpc");
            head.headers.append_id(HeaderId::UserAgent, b"Envoy/HC");
            &grpc.metadata
        }
        HealthCheckKind::Tcp(_) => return None,
    };
    let loopback = Address::Inet(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
    let info = StreamInfo {
        protocol: Some(head.version),
        downstream_remote: Some(&loopback),
        downstream_direct_remote: Some(&loopback),
        downstream_local: Some(&loopback),
        downstream_direct_local: Some(&loopback),
        upstream_host: Some(&endpoint.address),
        upstream_host_name: Some(&*endpoint.hostname).filter(|name| !name.is_empty()),
        upstream_cluster: Some(&cluster.stat_name),
        upstream_cluster_raw: Some(&cluster.name),
        hostname: &names.hostname,
        ..StreamInfo::default()
    };
    mutation::own_request(mutations, &Renderer(info), &mut head);
    match &check.kind {
        HealthCheckKind::Http(http) if !http.send.is_empty() => {
            head.headers.set_id(HeaderId::ContentLength, http.send.len().to_string().as_bytes());
        }
        HealthCheckKind::Grpc(_) => timeout::set(&mut head.headers, check.timeout),
        _ => {}
    }
    Some(head)
}
