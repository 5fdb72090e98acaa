//! `service.health.v3.HealthCheckSpecifier`: clusters that a control plane only wants checked (HDS).

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_config::Cluster;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as clusters;
use millrace_proto::pb::envoy::config::core::v3::health_check::HealthChecker;
use millrace_proto::pb::envoy::config::core::v3::{HealthCheck, Http2ProtocolOptions, Locality};
use millrace_proto::pb::envoy::config::endpoint::v3 as endpoints;
use millrace_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use millrace_proto::pb::envoy::service::health::v3 as pb;
use millrace_proto::pb::google::protobuf as wkt;

use crate::context::Context;
use crate::error::Rejection;
use crate::{cluster as cluster_, value};

/// Envoy's for these clusters.
const CONNECT_TIMEOUT: wkt::Duration = wkt::Duration { seconds: 1, nanos: 0 };
const BUFFER_LIMIT: u32 = 32 * 1024;

/// What a control plane wants checked.
#[derive(Clone, Debug)]
pub struct HealthAssignment {
    /// In its order. Their ids are no others' even where a cluster of traffic has the same name, and their endpoints have
    /// no scopes.
    pub clusters: Vec<Cluster>,
    /// `interval` of the reports.
    pub interval: Option<Duration>,
}

/// Translates a specifier whose fields have been checked.
pub(crate) fn specifier(
    message: &pb::HealthCheckSpecifier,
    cx: &mut Context,
) -> Result<HealthAssignment, Rejection> {
    let path = Path::from("cluster_health_checks");
    let mut names = BTreeSet::new();
    let mut built = Vec::with_capacity(message.cluster_health_checks.len());
    for (i, check) in message.cluster_health_checks.iter().enumerate() {
        let path = path.at(i);
        // Only those without a name may be many.
        if !check.cluster_name.is_empty() && !names.insert(check.cluster_name.as_str()) {
            cx.report(&path, "a cluster of this name was there already");
            continue;
        }
        let mut cluster = cluster_::checked_only(&cluster(check), &path, cx)?;
        // No cluster of traffic has a name with a zero in it.
        let own = match check.cluster_name.as_str() {
            "" => format!("\0hds\0\0{i}"),
            name => format!("\0hds\0{name}"),
        };
        cluster.id = cx.cluster_ids.intern(&own);
        built.push(cluster);
    }
    Ok(HealthAssignment { clusters: built, interval: message.interval.as_ref().map(value::duration) })
}

/// The cluster that Envoy makes of it. Without a health check its endpoints are reported as failed for ever.
fn cluster(check: &pb::ClusterHealthCheck) -> clusters::Cluster {
    let is_grpc = |one: &HealthCheck| matches!(one.health_checker, Some(HealthChecker::GrpcHealthCheck(_)));
    let localities = &check.locality_endpoints;
    let load = endpoints::ClusterLoadAssignment {
        endpoints: localities.iter().map(locality).collect(),
        ..endpoints::ClusterLoadAssignment::default()
    };
    #[expect(deprecated, reason = "the only field that needs no extension")]
    clusters::Cluster {
        name: check.cluster_name.clone(),
        connect_timeout: Some(CONNECT_TIMEOUT),
        per_connection_buffer_limit_bytes: Some(wkt::UInt32Value { value: BUFFER_LIMIT }),
        load_assignment: Some(load),
        health_checks: check.health_checks.clone(),
        http2_protocol_options: check.health_checks.iter().any(is_grpc).then(Http2ProtocolOptions::default),
        transport_socket_matches: check.transport_socket_matches.clone(),
        // That of the cluster manager is not theirs.
        upstream_bind_config: Some(check.upstream_bind_config.clone().unwrap_or_default()),
        ..clusters::Cluster::default()
    }
}

/// Endpoints that are not to be checked are neither checked nor reported.
fn locality(from: &pb::LocalityEndpoints) -> endpoints::LocalityLbEndpoints {
    let is_disabled = |endpoint: &endpoints::Endpoint| {
        endpoint.health_check_config.as_ref().is_some_and(|own| own.disable_active_health_check)
    };
    let kept = from.endpoints.iter().filter(|endpoint| !is_disabled(endpoint));
    let one = |endpoint: &endpoints::Endpoint| endpoints::LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoints::Endpoint {
            address: endpoint.address.clone(),
            health_check_config: endpoint.health_check_config.clone(),
            ..endpoints::Endpoint::default()
        })),
        ..endpoints::LbEndpoint::default()
    };
    endpoints::LocalityLbEndpoints {
        locality: from.locality.clone().or(Some(Locality::default())),
        lb_endpoints: kept.map(one).collect(),
        ..endpoints::LocalityLbEndpoints::default()
    }
}
