//! `extensions.upstreams.http.v3.HttpProtocolOptions` and the deprecated fields of the cluster that it replaced.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    ClusterPolicies, Http2Options, TransportMatch, UpstreamHttp, UpstreamProtocol, UpstreamTransport,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::extensions::upstreams::http::v3 as options;
use millrace_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as by;
use millrace_proto::pb::google::protobuf::DoubleValue;

use crate::context::Context;
use crate::error::Rejection;
use crate::http::{header_case, http2};
use crate::{extension, hash_policy, route, value};

const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) fn upstream_http(
    cluster: &pb::Cluster,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamHttp, Rejection> {
    let mut path_of_typed = path.join("typed_extension_protocol_options");
    let others = cluster.typed_extension_protocol_options.iter();
    if let Some((name, any)) = others.filter(|(name, _)| *name != KEY).min_by_key(|(name, _)| *name) {
        path_of_typed.key(name);
        return Err(extension::not_served("protocol options", name, Some(any), &path_of_typed));
    }
    let Some(any) = cluster.typed_extension_protocol_options.get(KEY) else {
        return deprecated(cluster, path, cx);
    };
    let mut path = path_of_typed;
    path.key(KEY);
    if extension::type_of(any) != KEY {
        return Err(extension::not_served("protocol options", KEY, Some(any), &path));
    }
    let options: options::HttpProtocolOptions = extension::open(any, &path)?;
    typed(&options, &path, cx)
}

/// Which protocol, and the options of each version.
struct Protocols<'a> {
    protocol: UpstreamProtocol,
    http1: Option<&'a core::Http1ProtocolOptions>,
    http2: Option<&'a core::Http2ProtocolOptions>,
    /// Of the message that holds the options.
    path: Path,
}

fn typed(
    options: &options::HttpProtocolOptions,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamHttp, Rejection> {
    use by::explicit_http_config::ProtocolConfig as Explicit;
    let protocols = match &options.upstream_protocol_options {
        Some(by::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            let path = path.join("explicit_http_config");
            match &explicit.protocol_config {
                Some(Explicit::HttpProtocolOptions(http1)) => {
                    Protocols { protocol: UpstreamProtocol::Http1, http1: Some(http1), http2: None, path }
                }
                Some(Explicit::Http2ProtocolOptions(http2)) => {
                    Protocols { protocol: UpstreamProtocol::Http2, http1: None, http2: Some(http2), path }
                }
                Some(Explicit::Http3ProtocolOptions(_)) => {
                    let path = path.join("http3_protocol_options");
                    return Err(Rejection::not_served(&path, "HTTP/3 is not served by this build"));
                }
                None => return Err(Rejection::new(&path.join("protocol_config"), "is required")),
            }
        }
        // As in Envoy, HTTP/2 comes with defaults where its options are not given.
        Some(by::UpstreamProtocolOptions::UseDownstreamProtocolConfig(same)) => {
            let path = path.join("use_downstream_protocol_config");
            let (http1, http2) = (same.http_protocol_options.as_ref(), same.http2_protocol_options.as_ref());
            Protocols { protocol: UpstreamProtocol::UseDownstream, http1, http2, path }
        }
        Some(by::UpstreamProtocolOptions::AutoConfig(auto)) => {
            let path = path.join("auto_config");
            let (http1, http2) = (auto.http_protocol_options.as_ref(), auto.http2_protocol_options.as_ref());
            Protocols { protocol: UpstreamProtocol::Auto, http1, http2, path }
        }
        None => return Err(Rejection::new(&path.join("upstream_protocol_options"), "is required")),
    };
    let mut http = build(options.common_http_protocol_options.as_ref(), &protocols, path, cx)?;
    names(options.upstream_http_protocol_options.as_ref(), &mut http);
    http.hash_policies = hash_policy::policies(&options.hash_policy, &path.join("hash_policy"))?.into();
    http.policies = policies(options, path, cx)?;
    http.errors = super::errors::errors(options, path)?;
    Ok(http)
}

/// What takes the place of the routes' own policies. Copies may go to clusters that do not exist yet.
fn policies(
    options: &options::HttpProtocolOptions,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<Arc<ClusterPolicies>>, Rejection> {
    if options.retry_policy.is_none() && options.request_mirror_policies.is_empty() {
        return Ok(None);
    }
    let retry = match &options.retry_policy {
        Some(policy) => Some(route::retry_policy(policy, &path.join("retry_policy"), cx)?),
        None => None,
    };
    let mirrors = route::mirrors(&options.request_mirror_policies, &Arc::default(), false, path, cx)?;
    Ok(Some(Arc::new(ClusterPolicies { retry, mirrors: mirrors.to_vec() })))
}

/// Which names a connection asks for and checks.
fn names(from: Option<&core::UpstreamHttpProtocolOptions>, http: &mut UpstreamHttp) {
    if let Some(from) = from {
        http.auto_sni = from.auto_sni;
        http.auto_san_validation = from.auto_san_validation;
        http.auto_sni_header = value::text(&from.override_auto_sni_header.to_ascii_lowercase());
    }
}

/// ALPN can choose the version only where every transport socket has it.
pub(super) fn check_alpn(
    cluster: &str,
    http: &UpstreamHttp,
    transport: &UpstreamTransport,
    matches: &[TransportMatch],
    path: &Path,
) -> Result<(), Rejection> {
    if http.protocol != UpstreamProtocol::Auto {
        return Ok(());
    }
    let refused = |what: &str, path: &Path| {
        let why =
            format!("ALPN configured for cluster {cluster} which has a non-ALPN transport socket{what}");
        Err(Rejection::new(path, why))
    };
    if transport.tls.is_none() {
        return refused("", &path.join("transport_socket"));
    }
    match matches.iter().position(|one| one.transport.tls.is_none()) {
        Some(at) => refused(" matcher", &path.join("transport_socket_matches").at(at)),
        None => Ok(()),
    }
}

fn deprecated(cluster: &pb::Cluster, path: &Path, cx: &mut Context) -> Result<UpstreamHttp, Rejection> {
    let (http1, http2) = (cluster.http_protocol_options.as_ref(), cluster.http2_protocol_options.as_ref());
    let protocol = match cluster.protocol_selection() {
        pb::cluster::ClusterProtocolSelection::UseDownstreamProtocol => UpstreamProtocol::UseDownstream,
        pb::cluster::ClusterProtocolSelection::UseConfiguredProtocol => match (http1, http2) {
            (Some(_), Some(_)) => {
                let why = "cluster: Both HTTP1 and HTTP2 options may only be configured with non-default \
                           'protocol_selection' values";
                return Err(Rejection::new(&path.join("protocol_selection"), why));
            }
            (None, Some(_)) => UpstreamProtocol::Http2,
            (_, None) => UpstreamProtocol::Http1,
        },
    };
    let protocols = Protocols { protocol, http1, http2, path: path.clone() };
    let mut http = build(cluster.common_http_protocol_options.as_ref(), &protocols, path, cx)?;
    names(cluster.upstream_http_protocol_options.as_ref(), &mut http);
    if let Some(max) = &cluster.max_requests_per_connection {
        http.max_requests_per_connection = Some(max.value).filter(|max| *max > 0);
    }
    Ok(http)
}

fn build(
    common: Option<&core::HttpProtocolOptions>,
    protocols: &Protocols<'_>,
    path: &Path,
    cx: &mut Context,
) -> Result<UpstreamHttp, Rejection> {
    if common.is_some_and(|common| common.max_connection_duration_jitter.is_some()) {
        let path = path.join("common_http_protocol_options").join("max_connection_duration_jitter");
        cx.report(&path, "the duration of connections to endpoints has no jitter");
    }
    let (proper_case, preserve_case) = match protocols.http1 {
        Some(http1) => header_case(http1, &protocols.path.join("http_protocol_options"))?,
        None => (false, false),
    };
    let fields = value::number(common.and_then(|c| c.max_headers_count.as_ref()), 100);
    Ok(UpstreamHttp {
        hash_policies: Arc::default(),
        protocol: protocols.protocol,
        http2: http2::options(
            protocols.http2,
            Http2Options::UPSTREAM,
            &protocols.path.join("http2_protocol_options"),
        )?,
        idle_timeout: value::limit_or(common.and_then(|c| c.idle_timeout.as_ref()), IDLE_TIMEOUT),
        max_requests_per_connection: common
            .and_then(|c| c.max_requests_per_connection.as_ref())
            .map(|max| max.value)
            .filter(|max| *max > 0),
        max_connection_duration: value::limit(common.and_then(|c| c.max_connection_duration.as_ref())),
        max_stream_duration: value::limit(common.and_then(|c| c.max_stream_duration.as_ref())),
        head_bytes_max: common
            .and_then(|c| c.max_response_headers_kb.as_ref())
            .map(|max| max.value.saturating_mul(1024)),
        head_fields_max: u16::try_from(fields).unwrap_or(u16::MAX),
        proper_case,
        preserve_case,
        enable_trailers: protocols.http1.is_some_and(|http1| http1.enable_trailers),
        preconnect_ratio: 1.0,
        predictive_preconnect_ratio: 1.0,
        policies: None,
        errors: None,
        auto_sni: false,
        auto_san_validation: false,
        auto_sni_header: "".into(),
    })
}

/// `preconnect_policy`: the ratios of an endpoint and of the cluster, 1 by default.
pub(super) fn preconnect_ratios(cluster: &pb::Cluster) -> (f64, f64) {
    let policy = cluster.preconnect_policy.as_ref();
    let own = policy.and_then(|policy| policy.per_upstream_preconnect_ratio.as_ref());
    let predictive = policy.and_then(|policy| policy.predictive_preconnect_ratio.as_ref());
    let ratio = |ratio: Option<&DoubleValue>| ratio.map_or(1.0, |ratio| ratio.value);
    (ratio(own), ratio(predictive))
}
