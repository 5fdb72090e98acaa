//! Which endpoint of which cluster a request or a connection goes to: the cluster's balancer, where the client wanted
//! to go (`ORIGINAL_DST`), the host that it names (dynamic forward proxy), or a member of an aggregate cluster.

use std::borrow::Cow;
use std::net::SocketAddr;

use millrace_base::{Metadata, MetadataValue, Rng, Time, WallTime, Written};
use millrace_config::{
    Cluster, ClusterDiscovery, ClusterId, ForwardProxyCluster, OriginalDst, ScopeId, Snapshot,
};
use millrace_filter::http::forward_proxy::{self, Asked};
use millrace_http::HeaderMap;
use millrace_observe::stats::{ShardStats, cluster as metric, dns_cache};
use millrace_upstream::{Aggregate, ChooseContext, Chosen, ClusterState, Dropped, HostId, NoHost};

use crate::address::inet;
use crate::clusters::Clusters;
use crate::downstream::Downstream;
use crate::http::balance;
use crate::named_hosts::{NamedHosts, Waiter};
use crate::shared::Shared;

/// An endpoint, and the cluster that it belongs to: for an aggregate cluster one of its members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) cluster: ClusterId,
    pub(crate) chosen: Chosen,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// The cluster does not exist.
    NoCluster,
    /// It has no endpoint that may be used.
    NoHost,
    /// The one that a strict session asks for does not exist.
    Missing,
    /// The host that the request names has none, with the details of the answer.
    Unresolved(Cow<'static, str>),
    /// The host is being resolved: who asks will be told.
    Waits,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asker<'a> {
    pub(crate) headers: Option<&'a HeaderMap>,
    /// The host of the request.
    pub(crate) authority: Option<&'a [u8]>,
    /// The port of hosts without one, where the connection says so.
    pub(crate) port: Option<u16>,
    /// Who is told when a host was resolved, and whether it has waited before.
    pub(crate) waiter: Option<(Waiter, bool)>,
    pub(crate) client: Option<&'a Downstream>,
    /// What was written about the request, or about the connection.
    pub(crate) written: Written<'a>,
    /// The cluster of the endpoints that are to be avoided.
    pub(crate) avoid_of: Option<ClusterId>,
}

/// What a choice needs of the shard.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    pub(crate) clusters: &'a mut Clusters,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) shared: &'a Shared,
    pub(crate) stats: &'a mut ShardStats,
    pub(crate) rng: &'a mut Rng,
    pub(crate) named_hosts: &'a mut NamedHosts,
    pub(crate) now: Time,
    pub(crate) wall: WallTime,
}

impl Chooser<'_> {
    /// Chooses an endpoint of a cluster and counts what balancers count.
    #[inline]
    pub(crate) fn choose(
        &mut self,
        cluster: ClusterId,
        context: &ChooseContext<'_>,
        asker: &Asker<'_>,
    ) -> Result<Choice, NoChoice> {
        let state = self.clusters.inflate(cluster, self.snapshot, self.shared, self.rng);
        let state = state.ok_or(NoChoice::NoCluster)?;
        let scope = state.config().scope;
        let choice = if state.provides_balancer() {
            self.choose_provided(cluster, context, asker)
        } else {
            let chosen = state.choose_host(self.rng, context);
            balance::count(state, self.stats);
            if let Ok(Chosen { panic: true, .. }) = chosen {
                self.stats.inc(scope, metric::LB_HEALTHY_PANIC);
            }
            chosen.map(|chosen| Choice { cluster, chosen }).map_err(no_host)
        };
        choice.inspect_err(|why| {
            // As in Envoy, whose balancer has said so by then: not of those who have waited.
            let waited =
                matches!(why, NoChoice::Unresolved(_)) && asker.waiter.is_some_and(|(_, again)| again);
            if *why != NoChoice::Waits && !waited {
                self.stats.inc(scope, metric::UPSTREAM_CX_NONE_HEALTHY);
            }
        })
    }

    #[cold]
    fn choose_provided(
        &mut self,
        cluster: ClusterId,
        context: &ChooseContext<'_>,
        asker: &Asker<'_>,
    ) -> Result<Choice, NoChoice> {
        // Of the snapshot, since what shards share of a cluster is not to be counted for each request.
        let snapshot = self.snapshot;
        let config = snapshot.cluster(cluster).ok_or(NoChoice::NoHost)?;
        match &config.discovery {
            ClusterDiscovery::OriginalDst(own) => {
                let (address, invalid) = destination(own, asker);
                self.stats.add(config.scope, metric::ORIGINAL_DST_HOST_INVALID, u64::from(invalid));
                let host =
                    self.demand(cluster, config.scope, address.ok_or(NoChoice::NoHost)?).map_err(no_host)?;
                Ok(Choice { cluster, chosen: Chosen { host, panic: false } })
            }
            ClusterDiscovery::Aggregate(members) => {
                self.choose_member(config, members, context, asker).map_err(no_host)
            }
            ClusterDiscovery::ForwardProxy(own) => {
                let host = self.named_host(cluster, own, asker)?;
                Ok(Choice { cluster, chosen: Chosen { host, panic: false } })
            }
            _ => Err(NoChoice::NoHost),
        }
    }

    /// The endpoint of the host that filter state names, or a request, or the TLS of a connection.
    fn named_host(
        &mut self,
        cluster: ClusterId,
        own: &ForwardProxyCluster,
        asker: &Asker<'_>,
    ) -> Result<HostId, NoChoice> {
        let named = || asker.client.and_then(Downstream::requested_server_name).map(str::as_bytes);
        let (dynamic, port) = forward_proxy::dynamic(&asker.written);
        let host = dynamic.map(str::as_bytes).or(asker.authority).or_else(named);
        let host = host.filter(|host| !host.is_empty()).ok_or(NoChoice::NoHost)?;
        let (cache, port) = (&own.cache, port.or(asker.port).unwrap_or(own.default_port));
        let known = self.named_hosts.find(cache.id, host, port, self.wall);
        if let Some(answer) = known.filter(|answer| answer.address.is_some()) {
            let state = self.clusters.get_mut(cluster).ok_or(NoChoice::NoHost)?;
            let mut dropped = Dropped::default();
            let registry = self.stats.registry();
            let found = state.demand_host(answer, self.now, || registry.host_scope(), &mut dropped);
            dropped.scopes.into_iter().for_each(|scope| registry.retire(scope));
            return found.map_err(no_host);
        }
        let waiter = asker.waiter.ok_or(NoChoice::NoHost)?;
        let busy = cache.is_busy();
        let asked = match busy {
            true => Asked::Busy,
            false => self.named_hosts.ask(cache, (host, port), waiter, self.shared),
        };
        match asked {
            Asked::Known(answer) => {
                Err(NoChoice::Unresolved(format!("dns_resolution_failure{{{}}}", answer.details).into()))
            }
            Asked::Waits => Err(NoChoice::Waits),
            Asked::Full => {
                self.stats.inc(cache.scope, dns_cache::HOST_OVERFLOW);
                Err(NoChoice::Unresolved("dns_cache_overflow".into()))
            }
            Asked::Busy => {
                self.stats.inc(cache.scope, dns_cache::DNS_RQ_PENDING_OVERFLOW);
                Err(NoChoice::Unresolved("dns_cache_pending_requests_overflow".into()))
            }
        }
    }

    /// The endpoint at an address.
    fn demand(&mut self, cluster: ClusterId, scope: ScopeId, address: SocketAddr) -> Result<HostId, NoHost> {
        let state = self.clusters.get_mut(cluster).ok_or(NoHost::Empty)?;
        let mut dropped = Dropped::default();
        let registry = self.stats.registry();
        let found = state.demand(address, self.now, || registry.host_scope(), &mut dropped);
        if let Ok((_, true)) = found {
            self.stats.inc(scope, metric::MEMBERSHIP_CHANGE);
        }
        count_dropped(self.stats, scope, dropped);
        found.map(|(host, _)| host)
    }

    /// An endpoint of the member whose turn it is.
    fn choose_member(
        &mut self,
        config: &Cluster,
        members: &[ClusterId],
        context: &ChooseContext<'_>,
        asker: &Asker<'_>,
    ) -> Result<Choice, NoHost> {
        let mut aggregate = self.clusters.get_mut(config.id).ok_or(NoHost::Empty)?.take_aggregate();
        let mut version = |member: &ClusterId| {
            let state = self.clusters.inflate(*member, self.snapshot, self.shared, self.rng);
            state.map_or(Aggregate::ABSENT, ClusterState::current_version)
        };
        if !aggregate.is_current(members.iter().map(&mut version)) {
            // The comparison ends at the first that changed; all shall know what other shards found out.
            members.iter().for_each(|member| _ = version(member));
            let exists = |id: &ClusterId| self.snapshot.cluster(*id).and_then(|_| self.clusters.get(*id));
            aggregate.rebuild(config, members.iter().map(exists));
        }
        let level = aggregate.draw(self.rng);
        if let Some(state) = self.clusters.get_mut(config.id) {
            state.keep_aggregate(aggregate);
        }
        let level = level.ok_or(NoHost::Empty)?;
        let member = *members.get(level.member).ok_or(NoHost::Empty)?;
        let state = self.clusters.get_mut(member).ok_or(NoHost::Empty)?;
        let avoid = if asker.avoid_of == Some(member) { context.avoid } else { &[] };
        let context = ChooseContext { avoid, level: Some((level.level, level.degraded)), ..*context };
        let chosen = state.choose_host(self.rng, &context);
        balance::count(state, self.stats);
        let chosen = chosen?;
        if chosen.panic {
            let scope = state.config().scope;
            self.stats.inc(scope, metric::LB_HEALTHY_PANIC);
        }
        Ok(Choice { cluster: member, chosen })
    }
}

fn no_host(why: NoHost) -> NoChoice {
    if why == NoHost::NoSuchHost { NoChoice::Missing } else { NoChoice::NoHost }
}

/// Gives the scopes of endpoints back that no shard has any more.
pub(crate) fn count_dropped(stats: &mut ShardStats, cluster: ScopeId, dropped: Dropped) {
    for scope in dropped.scopes {
        stats.inc(cluster, metric::MEMBERSHIP_CHANGE);
        stats.registry().retire(scope);
    }
}

/// The filter state object that says where a client wanted to go.
const DESTINATION: &str = "envoy.network.transport_socket.original_dst_address";

/// Where a client wanted to go, and how many texts that should have said so are no address: filter state, then metadata,
/// the stream's before its connection's, then the header, then the address that a listener filter restored.
fn destination(config: &OriginalDst, asker: &Asker<'_>) -> (Option<SocketAddr>, u32) {
    let mut invalid = 0;
    let mut parse = |text: Option<&str>| {
        let address = text?.parse::<SocketAddr>().ok();
        invalid += u32::from(address.is_none());
        address
    };
    let mut of_metadata = |metadata: Option<&Metadata>| {
        let (namespace, key) = config.metadata_key.as_ref()?;
        let Some(MetadataValue::Text(text)) = metadata?.namespace(namespace)?.get(key) else { return None };
        parse(Some(text))
    };
    let named = asker.written.object(DESTINATION).and_then(|object| object.address());
    let named = named.or_else(|| of_metadata(asker.written.metadata));
    let named = named.or_else(|| of_metadata(asker.client.and_then(Downstream::metadata)));
    let named = named.or_else(|| {
        let value = asker.headers?.get_name(config.header.as_deref()?)?;
        // What is no text is no address either.
        parse(Some(std::str::from_utf8(value).unwrap_or_default()))
    });
    let restored =
        || asker.client.filter(|client| client.is_restored()).and_then(|c| inet(&c.addresses.local));
    let mut address = named.or_else(restored);
    if let (Some(address), Some(port)) = (&mut address, config.port_override) {
        address.set_port(port);
    }
    (address, invalid)
}
