//! Statistics scopes of what left the configuration: retired when nobody can count in them any more.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Cluster, ScopeId};
use millrace_observe::stats::{Registry, host};

use crate::deadlines::{Deadlines, Due};

/// Requests to an endpoint that left may go on this long before its scope is given to somebody else.
const REST: Duration = Duration::from_secs(600);

struct Grave {
    until: Time,
    /// Shards that still use the cluster hold on to it.
    cluster: Option<Arc<Cluster>>,
    hosts: Vec<ScopeId>,
}

impl Grave {
    fn is_in_use(&self, registry: &Registry) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| Arc::strong_count(cluster) > 1)
            || self.hosts.iter().any(|scope| registry.gauge(*scope, host::CX_ACTIVE) > 0)
    }
}

/// What left, oldest first.
#[derive(Default)]
pub(crate) struct Graveyard {
    graves: std::collections::VecDeque<Grave>,
}

impl Graveyard {
    /// Endpoints that left a cluster.
    pub(crate) fn hosts(&mut self, now: Time, hosts: Vec<ScopeId>, deadlines: &mut Deadlines) {
        if !hosts.is_empty() {
            self.bury(now, None, hosts, deadlines);
        }
    }

    /// A cluster that left, with its endpoints.
    pub(crate) fn cluster(&mut self, now: Time, cluster: Arc<Cluster>, deadlines: &mut Deadlines) {
        let hosts = cluster.localities.iter().flat_map(|l| &l.endpoints).map(|e| e.scope).collect();
        self.bury(now, Some(cluster), hosts, deadlines);
    }

    fn bury(
        &mut self,
        now: Time,
        cluster: Option<Arc<Cluster>>,
        hosts: Vec<ScopeId>,
        deadlines: &mut Deadlines,
    ) {
        let until = now + REST;
        if self.graves.is_empty() {
            deadlines.insert(until, Due::Graves);
        }
        self.graves.push_back(Grave { until, cluster, hosts });
    }

    /// Retires what has rested long enough and is in nobody's use. `is_used` says that a cluster's scope came back
    /// under its old name.
    pub(crate) fn tend(
        &mut self,
        now: Time,
        registry: &Registry,
        deadlines: &mut Deadlines,
        is_used: impl Fn(ScopeId) -> bool,
    ) {
        let mut busy = Vec::new();
        while let Some(mut grave) = self.graves.pop_front_if(|grave| grave.until <= now) {
            if grave.is_in_use(registry) {
                grave.until = now + REST;
                busy.push(grave);
                continue;
            }
            let own = grave.cluster.map(|cluster| cluster.scope).filter(|scope| !is_used(*scope));
            grave.hosts.into_iter().chain(own).for_each(|scope| registry.retire(scope));
        }
        self.graves.extend(busy);
        if let Some(first) = self.graves.front() {
            deadlines.insert(first.until, Due::Graves);
        }
    }
}
