//! `config.cluster.v3.Cluster`.

mod aggregate;
mod assignment;
mod balancing;
mod bind;
mod changes;
mod circuit_breakers;
mod dns;
mod dns_resolver;
mod drop_overload;
mod endpoint;
mod errors;
mod forward_proxy;
mod health_check;
mod http_options;
mod original_dst;
mod outlier_detection;
mod records;
mod scopes;

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Cluster, ClusterDiscovery, HappyEyeballs, ScopeId, TcpKeepalive, TrackedStats, UpstreamProtocol,
};
use millrace_observe::stats::{Group, ScopeKind};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::google::protobuf::value::Kind;

pub(crate) use assignment::load_assignment;
pub use assignment::{LoadAssignment, retired_scopes};
pub(crate) use bind::manager as manager_bind;
pub(crate) use changes::AssignmentChanges;
pub use changes::{ChangedAssignment, EarlierAssignment};
pub(crate) use dns::{failure_refresh, family as lookup_family};
pub(crate) use dns_resolver::{of_bootstrap as bootstrap_resolver, of_cache as cache_resolver};
pub use records::{AssignmentRecords, SentAssignment};

use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, source, transport_socket, value};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BUFFER_LIMIT: u32 = 1024 * 1024;

/// Translates a cluster whose fields have been checked. Endpoints that `previous` has too keep their scopes; an EDS
/// cluster has no endpoints until its assignment comes.
pub(crate) fn cluster(
    cluster: &pb::Cluster,
    previous: Option<&Cluster>,
    path: &Path,
    cx: &mut Context,
) -> Result<Cluster, Rejection> {
    let mut built = checked_only(cluster, path, cx)?;
    scopes::assign(&mut built, previous, &cx.registry);
    Ok(built)
}

/// A cluster whose endpoints are counted for by nobody.
pub(crate) fn checked_only(
    cluster: &pb::Cluster,
    path: &Path,
    cx: &mut Context,
) -> Result<Cluster, Rejection> {
    let transport =
        transport_socket::upstream(cluster.transport_socket.as_ref(), &path.join("transport_socket"), cx)?;
    let matches_path = path.join("transport_socket_matches");
    let transport_matches =
        transport_socket::transport_matches(&cluster.transport_socket_matches, &matches_path, cx)?;
    let kind = discovery_type(cluster, path)?;
    let mut load = endpoint::load_assignment(cluster, kind, path)?;
    let targets = std::mem::take(&mut load.targets);
    let (mut discovery, members) = match aggregate::members(cluster, path)? {
        Some(members) => (ClusterDiscovery::Aggregate(Arc::default()), members),
        None => (discovery(cluster, kind, targets, path, cx)?, Vec::new()),
    };
    let load_path = path.join("load_assignment");
    let drop_overload = drop_overload::drop_overload(cluster.load_assignment.as_ref(), &load_path, cx)?;
    let forward_proxy = forward_proxy::config(cluster, path)?;
    let provides = matches!(discovery, ClusterDiscovery::OriginalDst(_) | ClusterDiscovery::Aggregate(_))
        || forward_proxy.is_some();
    let (lb_policy, mut balancing) = balancing::balancing(cluster, provides, path, cx)?;
    balancing.weighted_priority_health = load.weighted_priority_health;
    let outlier_detection = outlier_detection::outlier_detection(cluster, path)?;
    let breakers = cluster.circuit_breakers.as_ref();
    let circuit_breakers = circuit_breakers::circuit_breakers(breakers, &cluster.name, path, cx)?;
    let bind = bind::bind_config(cluster, path, cx)?;
    let mut http = http_options::upstream_http(cluster, path, cx)?;
    (http.preconnect_ratio, http.predictive_preconnect_ratio) = http_options::preconnect_ratios(cluster);
    let health_check = health_check::health_check(cluster, http.protocol, path, cx)?;
    let health_check = if provides { unchecked(health_check, path, cx) } else { health_check };
    http_options::check_alpn(&cluster.name, &http, &transport, &transport_matches, path)?;
    let options = cluster.upstream_connection_options.as_ref();
    if let Some(config) = &forward_proxy {
        forward_proxy::check_names(cluster, config, &mut http, path)?;
        load.localities.clear();
        discovery = ClusterDiscovery::ForwardProxy(forward_proxy::discovery(config, &transport, path, cx)?);
    }
    // Nothing fails from here on, so that a refused cluster leaves no scopes behind.
    let id = cx.cluster_ids.intern(&cluster.name);
    if let ClusterDiscovery::Aggregate(ids) = &mut discovery {
        *ids = members.iter().map(|name| cx.cluster_ids.intern(name)).collect();
    }
    // A mesh has thousands of long names, and every one of them is used for several things: one copy does.
    let name = cx.cluster_ids.shared(&cluster.name).unwrap_or_default();
    let stat_name = match cluster.alt_stat_name.as_str() {
        "" => Arc::clone(&name),
        other => other.into(),
    };
    if let ClusterDiscovery::Eds { service_name, .. } = &mut discovery
        && *service_name == name
    {
        *service_name = Arc::clone(&name);
    }
    let scope = cx.scope_of(ScopeKind::Cluster, &stat_name);
    let common = cluster.common_lb_config.as_ref();
    let built = Cluster {
        id,
        scope,
        name,
        stat_name,
        discovery,
        localities: load.localities,
        endpoints_version: 0,
        lb_policy,
        balancing,
        panic_threshold: balancing::panic_threshold(cluster, cx),
        overprovisioning_factor: load.overprovisioning_factor,
        drop_overload,
        load_metrics: load_metrics(cluster, cx),
        connect_timeout: cluster.connect_timeout.as_ref().map_or(CONNECT_TIMEOUT, value::duration),
        circuit_breakers,
        outlier_detection,
        health_check,
        buffer_limit_bytes: value::number(cluster.per_connection_buffer_limit_bytes.as_ref(), BUFFER_LIMIT),
        tcp_keepalive: options.and_then(|options| options.tcp_keepalive.as_ref()).map(tcp_keepalive),
        bind,
        happy_eyeballs: options.map_or_else(HappyEyeballs::default, happy_eyeballs),
        close_on_health_failure: cluster.close_connections_on_host_health_failure,
        close_on_host_set_change: common.is_some_and(|common| common.close_connections_on_host_set_change),
        pool_per_downstream: cluster.connection_pool_per_downstream_connection,
        http,
        tracked: tracked(cluster, scope, cx),
        istio_alpn_override: istio_alpn_override(cluster),
        transport,
        transport_matches,
    };
    enable_groups(&built, cx);
    Ok(built)
}

/// Statistics that only clusters have that use what they count.
fn enable_groups(built: &Cluster, cx: &mut Context) {
    if built.http.protocol != UpstreamProtocol::Http1 {
        cx.registry.enable(built.scope, Group::Http2);
    }
    if built.outlier_detection.is_some() {
        cx.registry.enable(built.scope, Group::OutlierDetection);
    }
    if built.balancing.load_stream.is_some() {
        cx.registry.enable(built.scope, Group::LoadReports);
    }
    if built.health_check.is_some() {
        cx.registry.enable(built.scope, Group::HealthCheck);
    }
    let matched = built.transport_matches.iter().any(|choice| choice.transport.tls.is_some());
    if matched || built.transport.tls.is_some() {
        cx.registry.tls_scopes(built.scope);
    }
}

/// `track_cluster_stats`, and the field that it replaced.
fn tracked(cluster: &pb::Cluster, scope: ScopeId, cx: &Context) -> Option<Box<TrackedStats>> {
    let asked = cluster.track_cluster_stats.as_ref();
    let budgets = cluster.track_timeout_budgets || asked.is_some_and(|asked| asked.timeout_budgets);
    let sizes = asked.is_some_and(|asked| asked.request_response_sizes);
    let of = |asked: bool, kind| asked.then(|| cx.registry.cluster_scope(scope, kind)).flatten();
    let tracked = TrackedStats {
        budgets: of(budgets, ScopeKind::ClusterBudgets),
        sizes: of(sizes, ScopeKind::ClusterSizes),
        per_endpoint: asked.is_some_and(|asked| asked.per_endpoint_stats),
    };
    (tracked != TrackedStats::default()).then(|| Box::new(tracked))
}

/// `lrs_report_endpoint_metrics`. Nothing is summed that nobody would take.
fn load_metrics(cluster: &pb::Cluster, cx: &Context) -> Box<[Arc<str>]> {
    match cx.reports_load {
        true => cluster.lrs_report_endpoint_metrics.iter().map(|name| value::text(name)).collect(),
        false => Box::default(),
    }
}

/// Nobody checks the endpoints of clusters that have none of their own.
fn unchecked<T>(asked: Option<T>, path: &Path, cx: &mut Context) -> Option<T> {
    if asked.is_some() {
        cx.report(
            &path.join("health_checks"),
            "endpoints that clients name, or of other clusters, are not checked",
        );
    }
    None
}

/// The metadata `istio: {alpn_override: "false"}` keeps `istio.alpn` off.
fn istio_alpn_override(cluster: &pb::Cluster) -> bool {
    let istio = cluster.metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get("istio"));
    let value =
        istio.and_then(|istio| istio.fields.get("alpn_override")).and_then(|value| value.kind.as_ref());
    !matches!(value, Some(Kind::StringValue(text)) if text == "false")
}

fn discovery_type(cluster: &pb::Cluster, path: &Path) -> Result<DiscoveryType, Rejection> {
    match &cluster.cluster_discovery_type {
        None => Ok(DiscoveryType::Static),
        Some(ClusterDiscoveryType::Type(number)) => Ok(DiscoveryType::try_from(*number).unwrap_or_default()),
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            if let Some(resolved) = dns::extension(cluster, path)? {
                return Ok(dns::kind(&resolved));
            }
            if aggregate::members(cluster, path)?.is_some() || forward_proxy::config(cluster, path)?.is_some()
            {
                return Ok(DiscoveryType::Static);
            }
            let any = custom.typed_config.as_ref();
            Err(extension::not_served("cluster type", &custom.name, any, &path.join("cluster_type")))
        }
    }
}

fn discovery(
    cluster: &pb::Cluster,
    kind: DiscoveryType,
    targets: Vec<millrace_config::DnsTarget>,
    path: &Path,
    cx: &mut Context,
) -> Result<ClusterDiscovery, Rejection> {
    match (kind, &cluster.eds_cluster_config) {
        (DiscoveryType::Eds, Some(config)) => eds(cluster, config, path, cx),
        (DiscoveryType::Eds, None) => {
            let path = path.join("eds_cluster_config");
            Err(Rejection::new(&path, "cannot create an EDS cluster without an EDS config"))
        }
        (_, Some(_)) => {
            let path = path.join("eds_cluster_config");
            Err(Rejection::new(&path, "eds_cluster_config set in a non-EDS cluster"))
        }
        (DiscoveryType::Static, None) => Ok(ClusterDiscovery::Static),
        (DiscoveryType::OriginalDst, None) => original_dst::discovery(cluster, path),
        (_, None) => dns::discovery(cluster, kind, targets, path, cx),
    }
}

fn eds(
    cluster: &pb::Cluster,
    config: &pb::cluster::EdsClusterConfig,
    path: &Path,
    cx: &mut Context,
) -> Result<ClusterDiscovery, Rejection> {
    if cluster.load_assignment.is_some() {
        cx.report(&path.join("load_assignment"), "the endpoints of an EDS cluster come over EDS only");
    }
    let path = path.join("eds_cluster_config");
    source::refuse_locator(&config.service_name, &path.join("service_name"))?;
    let name = if config.service_name.is_empty() { &cluster.name } else { &config.service_name };
    source::refuse_locator(name, &path.join("service_name"))?;
    let from = source::subscription(config.eds_config.as_ref(), &path.join("eds_config"), cx)?;
    Ok(ClusterDiscovery::Eds {
        service_name: name.as_str().into(),
        source: from.source,
        initial_fetch_timeout: from.initial_fetch_timeout,
    })
}

fn tcp_keepalive(keepalive: &core::TcpKeepalive) -> TcpKeepalive {
    let number =
        |value: &Option<millrace_proto::pb::google::protobuf::UInt32Value>| value.as_ref().map(|v| v.value);
    TcpKeepalive {
        probes: number(&keepalive.keepalive_probes),
        time: number(&keepalive.keepalive_time),
        interval: number(&keepalive.keepalive_interval),
    }
}

/// No count is 1; no version is that of the first address.
fn happy_eyeballs(options: &pb::UpstreamConnectionOptions) -> HappyEyeballs {
    use pb::upstream_connection_options::FirstAddressFamilyVersion as First;
    let Some(own) = &options.happy_eyeballs_config else { return HappyEyeballs::default() };
    HappyEyeballs {
        first_is_ipv6: match own.first_address_family_version() {
            First::Default | First::Pipe | First::Internal => None,
            First::V4 => Some(false),
            First::V6 => Some(true),
        },
        first_count: value::number(own.first_address_family_count.as_ref(), 1).max(1),
    }
}

#[cfg(test)]
mod provided_tests;
#[cfg(test)]
mod tests;
