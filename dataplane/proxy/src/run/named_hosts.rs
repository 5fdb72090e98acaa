//! Hosts that requests name: shards ask, the resolver answers, all shards are told.

use std::sync::Arc;

use millrace_config::{Cluster, DnsCacheId, LocalityEndpoints, ScopeId};
use millrace_driver::dns::HostEvent;
use millrace_observe::stats::{ControlStats, cluster as cluster_metric, dns_cache as metric};
use millrace_shard::shared::{Message, Shared};
use millrace_translate::Context;
use millrace_upstream::host_endpoint;

use super::control::{Control, Hosts};
use super::xds::Xds;

impl Control {
    /// Shards want to know hosts.
    pub(super) fn heed_questions(&mut self) {
        for question in self.workers.shared.take_questions() {
            let events = self.hosts.ask(&question);
            events.into_iter().for_each(|event| self.heard_of_host(event));
        }
    }

    /// Resolves what caches that are new shall know from the start.
    pub(super) fn preresolve_hosts(&mut self) {
        for cache in self.xds.assembly.take_dns_caches() {
            let events = self.hosts.preresolve(&cache);
            events.into_iter().for_each(|event| self.heard_of_host(event));
        }
    }

    /// Something happened in a cache of hosts.
    pub(super) fn heard_of_host(&mut self, event: HostEvent) {
        count(&mut self.xds.stats, &event);
        if let Some(query) = event.query {
            self.count_query(query);
        }
        if let Some(member) = event.member {
            self.count_member(event.cache, member);
        }
        if let Some(news) = event.news {
            let news = Arc::new(news);
            self.workers.broadcast(|| Message::Host(Arc::clone(&news)));
        }
    }

    /// An endpoint came or went in every cluster that uses the cache.
    fn count_member(&mut self, cache: DnsCacheId, came: bool) {
        let Xds { stats, assembly, .. } = &mut self.xds;
        for cluster in assembly.snapshot().clusters.iter().flatten() {
            if cluster.discovery.forward_proxy().is_some_and(|own| own.cache.id == cache) {
                stats.inc(cluster.scope, cluster_metric::MEMBERSHIP_CHANGE);
                if came {
                    stats.inc(cluster.scope, cluster_metric::DEFAULT_TOTAL_MATCH_COUNT);
                }
            }
        }
    }
}

fn count(stats: &mut ControlStats, event: &HostEvent) {
    use millrace_driver::dns::Query;
    let scope = event.scope;
    let failed = matches!(event.query, Some(Query::Failed | Query::TimedOut));
    for (counter, n) in [
        (metric::DNS_QUERY_ATTEMPT, u64::from(event.asked)),
        (metric::DNS_QUERY_FAILURE, u64::from(failed)),
        (metric::DNS_QUERY_SUCCESS, u64::from(event.query.is_some() && !failed)),
        (metric::DNS_QUERY_TIMEOUT, u64::from(event.timed_out)),
        (metric::DNS_ADDRESS_FILTER_OUT, event.taken_out),
        (metric::HOST_ADDED, event.added),
        (metric::HOST_REMOVED, event.removed),
        (metric::HOST_ADDRESS_CHANGED, u64::from(event.address_changed)),
    ] {
        if n > 0 {
            stats.add(scope, counter, n);
        }
    }
    stats.gauge_set(scope, metric::NUM_HOSTS, event.hosts as u64);
}

/// The gauges of requests that wait, of every cache.
pub(super) fn refresh(stats: &mut ControlStats, context: &Context) {
    for cache in context.dns_caches.living() {
        let (pending, most) = (cache.pending(), cache.config.max_pending_requests);
        stats.gauge_set(cache.scope, metric::RQ_PENDING_OPEN, u64::from(pending > 0 && pending >= most));
        stats.gauge_set(cache.scope, metric::RQ_PENDING_REMAINING, u64::from(most.saturating_sub(pending)));
    }
}

/// A cluster whose endpoints are the hosts of a cache, with those that there are now. `none` is the scope of hosts that no
/// shard has had a use for.
pub(super) fn with_hosts(
    cluster: &Arc<Cluster>,
    hosts: &Hosts,
    shared: &Shared,
    none: ScopeId,
) -> Option<Arc<Cluster>> {
    let own = cluster.discovery.forward_proxy()?;
    let scope = |name: &Arc<str>| shared.on_demand(cluster.id, |book| book.scope_of(name)).flatten();
    let members = hosts.members(own.cache.id);
    let endpoints =
        members.filter_map(|host| host_endpoint(host, scope(&host.name).unwrap_or(none))).collect();
    let localities = vec![LocalityEndpoints { endpoints, ..LocalityEndpoints::default() }];
    Some(Arc::new(Cluster { localities, ..Cluster::clone(cluster) }))
}
