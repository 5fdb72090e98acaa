//! Statistics of the process itself, and how names and tags are configured.

use std::time::Duration;

use millrace_observe::stats::{
    Registry, ScopeId, ScopeKind, ShardStats, StatsMatcher, TagRule, TagRules, cluster_manager,
    listener_manager, runtime, server,
};
use millrace_translate::{Compiled, StatsMatcher as Configured, TagValue};

use super::process;
use crate::cli::Options;

/// Applies `stats_config` and `--stats-tag`.
///
/// # Errors
/// A tag's regular expression that does not compile, with its field path.
pub fn configure(registry: &Registry, compiled: &Compiled, options: &Options) -> Result<(), String> {
    let config = &compiled.stats;
    let mut rules = Vec::new();
    for (name, value) in &options.stats_tags {
        rules.push(TagRule::Fixed { name: name.clone(), value: value.clone() });
    }
    for (index, tag) in config.tags.iter().enumerate() {
        match &tag.value {
            TagValue::Fixed(value) => {
                rules.push(TagRule::Fixed { name: tag.name.clone(), value: value.clone() });
            }
            // An empty pattern names a built-in rule, which the defaults hold.
            TagValue::Regex(pattern) if pattern.is_empty() => {}
            TagValue::Regex(pattern) => {
                let rule = TagRule::regex(&tag.name, pattern);
                rules.push(rule.map_err(|e| format!("stats_config.stats_tags[{index}].regex: {e}"))?);
            }
        }
    }
    registry.set_tags(TagRules { defaults: config.use_all_default_tags, rules });
    registry.set_matcher(match &config.matcher {
        Configured::All => StatsMatcher::AcceptAll,
        Configured::RejectAll => StatsMatcher::RejectAll,
        Configured::Exclude(list) => StatsMatcher::Exclusion(list.clone()),
        Configured::Include(list) => StatsMatcher::Inclusion(list.clone()),
    });
    Ok(())
}

/// The wall clock.
pub(super) fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The gauges that the control thread keeps.
pub struct ProcessStats {
    /// The control thread's own counters.
    pub stats: ShardStats,
    pub(super) server: ScopeId,
    pub(super) resolver: ScopeId,
    listeners: ScopeId,
    clusters: ScopeId,
    runtime: ScopeId,
}

impl ProcessStats {
    /// Registers the scopes.
    pub fn new(registry: &Registry) -> Self {
        Self {
            stats: registry.attach_shard("main_thread"),
            server: registry.scope(ScopeKind::Server, ""),
            resolver: registry.scope(ScopeKind::Dns, ""),
            listeners: registry.scope(ScopeKind::ListenerManager, ""),
            clusters: registry.scope(ScopeKind::ClusterManager, ""),
            runtime: registry.scope(ScopeKind::Runtime, ""),
        }
    }

    /// How long the first certificate is good for.
    pub fn certificates(&mut self, snapshot: &millrace_config::Snapshot) {
        let days = super::certificates::days_until_first_expires(snapshot, unix_seconds());
        self.stats.gauge_set(self.server, server::DAYS_UNTIL_FIRST_CERT_EXPIRING, days);
    }

    /// What is known once the configuration is loaded.
    pub fn loaded(&mut self, compiled: &Compiled, shards: usize, version: u64) {
        let Self { stats, server: scope, listeners, clusters, runtime: layers, resolver: _ } = self;
        stats.gauge_set(*scope, server::CONCURRENCY, shards as u64);
        stats.gauge_set(*scope, server::VERSION, compiled.stats_server_version_override.unwrap_or(version));
        stats.gauge_set(*scope, server::DAYS_UNTIL_FIRST_CERT_EXPIRING, u64::from(u32::MAX));
        stats.inc(*layers, runtime::LOAD_SUCCESS);
        stats.gauge_set(*layers, runtime::NUM_LAYERS, compiled.runtime.layers.len() as u64);
        let keys: usize = compiled.runtime.layers.iter().map(|layer| layer.values.len()).sum();
        stats.gauge_set(*layers, runtime::NUM_KEYS, keys as u64);
        let added = compiled.snapshot.listeners.len() as u64;
        stats.add(*listeners, listener_manager::LISTENER_ADDED, added);
        let count = compiled.snapshot.clusters.iter().flatten().count() as u64;
        stats.add(*clusters, cluster_manager::CLUSTER_ADDED, count);
    }

    /// The shards accept connections.
    pub fn workers_started(&mut self) {
        self.stats.gauge_set(self.listeners, listener_manager::WORKERS_STARTED, 1);
    }

    /// Shards got listeners, one by one.
    pub fn listeners_created(&mut self, created: u64) {
        self.stats.add(self.listeners, listener_manager::LISTENER_CREATE_SUCCESS, created);
    }

    /// Listeners were closed.
    pub fn listeners_stopped(&mut self, count: u64) {
        self.stats.add(self.listeners, listener_manager::LISTENER_STOPPED, count);
    }

    /// What changes by itself.
    pub fn refresh(&mut self, state: u64, uptime: Duration, connections: u64) {
        let memory = process::memory();
        let Self { stats, server: scope, .. } = self;
        stats.gauge_set(*scope, server::LIVE, u64::from(state == 0));
        stats.gauge_set(*scope, server::STATE, state);
        stats.gauge_set(*scope, server::UPTIME, uptime.as_secs());
        stats.gauge_set(*scope, server::TOTAL_CONNECTIONS, connections);
        stats.gauge_set(*scope, server::MEMORY_ALLOCATED, memory.allocated);
        stats.gauge_set(*scope, server::MEMORY_HEAP_SIZE, memory.heap_size);
        stats.gauge_set(*scope, server::MEMORY_PHYSICAL_SIZE, memory.total_physical_bytes);
    }
}
