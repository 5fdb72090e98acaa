//! `config.endpoint.v3.ClusterLoadAssignment`, inside a cluster or on its own.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{Address, DnsTarget, Endpoint, EndpointHealthCheck, LbMetadata, LocalityEndpoints};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::config::endpoint::v3 as eps;
use millrace_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

use super::balancing::health_status;
use super::scopes;
use crate::error::Rejection;
use crate::{address, metadata, transport_socket, value};

const OVERPROVISIONING_FACTOR: u32 = 140;

/// What a load assignment says. Its endpoints have no scopes yet.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// By priority, then configuration order; without endpoints for DNS clusters.
    pub localities: Vec<LocalityEndpoints>,
    /// Names to resolve, for DNS clusters.
    pub targets: Vec<DnsTarget>,
    /// `policy.overprovisioning_factor`.
    pub overprovisioning_factor: u32,
    /// `policy.weighted_priority_health`.
    pub weighted_priority_health: bool,
    /// `policy.endpoint_stale_after`.
    pub stale_after: Option<Duration>,
    /// What endpoints said last of transport sockets; those of a cluster mostly say the same.
    metadata: Option<Pairs>,
    /// The same of balancers.
    lb_metadata: Option<Arc<LbMetadata>>,
}

/// [`Endpoint::transport_metadata`].
type Pairs = Arc<[(Arc<str>, Arc<str>)]>;

impl Load {
    /// What chooses a transport socket for an endpoint, one copy of equal ones.
    fn metadata(&mut self, own: Option<&core::Metadata>, locality: Option<&Pairs>) -> Option<Pairs> {
        let Some(own) = transport_socket::metadata(own) else { return locality.cloned() };
        match &self.metadata {
            Some(known) if **known == own[..] => {}
            _ => self.metadata = Some(own.into()),
        }
        self.metadata.clone()
    }

    /// What balancers read of an endpoint's metadata, one copy of equal ones.
    fn lb_metadata(&mut self, own: Option<&core::Metadata>) -> Option<Arc<LbMetadata>> {
        let own = metadata::endpoint(own)?;
        match &self.lb_metadata {
            Some(known) if **known == own => {}
            _ => self.lb_metadata = Some(Arc::new(own)),
        }
        self.lb_metadata.clone()
    }
}

pub(super) fn load_assignment(
    cluster: &pb::Cluster,
    kind: DiscoveryType,
    path: &Path,
) -> Result<Load, Rejection> {
    let path = path.join("load_assignment");
    let empty = eps::ClusterLoadAssignment::default();
    let assignment = match kind {
        // What EDS says replaces everything.
        DiscoveryType::Eds => &empty,
        _ => cluster.load_assignment.as_ref().unwrap_or(&empty),
    };
    if kind == DiscoveryType::LogicalDns && !is_single(assignment) {
        let why = "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint";
        return Err(Rejection::new(&path, why));
    }
    translate(assignment, kind, &path)
}

/// Every endpoint of an assignment, sorted by priority.
pub(super) fn translate(
    assignment: &eps::ClusterLoadAssignment,
    kind: DiscoveryType,
    path: &Path,
) -> Result<Load, Rejection> {
    let policy = assignment.policy.as_ref();
    let mut load = Load {
        overprovisioning_factor: value::number(
            policy.and_then(|policy| policy.overprovisioning_factor.as_ref()),
            OVERPROVISIONING_FACTOR,
        ),
        weighted_priority_health: policy.is_some_and(|policy| policy.weighted_priority_health),
        stale_after: policy.and_then(|policy| policy.endpoint_stale_after.as_ref()).map(value::duration),
        localities: Vec::with_capacity(assignment.endpoints.len()),
        ..Load::default()
    };
    let path = path.join("endpoints");
    let mut order: Vec<usize> = (0..assignment.endpoints.len()).collect();
    order.sort_by_key(|i| assignment.endpoints[*i].priority);
    for i in order {
        locality(&assignment.endpoints[i], kind, &path.at(i), &mut load)?;
    }
    Ok(load)
}

fn is_single(assignment: &eps::ClusterLoadAssignment) -> bool {
    matches!(assignment.endpoints.as_slice(), [locality] if locality.lb_endpoints.len() == 1)
}

fn locality(
    from: &eps::LocalityLbEndpoints,
    kind: DiscoveryType,
    path: &Path,
    load: &mut Load,
) -> Result<(), Rejection> {
    let nowhere = core::Locality::default();
    let name = from.locality.as_ref().unwrap_or(&nowhere);
    let mut built = LocalityEndpoints {
        locality: (value::text(&name.region), value::text(&name.zone), value::text(&name.sub_zone)),
        priority: from.priority,
        weight: value::number(from.load_balancing_weight.as_ref(), 0),
        endpoints: Vec::with_capacity(from.lb_endpoints.len()),
    };
    let shared: Option<Pairs> = transport_socket::metadata(from.metadata.as_ref()).map(Into::into);
    for (i, endpoint) in from.lb_endpoints.iter().enumerate() {
        let path = path.join("lb_endpoints").at(i);
        let metadata = load.metadata(endpoint.metadata.as_ref(), shared.as_ref());
        let lb_metadata = load.lb_metadata(endpoint.metadata.as_ref());
        match kind {
            DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
                let mut target = target(endpoint, load.localities.len(), kind, &path)?;
                target.template.transport_metadata = metadata;
                target.template.lb_metadata = lb_metadata;
                load.targets.push(target);
            }
            _ => {
                let mut endpoint = fixed(endpoint, &path)?;
                endpoint.transport_metadata = metadata;
                endpoint.lb_metadata = lb_metadata;
                built.endpoints.push(endpoint);
            }
        }
    }
    load.localities.push(built);
    Ok(())
}

fn host<'a>(
    from: &'a eps::LbEndpoint,
    path: &Path,
) -> Result<(&'a eps::Endpoint, &'a core::Address), Rejection> {
    let endpoint = match &from.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            return Err(Rejection::not_served(
                &path.join("endpoint_name"),
                "named endpoints are not served by this build",
            ));
        }
        None => return Err(Rejection::new(&path.join("endpoint"), "value is required")),
    };
    match &endpoint.address {
        Some(address) => Ok((endpoint, address)),
        None => Err(Rejection::new(&path.join("endpoint").join("address"), "value is required")),
    }
}

/// `health_check_config`; most endpoints have none.
fn health_check(
    endpoint: &eps::Endpoint,
    address: Option<&Address>,
    path: &Path,
) -> Result<Option<Arc<EndpointHealthCheck>>, Rejection> {
    let Some(from) = &endpoint.health_check_config else { return Ok(None) };
    let path = path.join("health_check_config");
    let own = from.address.as_ref().map(|own| address::address(own, &path.join("address"))).transpose()?;
    // The constraints of the message bound it.
    let port = u16::try_from(from.port_value).unwrap_or(0);
    if port != 0 && matches!(own.as_ref().or(address), Some(Address::Pipe { .. })) {
        let why = "Invalid host configuration: non-zero port for non-IP address";
        return Err(Rejection::new(&path.join("port_value"), why));
    }
    Ok(Some(Arc::new(EndpointHealthCheck {
        address: own,
        port,
        hostname: value::text(&from.hostname),
        disabled: from.disable_active_health_check,
    })))
}

fn build(from: &eps::LbEndpoint, hostname: &str, address: Address) -> Endpoint {
    Endpoint {
        address,
        additional_addresses: None,
        hostname: value::text(hostname),
        weight: value::number(from.load_balancing_weight.as_ref(), 1),
        health: health_status(from.health_status()),
        scope: scopes::NONE,
        transport_metadata: None,
        lb_metadata: None,
        health_check: None,
        leaving: false,
    }
}

fn fixed(from: &eps::LbEndpoint, path: &Path) -> Result<Endpoint, Rejection> {
    let (endpoint, place) = host(from, path)?;
    let outer = path.join("endpoint");
    let mut more = Vec::with_capacity(endpoint.additional_addresses.len());
    for (i, place) in endpoint.additional_addresses.iter().enumerate() {
        let path = outer.join("additional_addresses").at(i).join("address");
        let Some(place) = &place.address else { return Err(Rejection::new(&path, "value is required")) };
        more.push(address::address(place, &path)?);
    }
    let path = outer.join("address");
    let found = address::address(place, &path).map_err(|mut rejection| {
        if rejection.reason.starts_with("malformed IP address") {
            rejection.reason.push_str(
                ". Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'",
            );
        }
        rejection
    })?;
    let health_check = health_check(endpoint, Some(&found), &outer)?;
    let additional_addresses = (!more.is_empty()).then(|| more.into());
    Ok(Endpoint { health_check, additional_addresses, ..build(from, &endpoint.hostname, found) })
}

fn target(
    from: &eps::LbEndpoint,
    locality: usize,
    kind: DiscoveryType,
    path: &Path,
) -> Result<DnsTarget, Rejection> {
    let (endpoint, place) = host(from, path)?;
    let checked = health_check(endpoint, None, &path.join("endpoint"))?;
    let path = path.join("endpoint").join("address");
    let Some(core::address::Address::SocketAddress(socket)) = &place.address else {
        return Err(Rejection::new(&path, "clusters that resolve names need socket addresses"));
    };
    let path = path.join("socket_address");
    if !socket.resolver_name.is_empty() {
        let why = format!("{} clusters must NOT have a custom resolver name set", kind.as_str_name());
        return Err(Rejection::new(&path.join("resolver_name"), why));
    }
    let port = address::port(socket, &path)?;
    let hostname = if endpoint.hostname.is_empty() { &socket.address } else { &endpoint.hostname };
    Ok(DnsTarget {
        host: socket.address.as_str().into(),
        port,
        template: Endpoint {
            health_check: checked,
            ..build(from, hostname, address::unspecified(port, false))
        },
        locality,
    })
}
