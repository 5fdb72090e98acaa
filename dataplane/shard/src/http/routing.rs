//! Which way a request takes: its route, its filters, and what the route says.

use millrace_base::{Key, Rng, Written};
use millrace_config::{
    BodyBufferLimit, Cluster, ClusterId, ClusterPolicies, RetryPolicy, RouteAction, RouteConfiguration,
    RouteForward, ScaledTimer, Snapshot, WeightedClusters,
};
use millrace_filter::http::LocalReply;
use millrace_filter::http::connection_manager::reject;
use millrace_filter::http::router::Render as _;
use millrace_filter::http::router::mutation::Levels;
use millrace_filter::http::router::reply;
use millrace_filter::http::router::request as router;
use millrace_filter::http::router::retry::RetryState;
use millrace_filter::http::router::strict;
use millrace_filter::http::stream_filters::Verdict;
use millrace_http::{Method, RequestHead};
use millrace_observe::stats::http as metric;
use millrace_route::{HashInputs, Selected, Selection};

use super::render::Renderer;
use super::start::deadline;
use super::stream::{Plan, REPLAY_BYTES_MAX, Stream};
use super::{HttpOptions, drop_overload};
use crate::address::inet;
use crate::downstream::Downstream;
use crate::shard::Shard;

/// What follows for a request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Its first try.
    Go,
    /// Nothing, until a filter lets it go on.
    Wait,
}

impl Plan {
    fn of(config: &RouteConfiguration, selected: Selected<'_>) -> Option<Self> {
        let virtual_host = config.virtual_hosts.element_offset(selected.virtual_host)?;
        let route = selected.virtual_host.routes.element_offset(selected.route)?;
        Some(Self { virtual_host, route, weighted: None, cluster: None })
    }

    /// The route that a request takes, and its cluster; `None` if there is no route.
    pub(super) fn choose(
        options: &HttpOptions,
        head: &RequestHead,
        client: Option<&Downstream>,
        written: &Written<'_>,
        snapshot: &Snapshot,
        rng: &mut Rng,
    ) -> Option<Self> {
        let config = options.routes.as_deref()?;
        let Selection::Route(selected) = millrace_route::select(config, head, written, rng.next_u64()) else {
            return None;
        };
        let mut plan = Self::of(config, selected)?;
        if let RouteAction::Forward(forward) = &selected.route.action {
            let number = |weighted: &WeightedClusters| {
                let random = rng.next_u64();
                weighted_number(weighted, forward, head, client, written, random)
            };
            let choice = millrace_route::cluster(forward, head, number, snapshot);
            (plan.cluster, plan.weighted) = (choice.id(), choice.weighted);
        }
        Some(plan)
    }

    /// The route in the table that it was made of.
    pub(super) fn selected<'c>(&self, config: &'c RouteConfiguration) -> Option<Selected<'c>> {
        let virtual_host = config.virtual_hosts.get(self.virtual_host)?;
        Some(Selected { virtual_host, route: virtual_host.routes.get(self.route)? })
    }
}

/// The number that chooses among weighted clusters.
pub(super) fn weighted_number(
    weighted: &WeightedClusters,
    forward: &RouteForward,
    head: &RequestHead,
    client: Option<&Downstream>,
    written: &Written<'_>,
    random: u64,
) -> u64 {
    let peer = client.and_then(|client| inet(&client.addresses.peer));
    let inputs = HashInputs { head: Some(head), peer, local: None, written: *written };
    millrace_route::weighted_number(weighted, forward, &inputs, random)
}

/// Bytes of a body that are kept. The listener's limit counts up to a bound of ours, what the route says itself holds.
fn replay_max(forward: &RouteForward, listener: usize) -> usize {
    let listener = listener.min(REPLAY_BYTES_MAX);
    match forward.body_buffer_limit {
        None => listener,
        Some(BodyBufferLimit::AtMost(most)) => listener.min(most as usize),
        Some(BodyBufferLimit::Exact(exact)) => usize::try_from(exact).unwrap_or(usize::MAX),
    }
}

/// Notes who else counts a request, and whether its cluster has policies of its own. Tells the cluster if some of
/// its requests are refused on purpose.
#[inline]
fn note_scopes<'s>(
    stream: &mut Stream,
    cluster: Option<ClusterId>,
    Selected { virtual_host, route }: Selected<'_>,
    snapshot: &'s Snapshot,
) -> Option<&'s Cluster> {
    let config = cluster.and_then(|cluster| snapshot.cluster(cluster));
    stream.cluster_policies = config.is_some_and(|config| config.http.policies.is_some());
    if route.stat_scope.is_some() || !virtual_host.virtual_clusters.is_empty() {
        let virtual_cluster = millrace_route::virtual_cluster(virtual_host, &stream.request);
        stream.tallies = [route.stat_scope, virtual_cluster];
    }
    config.filter(|config| config.drop_overload.is_some()).map(|config| &**config)
}

/// The policies of the request's cluster that take the place of its route's.
pub(super) fn own_policies<'s>(
    stream: &Stream,
    cluster: Option<ClusterId>,
    snapshot: &'s Snapshot,
) -> Option<&'s ClusterPolicies> {
    if !stream.cluster_policies {
        return None;
    }
    cluster.and_then(|cluster| snapshot.cluster(cluster))?.http.policies.as_deref()
}

/// The policy that a request is retried by.
pub(super) fn retry_policy<'s>(
    stream: &Stream,
    options: &'s HttpOptions,
    snapshot: &'s Snapshot,
) -> Option<&'s RetryPolicy> {
    let plan = stream.facts.plan?;
    let own = own_policies(stream, stream.home_cluster(), snapshot).and_then(|own| own.retry.as_ref());
    own.or_else(|| plan.forward(options)?.retry_policy.as_deref())
}

impl Shard {
    /// Chooses the route and shows the request to the filters.
    pub(super) fn route(&mut self, key: Key, id: Key) -> Result<Next, Box<LocalReply>> {
        self.choose_route(id);
        self.meet_filters(key, id)
    }

    /// Notes which route the request takes, and to which cluster; nothing if there is none.
    fn choose_route(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        // A count of this shard alone; the table's own is shared by all cores.
        let Some(options) = stream.options.clone() else { return };
        let client = self.downstreams.get(stream.downstream).map(|client| &**client);
        let notes = stream.facts.state.read();
        let written = Written::of(notes.as_deref(), client.and_then(Downstream::filter_state));
        let plan = Plan::choose(&options, &stream.request, client, &written, &self.snapshot, &mut self.rng);
        drop(notes);
        if plan.is_some() {
            stream.facts.plan = plan;
        }
    }

    /// Shows the head to the filters, from the beginning or from where they stopped, and does what they say.
    pub(super) fn meet_filters(&mut self, key: Key, id: Key) -> Result<Next, Box<LocalReply>> {
        match self.run_filters(id) {
            Verdict::Continue => {
                let filters = self.streams.get_mut(id).and_then(|stream| stream.filters.as_mut());
                if filters.is_some_and(|filters| filters.take_new_route()) {
                    self.choose_route(id);
                }
                self.dispatch(key, id).map(|()| Next::Go)
            }
            Verdict::Wait(until) => {
                let Some(stream) = self.streams.get_mut(id) else { return Ok(Next::Wait) };
                stream.filters_resume = until;
                self.rearm_stream(id);
                Ok(Next::Wait)
            }
            Verdict::Hold => {
                let stream = self.streams.get_mut(id);
                if stream.is_some_and(|stream| std::mem::take(&mut stream.expects_continue)) {
                    self.invite_body(id);
                }
                Ok(Next::Wait)
            }
            Verdict::Reroute => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.facts.plan = None;
                }
                self.choose_route(id);
                // The filters behind have fewer of the chain before them each time.
                self.meet_filters(key, id)
            }
            Verdict::Reply(reply) => Err(reply),
        }
    }

    /// What the route does with a request that has passed its filters.
    fn dispatch(&mut self, key: Key, id: Key) -> Result<(), Box<LocalReply>> {
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        let Some(options) = stream.options.clone() else { return Ok(()) };
        let hcm = &options.hcm;
        let chosen = options.routes.as_ref().zip(stream.facts.plan);
        let Some((plan, selected)) = chosen.and_then(|(c, plan)| Some((plan, plan.selected(c)?))) else {
            if let Some(config) = &options.routes
                && let Selection::TlsRedirect(_) =
                    millrace_route::select(config, &stream.request, &Written::default(), 0)
            {
                return Err(reply::tls_redirect(&stream.request).into());
            }
            self.stats.inc(hcm.scope, metric::RQ_TOTAL);
            self.stats.inc(hcm.scope, metric::NO_ROUTE);
            return Err(reply::no_route().into());
        };
        match &selected.route.action {
            RouteAction::Forward(forward) => self.plan_forward(key, id, &options, plan, (selected, forward)),
            RouteAction::Redirect(redirect) => {
                self.stats.inc(hcm.scope, metric::RQ_TOTAL);
                // Redirects are direct responses to Envoy, too; its `rq_redirect` counts other ones.
                self.stats.inc(hcm.scope, metric::RQ_DIRECT_RESPONSE);
                Err(reply::redirect(redirect, &selected.route.matcher, &stream.request).into())
            }
            RouteAction::DirectResponse(direct) => {
                self.stats.inc(hcm.scope, metric::RQ_TOTAL);
                self.stats.inc(hcm.scope, metric::RQ_DIRECT_RESPONSE);
                let downstream = self.downstreams.get(key);
                let format = direct.body_format.as_ref();
                let rendered = format.zip(downstream).map(|(template, downstream)| {
                    let renderer = Renderer {
                        downstream,
                        options: Some(&options),
                        facts: &stream.facts,
                        shard: &self.names,
                        snapshot: &self.snapshot,
                    };
                    let mut out = Vec::new();
                    renderer.render(template, &stream.request, None, &mut out);
                    out
                });
                Err(reply::direct_response(direct, rendered, &stream.request).into())
            }
        }
    }

    /// `strict_check_headers`, where there is a cluster to go to.
    #[inline]
    fn check_strictly(
        &self,
        id: Key,
        options: &HttpOptions,
        cluster: Option<ClusterId>,
    ) -> Result<(), Box<LocalReply>> {
        let fields = &options.router.strict_check_headers;
        if fields[0].is_none() || cluster.is_none_or(|cluster| self.snapshot.cluster(cluster).is_none()) {
            return Ok(());
        }
        let refusal = self.streams.get(id).and_then(|stream| strict::check(fields, &stream.request.headers));
        refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Turns the head into what goes upstream.
    fn plan_forward(
        &mut self,
        key: Key,
        id: Key,
        options: &HttpOptions,
        plan: Plan,
        (selected, forward): (Selected<'_>, &RouteForward),
    ) -> Result<(), Box<LocalReply>> {
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        let (hcm, Some(config)) = (&options.hcm, &options.routes) else { return Ok(()) };
        if plan.cluster.is_none() {
            self.stats.inc(hcm.scope, metric::RQ_TOTAL);
            self.stats.inc(hcm.scope, metric::NO_CLUSTER);
            return Err(reply::no_cluster(forward.cluster_not_found_status).into());
        }
        if stream.wants_upgrade() && !stream.upgrade_allowed_on(forward, hcm) {
            self.stats.inc(hcm.scope, metric::DOWNSTREAM_RQ_WS_ON_NON_WS_ROUTE);
            return Err(reject::upgrade_rejected().into());
        }
        self.stats.inc(hcm.scope, metric::RQ_TOTAL);
        self.check_strictly(id, options, plan.cluster)?;
        if !self.overload.is_calm()
            && let Some(reply) = self.router_sheds(key, id, hcm)
        {
            return Err(reply);
        }
        let Some(downstream) = self.downstreams.get(key) else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        stream.upgrade = stream.wants_upgrade();
        if stream.upgrade {
            self.stats.inc(hcm.scope, metric::DOWNSTREAM_CX_UPGRADES_TOTAL);
            self.stats.gauge_inc(hcm.scope, metric::DOWNSTREAM_CX_UPGRADES_ACTIVE);
        }
        stream.terminated = forward.terminates_connect && stream.request.method_kind() == Method::Connect;
        stream.facts.high_priority = forward.high_priority;
        let drops = note_scopes(stream, plan.cluster, selected, &self.snapshot);
        if let Some(cluster) = drops.filter(|cluster| drop_overload::is_due(cluster, &mut self.rng)) {
            let id = cluster.id;
            return Err(self.refuse_on_purpose(id, !options.router.suppress_envoy_headers).into());
        }
        let levels = Levels { config, selected, weighted: plan.weighted_entry(options) };
        let renderer = Renderer {
            downstream,
            options: Some(options),
            facts: &stream.facts,
            shard: &self.names,
            snapshot: &self.snapshot,
        };
        let finalized = router::finalize(
            &levels,
            forward,
            options.router,
            &renderer,
            &mut stream.request,
            &mut self.scratch,
        );
        stream.timeouts = finalized.timeouts;
        stream.timeout_is_204 = finalized.timeout_is_204;
        if let Some(idle) = forward.idle_timeout {
            stream.idle_whole = idle;
            stream.idle_timeout = self.overload.scale(ScaledTimer::StreamIdle, idle);
        }
        if let Some(flush) = forward.flush_timeout {
            stream.flush_timeout = flush;
        }
        if forward.max_stream_duration.is_some() {
            stream.max_duration_deadline = deadline(self.io.now, stream.timeouts.stream);
        }
        let own = own_policies(stream, plan.cluster, &self.snapshot);
        let policy = own.and_then(|own| own.retry.as_ref()).or(forward.retry_policy.as_deref());
        stream.retry = RetryState::new(policy, &mut stream.request);
        stream.avoids_hosts = stream.retry.is_some() && policy.is_some_and(RetryPolicy::chooses_hosts);
        stream.host_attempts = policy.map_or(1, |p| p.host_selection_attempts);
        let mirrored = !forward.mirrors.is_empty() || own.is_some_and(|own| !own.mirrors.is_empty());
        stream.follows_redirects = forward.internal_redirects.is_some() && !stream.upgrade;
        stream.keeps_replay = stream.retry.is_some() || stream.follows_redirects;
        stream.replay_max = replay_max(forward, downstream.origin.listener.buffer_limit_bytes);
        self.plan_balance(id, forward, plan.cluster);
        if mirrored {
            self.plan_mirrors(id, options);
        }
        Ok(())
    }
}
