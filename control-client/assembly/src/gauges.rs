//! Counters and gauges that control planes and people read.

use millrace_ads::{ResourceType, Update};
use millrace_config::{Cluster, ClusterDiscovery, Endpoint, HealthStatus, SourceId};
use millrace_observe::stats::{
    ControlStats, cds, cluster, cluster_manager, lds, listener_manager, rds, scoped_rds, sds, vhds,
};
use twox_hash::XxHash64;

use crate::{Assembly, Turn};

/// Endpoint gauges of a cluster.
pub(crate) fn membership(stats: &mut ControlStats, config: &Cluster) {
    let (mut total, mut healthy, mut degraded, mut heaviest) = (0, 0, 0, 0);
    for endpoint in config.localities.iter().flat_map(|locality| &locality.endpoints) {
        total += 1;
        healthy += u64::from(matches!(endpoint.health, HealthStatus::Unknown | HealthStatus::Healthy));
        degraded += u64::from(endpoint.health == HealthStatus::Degraded);
        heaviest = heaviest.max(endpoint.weight);
    }
    let scope = config.scope;
    stats.gauge_set(scope, cluster::MEMBERSHIP_TOTAL, total);
    // Of endpoints that are checked the shards know more.
    if config.health_check.is_none() {
        stats.gauge_set(scope, cluster::MEMBERSHIP_HEALTHY, healthy);
        stats.gauge_set(scope, cluster::MEMBERSHIP_DEGRADED, degraded);
    }
    // Envoy compares the weights of endpoints that come and go, and of no others.
    if !matches!(config.discovery, ClusterDiscovery::Static) {
        stats.gauge_set(scope, cluster::MAX_HOST_WEIGHT, heaviest.into());
    }
}

/// Endpoints came or went in so many priorities, or were told again.
pub(crate) fn endpoints_told(stats: &mut ControlStats, changed: u64, config: &Cluster) {
    if changed > 0 {
        stats.add(config.scope, cluster::MEMBERSHIP_CHANGE, changed);
    }
    let has_match = |endpoint: &Endpoint| {
        let metadata = endpoint.transport_metadata.as_deref().unwrap_or(&[]);
        config.transport_matches.iter().any(|candidate| candidate.matches(metadata))
    };
    let endpoints = config.localities.iter().flat_map(|locality| &locality.endpoints);
    let by_default = match config.transport_matches.is_empty() {
        true => config.localities.iter().map(|locality| locality.endpoints.len()).sum(),
        false => endpoints.filter(|endpoint| !has_match(endpoint)).count(),
    };
    stats.add(config.scope, cluster::DEFAULT_TOTAL_MATCH_COUNT, by_default as u64);
}

/// A cluster took a load assignment.
pub(crate) fn assignment(turn: &mut Turn<'_>, config: &Cluster, version: &str) {
    turn.stats.inc(config.scope, cluster::UPDATE_ATTEMPT);
    turn.stats.inc(config.scope, cluster::UPDATE_SUCCESS);
    turn.stats.gauge_set(config.scope, cluster::UPDATE_TIME, turn.wall.0 / 1_000_000);
    turn.stats.gauge_set(config.scope, cluster::VERSION, version_hash(version));
}

/// Envoy prints versions as the hash of their text.
pub(crate) fn version_hash(version: &str) -> u64 {
    XxHash64::oneshot(0, version.as_bytes())
}

impl Assembly {
    pub(crate) fn count_attempt(&mut self, turn: &mut Turn<'_>, update: &Update) {
        match update.resource_type {
            ResourceType::Cluster => turn.stats.inc(self.manager_scopes.cds, cds::UPDATE_ATTEMPT),
            ResourceType::Listener => turn.stats.inc(self.manager_scopes.lds, lds::UPDATE_ATTEMPT),
            ResourceType::Endpoint
            | ResourceType::Route
            | ResourceType::Runtime
            | ResourceType::Secret
            | ResourceType::ExtensionConfig
            | ResourceType::ScopedRoute
            | ResourceType::VirtualHost => {}
        }
    }

    /// An update of CDS was applied, as far as it was good. `has_changed`: it said something new.
    pub(crate) fn count_cds(&mut self, turn: &mut Turn<'_>, version: &str, is_good: bool, has_changed: bool) {
        let (stats, scope) = (&mut *turn.stats, self.manager_scopes.cds);
        if !is_good {
            return stats.inc(scope, cds::UPDATE_REJECTED);
        }
        let milliseconds = turn.wall.0 / 1_000_000;
        stats.inc(scope, cds::UPDATE_SUCCESS);
        if has_changed {
            stats.inc(scope, cds::CONFIG_RELOAD);
            stats.gauge_set(scope, cds::CONFIG_RELOAD_TIME_MS, milliseconds);
        }
        stats.gauge_set(scope, cds::UPDATE_TIME, milliseconds);
        stats.gauge_set(scope, cds::VERSION, version_hash(version));
        self.cx.registry.set_text("cluster_manager.cds.version_text", version);
    }

    /// As [`Self::count_cds`].
    pub(crate) fn count_lds(&mut self, turn: &mut Turn<'_>, version: &str, is_good: bool) {
        let (stats, scope) = (&mut *turn.stats, self.manager_scopes.lds);
        if !is_good {
            return stats.inc(scope, lds::UPDATE_REJECTED);
        }
        stats.inc(scope, lds::UPDATE_SUCCESS);
        stats.gauge_set(scope, lds::UPDATE_TIME, turn.wall.0 / 1_000_000);
        stats.gauge_set(scope, lds::VERSION, version_hash(version));
        self.cx.registry.set_text("listener_manager.lds.version_text", version);
    }

    /// A stream, fetch or file failed; `only` says of which type, all types of an aggregated stream without it.
    /// Whatever comes from there counts a failure, and with it another attempt, as in Envoy.
    pub fn source_failed(&mut self, stats: &mut ControlStats, source: SourceId, only: Option<ResourceType>) {
        let concerns = |ty| only.is_none_or(|only| only == ty);
        if concerns(ResourceType::Cluster) && self.cds == Some(source) {
            stats.inc(self.manager_scopes.cds, cds::UPDATE_FAILURE);
            stats.inc(self.manager_scopes.cds, cds::UPDATE_ATTEMPT);
        }
        if concerns(ResourceType::Listener) && self.startup.lds_source() == Some(source) {
            stats.inc(self.manager_scopes.lds, lds::UPDATE_FAILURE);
            stats.inc(self.manager_scopes.lds, lds::UPDATE_ATTEMPT);
        }
        if concerns(ResourceType::Route) {
            for scope in self.route_scopes(source) {
                stats.inc(scope, rds::UPDATE_FAILURE);
                stats.inc(scope, rds::UPDATE_ATTEMPT);
            }
        }
        if concerns(ResourceType::ScopedRoute) {
            for scope in self.scoped_stats(source) {
                stats.inc(scope, scoped_rds::UPDATE_FAILURE);
                stats.inc(scope, scoped_rds::UPDATE_ATTEMPT);
            }
        }
        if concerns(ResourceType::Secret) {
            for scope in self.secret_scopes(source) {
                stats.inc(scope, sds::UPDATE_FAILURE);
                stats.inc(scope, sds::UPDATE_ATTEMPT);
            }
        }
        if concerns(ResourceType::VirtualHost) {
            for scope in self.virtual_host_scopes(source) {
                stats.inc(scope, vhds::UPDATE_FAILURE);
                stats.inc(scope, vhds::UPDATE_ATTEMPT);
            }
        }
        if concerns(ResourceType::Endpoint) {
            let users = self.assignments.users_of(source);
            let clusters = users.filter_map(|name| self.clusters.entries.get(name)?.latest());
            for scope in clusters.map(|version| version.cluster.scope) {
                stats.inc(scope, cluster::UPDATE_FAILURE);
                stats.inc(scope, cluster::UPDATE_ATTEMPT);
            }
        }
    }

    pub(crate) fn refresh_gauges(&mut self, stats: &mut ControlStats) {
        let clusters = self.manager_scopes.clusters;
        stats.gauge_set(
            clusters,
            cluster_manager::ACTIVE_CLUSTERS,
            (self.clusters.active + self.control_clusters.len()) as u64,
        );
        stats.gauge_set(clusters, cluster_manager::WARMING_CLUSTERS, self.clusters.warming as u64);
        if !std::mem::take(&mut self.listeners_changed) {
            return;
        }
        let count = |is: fn(&crate::ListenerEntry) -> bool| {
            self.listeners.values().filter(|entry| is(entry)).count() as u64
        };
        let scope = self.manager_scopes.listeners;
        let active = count(|entry| entry.active.is_some());
        stats.gauge_set(scope, listener_manager::TOTAL_LISTENERS_ACTIVE, active);
        let warming = count(|entry| entry.warming.is_some());
        stats.gauge_set(scope, listener_manager::TOTAL_LISTENERS_WARMING, warming);
        stats.gauge_set(scope, listener_manager::TOTAL_LISTENERS_DRAINING, self.draining);
    }
}

#[cfg(test)]
mod tests {
    /// As real Envoy printed them (`corpora/envoy/transcripts`).
    #[test]
    fn versions_hash_as_in_envoy() {
        assert_eq!(super::version_hash("4"), 10_464_417_414_901_951_369);
        assert_eq!(super::version_hash("3"), 2_744_517_546_871_237_796);
    }
}
