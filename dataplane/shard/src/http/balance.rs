//! What of a request decides its endpoint: hash, metadata, a preferred endpoint; and what balancers count.

use millrace_base::{Key, MetadataValue, StreamNotes, Written};
use millrace_config::{Balancing, ClusterId, MetadataMatch, OverrideHostSource, RouteForward};
use millrace_filter::http::stream_filters::WantedHost;
use millrace_http::RequestHead;
use millrace_observe::stats::{ShardStats, cluster as metric};
use millrace_route::HashInputs;
use millrace_upstream::{ClusterState, LbStat, LoadReport, OverrideHost};

use super::HttpOptions;
use super::stream::{Facts, Plan, Stream};
use crate::address::inet;
use crate::downstream::Downstream;
use crate::shard::Shard;

/// What was found out about a request when its first try began.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// The hash of its policies.
    pub(crate) hash: Option<u64>,
    /// `set-cookie` values for the response, one for each new cookie.
    pub(crate) cookies: Vec<Vec<u8>>,
    /// Addresses of endpoints that header fields or metadata name, for a cluster of `OverrideHost`; else empty.
    pub(crate) preferred: Vec<u8>,
    /// The endpoint of the request's session: the first try goes there.
    pub(crate) session: Option<Box<Session>>,
    /// Dynamic metadata that balancers read, merged into the route's `metadata_match`.
    pub(crate) metadata: Option<Box<MetadataMatch>>,
    /// The endpoint's own words about its load are wanted, and have not come.
    pub(crate) wants_load: bool,
}

/// What a session asks for.
#[derive(Debug)]
pub(crate) struct Session {
    address: Vec<u8>,
    strict: bool,
    /// The status when there is no such endpoint.
    pub(crate) status_when_missing: u16,
}

impl Session {
    fn of(wanted: WantedHost<'_>) -> Box<Self> {
        let WantedHost { address, strict, status_when_missing } = wanted;
        Box::new(Self { address: address.to_vec(), strict, status_when_missing })
    }
}

impl Shard {
    /// Looks at the request as it goes upstream; every try uses what is found now.
    pub(super) fn plan_balance(&mut self, id: Key, forward: &RouteForward, cluster: Option<ClusterId>) {
        let Some(config) = cluster.and_then(|id| self.snapshot.cluster(id)) else { return };
        let balancing = &config.balancing;
        // The balancer's own, else the cluster's, else the route's.
        let own = [&balancing.consistent_hashing.hash_policies, &config.http.hash_policies];
        let own = own.into_iter().find(|policies| !policies.is_empty());
        let policies = own.map_or(&forward.hash_policies[..], |own| own);
        let Some(stream) = self.streams.get_mut(id) else { return };
        let wanted = stream.filters.as_ref().and_then(|filters| filters.wanted_host());
        let asked = balancing.subset.is_some().then(|| asked_by_filters(stream)).flatten();
        if policies.is_empty() && balancing.override_host.is_empty() && wanted.is_none() && asked.is_none() {
            return;
        }
        let session = wanted.map(Session::of);
        let client = self.downstreams.get(stream.downstream).map(|client| &**client);
        let addresses = client.map(|client| &client.addresses);
        let notes = stream.facts.state.read();
        let peer = stream.facts.remote.as_ref().or(addresses.map(|own| &own.peer));
        let inputs = HashInputs {
            head: Some(&stream.request),
            peer: peer.and_then(inet),
            local: addresses.and_then(|own| inet(&own.local)),
            written: Written::of(notes.as_deref(), client.and_then(Downstream::filter_state)),
        };
        let hashed = millrace_route::hash(policies, &inputs);
        let mut preferred = Vec::new();
        for source in balancing.override_host.iter() {
            if let Some(list) = addresses_in(source, &stream.request, notes.as_deref()) {
                preferred.extend_from_slice(if preferred.is_empty() { b"" } else { b"," });
                preferred.extend_from_slice(list);
            }
        }
        drop(notes);
        stream.facts.balance = Balance {
            hash: hashed.hash,
            cookies: hashed.cookies,
            preferred,
            session,
            metadata: asked,
            wants_load: false,
        };
    }
}

/// The addresses that a source of `OverrideHost` names.
fn addresses_in<'a>(
    source: &OverrideHostSource,
    request: &'a RequestHead,
    notes: Option<&'a StreamNotes>,
) -> Option<&'a [u8]> {
    match source {
        OverrideHostSource::Header(name) => request.headers.get_name(name),
        OverrideHostSource::Metadata(place) => match notes?.metadata.find(&place.namespace, &place.path)? {
            MetadataValue::Text(list) => Some(list.as_bytes()),
            _ => None,
        },
    }
}

/// Filters and logs may ask which endpoint it is (`OverrideHost.selected_host_key`).
pub(super) fn note_selected(facts: &Facts, balancing: &Balancing) {
    if let (Some(place), Some(address)) = (&balancing.selected_host, &facts.host_address) {
        let address = MetadataValue::Text(address.to_string().into());
        facts.state.write(|notes| notes.metadata.set(&place.namespace, &place.path, address));
    }
}

/// What filters have written for balancers.
fn asked_by_filters(stream: &Stream) -> Option<Box<MetadataMatch>> {
    let notes = stream.facts.state.read();
    let own = notes.as_ref()?.metadata.namespace(MetadataMatch::NAMESPACE)?;
    let route = stream.options.as_deref().and_then(|options| of_route(stream.facts.plan?, options));
    Some(Box::new(MetadataMatch::merged(route, own)))
}

/// What the endpoint must have: dynamic metadata of the request together with `metadata_match` of the route, or that alone.
pub(super) fn metadata_match<'a>(facts: &'a Facts, options: &'a HttpOptions) -> Option<&'a MetadataMatch> {
    facts.balance.metadata.as_deref().or_else(|| of_route(facts.plan?, options))
}

/// `metadata_match` of the route or of the weighted cluster that was chosen.
fn of_route(plan: Plan, options: &HttpOptions) -> Option<&MetadataMatch> {
    let forward: &RouteForward = plan.forward(options)?;
    match plan.weighted_entry(options) {
        Some(entry) => entry.metadata_match.as_deref(),
        None => forward.metadata_match.as_deref(),
    }
}

impl Shard {
    /// Reads what the endpoint reports of its load. The first report of a request counts.
    pub(super) fn read_load(&mut self, id: Key, trailers: bool) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let (Some(plan), Some(host)) = (stream.facts.plan, stream.facts.host) else { return };
        let cluster = stream.facts.member.or(plan.cluster);
        let Some(state) = cluster.and_then(|cluster| self.clusters.get_mut(cluster)) else { return };
        // Trailers of HTTP/1.1 that are not to be seen are not looked at either.
        if trailers && stream.server.is_none() && !state.config().http.enable_trailers {
            return;
        }
        let fields = if trailers { &stream.trailers } else { &stream.response.headers };
        if let Some(report) = LoadReport::from_fields(|name| fields.get_name(name)) {
            stream.facts.balance.wants_load = false;
            if let Ok(report) = report {
                state.report_load(host, &report, self.io.now);
            }
        }
    }
}

impl Balance {
    /// The endpoints that the request names; each try after the first takes the next one.
    pub(super) fn override_host(&self, attempts: u32) -> Option<OverrideHost<'_>> {
        if let (Some(session), 0..=1) = (&self.session, attempts) {
            let (addresses, strict) = (session.address.as_slice(), session.strict);
            return Some(OverrideHost { addresses, skip: 0, strict, any_status: false });
        }
        (!self.preferred.is_empty()).then_some(OverrideHost {
            addresses: &self.preferred,
            skip: attempts.saturating_sub(1),
            strict: false,
            any_status: true,
        })
    }
}

/// Adds what the balancer counted to the cluster's statistics.
#[inline]
pub(crate) fn count(state: &mut ClusterState, stats: &mut ShardStats) {
    let scope = state.config().scope;
    state.take_lb_stats(|stat, count| {
        let counter = match stat {
            LbStat::HealthyPanic => metric::LB_HEALTHY_PANIC,
            LbStat::RecalculateZoneStructures => metric::LB_RECALCULATE_ZONE_STRUCTURES,
            LbStat::LocalClusterNotOk => metric::LB_LOCAL_CLUSTER_NOT_OK,
            LbStat::ZoneClusterTooSmall => metric::LB_ZONE_CLUSTER_TOO_SMALL,
            LbStat::ZoneNoCapacityLeft => metric::LB_ZONE_NO_CAPACITY_LEFT,
            LbStat::ZoneRoutingAllDirectly => metric::LB_ZONE_ROUTING_ALL_DIRECTLY,
            LbStat::ZoneRoutingCrossZone => metric::LB_ZONE_ROUTING_CROSS_ZONE,
            LbStat::ZoneRoutingSampled => metric::LB_ZONE_ROUTING_SAMPLED,
            LbStat::SubsetsCreated => metric::LB_SUBSETS_CREATED,
            LbStat::SubsetsRemoved => metric::LB_SUBSETS_REMOVED,
            LbStat::SubsetsSelected => metric::LB_SUBSETS_SELECTED,
            LbStat::SubsetsFallback => metric::LB_SUBSETS_FALLBACK,
            LbStat::SubsetsFallbackPanic => metric::LB_SUBSETS_FALLBACK_PANIC,
        };
        stats.add(scope, counter, u64::from(count));
        let active = metric::LB_SUBSETS_ACTIVE;
        match stat {
            LbStat::SubsetsCreated => (0..count).for_each(|_| stats.gauge_inc(scope, active)),
            LbStat::SubsetsRemoved => (0..count).for_each(|_| stats.gauge_dec(scope, active)),
            _ => {}
        }
    });
}
