//! The statistics scopes of endpoints: counters belong to the address, whatever else of the endpoint changes.

use std::collections::HashMap;

use millrace_config::{Address, Cluster, ClusterDiscovery, LocalityEndpoints, ScopeId};
use millrace_observe::stats::Registry;

/// Of an endpoint that has none yet.
pub(super) const NONE: ScopeId = ScopeId(u32::MAX);

/// Gives every endpoint the scope that its address had before, or a new one.
pub(super) fn endpoints(
    localities: &mut [LocalityEndpoints],
    previous: &[LocalityEndpoints],
    registry: &Registry,
) {
    let mut before: HashMap<&Address, ScopeId> = HashMap::new();
    for endpoint in previous.iter().flat_map(|locality| &locality.endpoints) {
        before.entry(&endpoint.address).or_insert(endpoint.scope);
    }
    for endpoint in localities.iter_mut().flat_map(|locality| &mut locality.endpoints) {
        // Taken out, so that two endpoints of one address do not share a scope.
        endpoint.scope = before.remove(&endpoint.address).unwrap_or_else(|| registry.host_scope());
    }
}

/// The same for a whole cluster, names to resolve included.
pub(super) fn assign(cluster: &mut Cluster, previous: Option<&Cluster>, registry: &Registry) {
    let before = previous.map_or(&[][..], |previous| &previous.localities);
    endpoints(&mut cluster.localities, before, registry);
    let ClusterDiscovery::Dns { targets, .. } = &mut cluster.discovery else {
        return;
    };
    let mut before = HashMap::new();
    if let Some(ClusterDiscovery::Dns { targets, .. }) = previous.map(|previous| &previous.discovery) {
        before.extend(targets.iter().map(|target| ((&target.host, target.port), target.template.scope)));
    }
    for target in targets {
        let known = before.remove(&(&target.host, target.port));
        target.template.scope = known.unwrap_or_else(|| registry.host_scope());
    }
}
