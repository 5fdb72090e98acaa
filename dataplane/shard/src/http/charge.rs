//! The status of an answer, or of what stands for one, in the counters of its cluster, of the endpoint's zone, of the
//! route and of the virtual cluster.

use millrace_base::Key;
use millrace_config::{ClusterId, ScopeId};
use millrace_http::HeaderId;
use millrace_observe::stats::{CodeFamily, UNNAMED_CODE, cluster as metric, cluster_zone, route};
use millrace_upstream::HostId;

use super::Stream;
use crate::shard::Shard;

/// Which counters a status goes to.
#[derive(Clone, Copy, Debug)]
struct Charge {
    cluster: ClusterId,
    endpoint: Option<(ClusterId, HostId)>,
    tallies: [Option<ScopeId>; 2],
    internal: bool,
    canary: bool,
    /// `suppress_grpc_request_failure_code_stats`: no counter of its own in the cluster as a whole.
    hidden: bool,
}

impl Stream {
    /// `suppress_grpc_request_failure_code_stats` concerns it.
    pub(super) fn hides_status(&self) -> bool {
        self.is_grpc && self.options.as_ref().is_some_and(|options| options.router.suppress_grpc_statuses)
    }

    /// Its endpoint is a canary, or the answer says so.
    #[inline]
    fn is_canary(&self) -> bool {
        let told = || self.response.headers.get(HeaderId::XEnvoyUpstreamCanary) == Some(b"true");
        self.facts.canary || (!self.local_reply && told())
    }

    /// `None` for health checks of this proxy, without `dynamic_stats`, and for what went to no cluster.
    #[inline]
    fn charge(&self) -> Option<Charge> {
        let facts = &self.facts;
        let cluster = facts.plan.and_then(|plan| plan.cluster).or_else(|| self.home_cluster())?;
        let silent = self.options.as_ref().is_some_and(|options| options.router.no_dynamic_stats);
        (!silent && !self.is_health_check()).then(|| Charge {
            cluster,
            endpoint: facts.member.zip(facts.host),
            tallies: self.tallies,
            internal: facts.internal,
            canary: self.is_canary(),
            hidden: self.hides_status(),
        })
    }
}

impl Shard {
    /// Counts a status for the cluster that answered, or that a reply of our own stands in for, and how long it took.
    pub(super) fn count_answer(&mut self, stream: &Stream, status: u16) {
        let Some(charge) = stream.charge() else { return };
        let Some((scope, zone)) = self.count_status(charge, status) else { return };
        if stream.facts.times.upstream_rx_begin.is_none() {
            return;
        }
        let since = stream.facts.times.upstream_tx_begin.unwrap_or(stream.facts.times.start);
        let took = self.io.now.since(since).as_millis() as u64;
        self.stats.record(scope, metric::UPSTREAM_RQ_TIME, took);
        let from = match charge.internal {
            true => metric::INTERNAL_UPSTREAM_RQ_TIME,
            false => metric::EXTERNAL_UPSTREAM_RQ_TIME,
        };
        self.stats.record(scope, from, took);
        if charge.canary {
            self.stats.record(scope, metric::CANARY_UPSTREAM_RQ_TIME, took);
        }
        if let Some(zone) = zone {
            self.stats.record(zone, cluster_zone::UPSTREAM_RQ_TIME, took);
        }
        for scope in charge.tallies.iter().flatten() {
            self.stats.record(*scope, route::UPSTREAM_RQ_TIME, took);
        }
    }

    /// Counts a status that is not the last one of its stream: another one follows, of this try or of one beside it.
    pub(super) fn count_beside(&mut self, id: Key, status: u16) {
        if let Some(charge) = self.streams.get(id).and_then(|stream| stream.charge()) {
            self.count_status(charge, status);
        }
    }

    /// Gives the scopes of the cluster and of the endpoint's zone. `None` for 0, which is no status.
    #[inline]
    fn count_status(&mut self, charge: Charge, status: u16) -> Option<(ScopeId, Option<ScopeId>)> {
        let scope = self.cluster_scope(charge.cluster).filter(|_| status > 0)?;
        let zone = self.zone_scope(charge, scope);
        let named = if charge.hidden { UNNAMED_CODE } else { status };
        self.stats.code(scope, CodeFamily::Plain, named);
        let family = if charge.internal { CodeFamily::Internal } else { CodeFamily::External };
        self.stats.code(scope, family, status);
        if charge.canary {
            self.stats.code(scope, CodeFamily::Canary, status);
        }
        if let Some(zone) = zone {
            self.stats.code(zone, CodeFamily::Plain, status);
        }
        for scope in charge.tallies.iter().flatten() {
            self.stats.code(*scope, CodeFamily::Plain, status);
        }
        Some((scope, zone))
    }

    /// Who counts what endpoints of a zone answer, if it and our own are known.
    #[inline]
    fn zone_scope(&mut self, charge: Charge, cluster: ScopeId) -> Option<ScopeId> {
        let from = &self.snapshot.node.zone;
        if from.is_empty() {
            return None;
        }
        let (member, host) = charge.endpoint?;
        let state = self.clusters.get(member)?;
        let host = state.host(host)?;
        let (_, zone, _) = &state.config().localities.get(host.locality as usize)?.locality;
        if zone.is_empty() { None } else { self.stats.zone_scope(cluster, from, zone) }
    }
}
