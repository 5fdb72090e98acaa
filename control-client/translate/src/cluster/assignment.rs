//! A load assignment that came on its own, for a cluster that is there already.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use millrace_config::{Cluster, ClusterDiscovery, DropOverload, LocalityEndpoints, ScopeId};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use millrace_proto::pb::envoy::config::endpoint::v3 as pb;

use super::drop_overload::drop_overload;
use super::{endpoint, scopes};
use crate::context::Context;
use crate::error::Rejection;

/// What replaces the endpoints of an EDS cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadAssignment {
    /// Sorted by priority, then in configuration order. Of endpoints with one address only the first is here.
    pub localities: Vec<LocalityEndpoints>,
    /// `policy.overprovisioning_factor`, default 140.
    pub overprovisioning_factor: u32,
    /// `policy.weighted_priority_health`.
    pub weighted_priority_health: bool,
    /// `policy.endpoint_stale_after`: without another assignment for so long there are no endpoints any more.
    pub stale_after: Option<Duration>,
    /// `policy.drop_overloads`.
    pub drop_overload: Option<Box<DropOverload>>,
    /// Scopes of endpoints that are gone; to be retired when no shard knows them any more.
    pub retired: Vec<ScopeId>,
}

/// Translates an assignment whose fields have been checked. Endpoints of `previous` that are in it keep their scopes.
pub(crate) fn load_assignment(
    assignment: &pb::ClusterLoadAssignment,
    cluster: &Cluster,
    previous: &[LocalityEndpoints],
    cx: &Context,
) -> Result<LoadAssignment, Rejection> {
    let path = Path::default();
    let expected = match &cluster.discovery {
        ClusterDiscovery::Eds { service_name, .. } => service_name,
        _ => &cluster.name,
    };
    if *assignment.cluster_name != **expected {
        let why = format!("Unexpected EDS cluster (expecting {expected}): {}", assignment.cluster_name);
        return Err(Rejection::new(&path.join("cluster_name"), why));
    }
    weights(assignment, &path.join("endpoints"))?;
    let mut load = endpoint::translate(assignment, DiscoveryType::Eds, &path)?;
    let drop_overload = drop_overload(Some(assignment), &path, cx)?;
    let mut seen = HashSet::new();
    for locality in &mut load.localities {
        locality.endpoints.retain(|endpoint| seen.insert(endpoint.address.clone()));
    }
    scopes::endpoints(&mut load.localities, previous, &cx.registry);
    Ok(LoadAssignment {
        retired: retired_scopes(previous, &load.localities),
        localities: load.localities,
        overprovisioning_factor: load.overprovisioning_factor,
        weighted_priority_health: load.weighted_priority_health,
        stale_after: load.stale_after,
        drop_overload,
    })
}

/// The sums that balancers work with must fit 32 bits.
fn weights(assignment: &pb::ClusterLoadAssignment, path: &Path) -> Result<(), Rejection> {
    let mut priorities: BTreeMap<u32, u64> = BTreeMap::new();
    for (i, locality) in assignment.endpoints.iter().enumerate() {
        let path = path.at(i);
        let weight = |weight: Option<u32>| u64::from(weight.unwrap_or(1));
        let endpoints = locality.lb_endpoints.iter();
        let sum: u64 = endpoints.map(|e| weight(e.load_balancing_weight.map(|w| w.value))).sum();
        if sum > u64::from(u32::MAX) {
            let why = format!("the sum of the weights of all endpoints of a locality exceeds {}", u32::MAX);
            return Err(Rejection::new(&path.join("lb_endpoints"), why));
        }
        let sum = priorities.entry(locality.priority).or_default();
        *sum += locality.load_balancing_weight.map_or(0, |weight| u64::from(weight.value));
        if *sum > u64::from(u32::MAX) {
            let why = format!("the sum of the weights of all localities of a priority exceeds {}", u32::MAX);
            return Err(Rejection::new(&path.join("load_balancing_weight"), why));
        }
    }
    Ok(())
}

/// Scopes of endpoints of `old` that no endpoint of `new` has.
pub fn retired_scopes(old: &[LocalityEndpoints], new: &[LocalityEndpoints]) -> Vec<ScopeId> {
    let scopes = |all: &[LocalityEndpoints]| -> Vec<ScopeId> {
        all.iter().flat_map(|locality| &locality.endpoints).map(|endpoint| endpoint.scope).collect()
    };
    let kept: HashSet<ScopeId> = scopes(new).into_iter().collect();
    scopes(old).into_iter().filter(|scope| !kept.contains(scope)).collect()
}
