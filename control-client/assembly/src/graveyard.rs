//! Statistics scopes of what left the configuration: retired when nobody can count in them any more.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Cluster, ScopeId};
use millrace_observe::stats::Registry;

use crate::deadlines::{Deadlines, Due};

/// Requests to an endpoint that left may go on this long before its scope is given to somebody else.
const REST: Duration = Duration::from_secs(600);

struct Grave {
    until: Time,
    /// Requests under way hold on to the cluster.
    cluster: Option<Arc<Cluster>>,
    scopes: Vec<ScopeId>,
}

#[derive(Default)]
pub(crate) struct Graveyard {
    graves: std::collections::VecDeque<Grave>,
}

impl Graveyard {
    /// Endpoints that left a cluster.
    pub(crate) fn hosts(&mut self, now: Time, scopes: Vec<ScopeId>, deadlines: &mut Deadlines) {
        if !scopes.is_empty() {
            self.bury(now, None, scopes, deadlines);
        }
    }

    /// A cluster that left, with its endpoints.
    pub(crate) fn cluster(&mut self, now: Time, cluster: Arc<Cluster>, deadlines: &mut Deadlines) {
        let hosts = cluster.localities.iter().flat_map(|l| &l.endpoints).map(|e| e.scope);
        let scopes = hosts.chain([cluster.scope]).collect();
        self.bury(now, Some(cluster), scopes, deadlines);
    }

    fn bury(
        &mut self,
        now: Time,
        cluster: Option<Arc<Cluster>>,
        scopes: Vec<ScopeId>,
        deadlines: &mut Deadlines,
    ) {
        let until = now + REST;
        if self.graves.is_empty() {
            deadlines.insert(until, Due::Graves);
        }
        self.graves.push_back(Grave { until, cluster, scopes });
    }

    /// Retires what has rested long enough. `is_used` says that a scope came back under its old name.
    pub(crate) fn tend(
        &mut self,
        now: Time,
        registry: &Registry,
        deadlines: &mut Deadlines,
        is_used: impl Fn(ScopeId) -> bool,
    ) {
        let mut busy = Vec::new();
        while let Some(mut grave) = self.graves.pop_front_if(|grave| grave.until <= now) {
            if grave.cluster.as_ref().is_some_and(|cluster| Arc::strong_count(cluster) > 1) {
                grave.until = now + REST;
                busy.push(grave);
                continue;
            }
            grave
                .scopes
                .into_iter()
                .filter(|scope| !is_used(*scope))
                .for_each(|scope| registry.retire(scope));
        }
        self.graves.extend(busy);
        if let Some(first) = self.graves.front() {
            deadlines.insert(first.until, Due::Graves);
        }
    }
}
