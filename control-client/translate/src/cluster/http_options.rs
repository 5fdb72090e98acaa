//! `extensions.upstreams.http.v3.HttpProtocolOptions` and the deprecated fields of the cluster that it replaced.

use std::time::Duration;

use millrace_config::UpstreamHttp;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::extensions::upstreams::http::v3 as options;
use millrace_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as by;

use crate::context::Context;
use crate::error::Rejection;
use crate::http::header_case;
use crate::{extension, value};

const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) fn upstream_http(
    cluster: &pb::Cluster,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamHttp, Rejection> {
    let mut path = path.join("typed_extension_protocol_options");
    let others = cluster.typed_extension_protocol_options.iter();
    if let Some((name, any)) = others.filter(|(name, _)| *name != KEY).min_by_key(|(name, _)| *name) {
        path.key(name);
        return Err(extension::not_served("protocol options", name, Some(any), &path));
    }
    let Some(any) = cluster.typed_extension_protocol_options.get(KEY) else {
        return deprecated(cluster, &path, cx);
    };
    path.key(KEY);
    if extension::type_of(any) != KEY {
        return Err(extension::not_served("protocol options", KEY, Some(any), &path));
    }
    let options: options::HttpProtocolOptions = extension::open(any, &path)?;
    typed(&options, &path, cx)
}

fn typed(
    options: &options::HttpProtocolOptions,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamHttp, Rejection> {
    use by::explicit_http_config::ProtocolConfig as Explicit;
    let not_served = |path: &Path| {
        Err(Rejection::not_served(path, "HTTP/2 and HTTP/3 upstreams are not served by this build"))
    };
    let common = options.common_http_protocol_options.as_ref();
    match &options.upstream_protocol_options {
        Some(by::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            let path = path.join("explicit_http_config");
            match &explicit.protocol_config {
                Some(Explicit::HttpProtocolOptions(http1)) => {
                    build(common, Some(http1), &path.join("http_protocol_options"), cx)
                }
                Some(Explicit::Http2ProtocolOptions(_)) => not_served(&path.join("http2_protocol_options")),
                Some(Explicit::Http3ProtocolOptions(_)) => not_served(&path.join("http3_protocol_options")),
                None => Err(Rejection::new(&path.join("protocol_config"), "is required")),
            }
        }
        // Downstream is HTTP/1.1 whenever a connection exists, so the other protocols' options are never used.
        Some(by::UpstreamProtocolOptions::UseDownstreamProtocolConfig(same)) => {
            let path = path.join("use_downstream_protocol_config").join("http_protocol_options");
            build(common, same.http_protocol_options.as_ref(), &path, cx)
        }
        Some(by::UpstreamProtocolOptions::AutoConfig(_)) => not_served(&path.join("auto_config")),
        None => Err(Rejection::new(&path.join("upstream_protocol_options"), "is required")),
    }
}

fn deprecated(cluster: &pb::Cluster, path: &Path, cx: &mut Context) -> Result<UpstreamHttp, Rejection> {
    let http1 = cluster.http_protocol_options.as_ref();
    let mut http = build(cluster.common_http_protocol_options.as_ref(), http1, path, cx)?;
    if let Some(max) = &cluster.max_requests_per_connection {
        http.max_requests_per_connection = Some(max.value).filter(|max| *max > 0);
    }
    Ok(http)
}

fn build(
    common: Option<&core::HttpProtocolOptions>,
    http1: Option<&core::Http1ProtocolOptions>,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamHttp, Rejection> {
    if common.is_some_and(|common| common.max_stream_duration.is_some()) {
        cx.report(path, "max_stream_duration of an upstream has no effect; the route's applies");
    }
    let (proper_case, preserve_case) = match http1 {
        Some(http1) => header_case(http1, path)?,
        None => (false, false),
    };
    let fields = value::number(common.and_then(|c| c.max_headers_count.as_ref()), 100);
    Ok(UpstreamHttp {
        protocol: millrace_config::UpstreamProtocol::Http1,
        http2: millrace_config::Http2Options::UPSTREAM,
        idle_timeout: value::limit_or(common.and_then(|c| c.idle_timeout.as_ref()), IDLE_TIMEOUT),
        max_requests_per_connection: common
            .and_then(|c| c.max_requests_per_connection.as_ref())
            .map(|max| max.value)
            .filter(|max| *max > 0),
        max_connection_duration: value::limit(common.and_then(|c| c.max_connection_duration.as_ref())),
        head_bytes_max: value::number(common.and_then(|c| c.max_response_headers_kb.as_ref()), 60)
            .saturating_mul(1024),
        head_fields_max: u16::try_from(fields).unwrap_or(u16::MAX),
        proper_case,
        preserve_case,
        enable_trailers: http1.is_some_and(|http1| http1.enable_trailers),
    })
}
