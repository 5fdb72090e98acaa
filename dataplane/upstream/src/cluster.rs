//! One cluster on one shard: its hosts, its balancer, its pools. Created at first use.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use millrace_base::{Rng, Slab, Time};
use millrace_config::{Address, Cluster, Endpoint, EndpointChanges, LbPolicy, Thresholds};

use crate::budget::{Budget, PriorityBudgets};
use crate::health::{Watched, is_watched};
use crate::lb::{Balancer, Ground, LbStat};
use crate::leased::Lease;
use crate::list::List;
use crate::load_metrics::MetricBook;
use crate::members::Member;
use crate::on_demand::OnDemand;
use crate::pool::{self, CloseReason, Conn, ConnId, PoolAction, Waiter};
use crate::transport::{Transport, TransportKey, Transports};
use crate::{
    Aggregate, ChooseContext, Chosen, ClusterShared, Host, HostHealth, HostId, NoHost, ResourcePriority,
    retry,
};

/// The lowest priority that Envoy's validation lets through; bounds the table of levels whatever comes in.
pub(crate) const PRIORITY_MAX: u32 = 128;

/// One cluster on one shard.
#[derive(Debug)]
pub struct ClusterState {
    pub(crate) config: Arc<Cluster>,
    pub(crate) budgets: Arc<ClusterShared>,
    pub(crate) hosts: Slab<Host>,
    /// Present hosts by priority, in configuration order.
    pub(crate) members: Vec<Vec<Member>>,
    pub(crate) balancer: Balancer,
    /// The cluster that this proxy is an endpoint of, for zone-aware routing.
    local: Option<Arc<Cluster>>,
    /// Requests and TCP sessions on connections, of all hosts.
    pub(crate) active: u32,
    /// When weights are next made of what endpoints reported.
    pub(crate) weights_due: Time,
    /// For rotation starts and ejections; requests draw from the shard's generator.
    pub(crate) rng: Rng,
    pub(crate) conns: Slab<Conn>,
    pub(crate) waiters: Slab<Waiter>,
    pub(crate) transports: Transports,
    pub(crate) idle: List<{ pool::IDLE }>,
    pub(crate) age: List<{ pool::AGE }>,
    /// Retries of this shard that hold a unit of the budget.
    retries: Cell<u32>,
    /// Counts of connections to endpoints, where `per_host_thresholds` limit them.
    pub(crate) host_budgets: HashMap<HostId, Arc<Budget>>,
    /// What the shard keeps of the request budgets, by priority.
    pub(crate) leases: [Lease; 2],
    /// Endpoints drawn for requests that have not come yet.
    pub(crate) ahead: VecDeque<Chosen>,
    /// When an endpoint was last chosen; kept where some are drawn ahead.
    pub(crate) chosen_at: Time,
    pub(crate) watched: Watched,
    pub(crate) on_demand: OnDemand,
    /// What this shard sums for load reports, once an endpoint reported something of it.
    pub(crate) metric_book: Option<Arc<MetricBook>>,
    /// Of an aggregate cluster, after its first choice.
    pub(crate) aggregate: Option<Box<Aggregate>>,
}

impl ClusterState {
    /// The state of `cluster` without a connection. `seed` decides where rotations start.
    pub fn new(cluster: &Arc<Cluster>, budgets: Arc<ClusterShared>, seed: u64) -> Self {
        let mut state = Self {
            config: Arc::clone(cluster),
            budgets,
            hosts: Slab::new(),
            members: Vec::new(),
            balancer: Balancer::default(),
            local: None,
            active: 0,
            weights_due: Time::MAX,
            rng: Rng::new(seed),
            conns: Slab::new(),
            waiters: Slab::new(),
            transports: Transports::default(),
            idle: List::default(),
            age: List::default(),
            retries: Cell::new(0),
            host_budgets: HashMap::new(),
            leases: Default::default(),
            ahead: VecDeque::new(),
            chosen_at: Time::ZERO,
            watched: Watched::default(),
            on_demand: OnDemand::default(),
            metric_book: None,
            aggregate: None,
        };
        state.place_hosts(&mut Vec::new());
        state.weights_due = state.first_weighing();
        state
    }

    /// The configuration in force.
    pub fn config(&self) -> &Arc<Cluster> {
        &self.config
    }

    /// Takes a new configuration. Hosts whose address stays keep their id and their connections. Idle
    /// connections of the others are closed; busy ones close when their request ends.
    pub fn update(&mut self, cluster: &Arc<Cluster>, out: &mut Vec<PoolAction>) {
        self.update_by(cluster, None, out);
    }

    /// The same. With `changes` that follow the version in force, no other endpoint is looked at.
    pub fn update_by(
        &mut self,
        cluster: &Arc<Cluster>,
        changes: Option<&EndpointChanges>,
        out: &mut Vec<PoolAction>,
    ) {
        let old = std::mem::replace(&mut self.config, Arc::clone(cluster));
        let same_checks = old.health_check.is_some() == cluster.health_check.is_some();
        let same_rules = old.lb_policy == cluster.lb_policy
            && old.balancing == cluster.balancing
            && old.panic_threshold == cluster.panic_threshold
            && old.overprovisioning_factor == cluster.overprovisioning_factor;
        let known = changes.filter(|changes| same_checks && Arc::ptr_eq(&changes.since, &old));
        match known {
            Some(changes) if self.change_hosts(&changes.splices, out) => {}
            None if same_checks && old.localities == cluster.localities => {}
            _ => self.place_hosts(out),
        }
        self.weights_due = self.first_weighing();
        if !same_rules {
            self.balancer.invalidate();
        }
        if std::mem::discriminant(&old.lb_policy) != std::mem::discriminant(&cluster.lb_policy) {
            self.hosts.iter_mut().for_each(|(_, host)| host.forget_seen());
        }
        if is_watched(&old) != is_watched(cluster) {
            self.watch_all();
        }
        self.debug_check();
    }

    /// Takes the endpoints of the configuration. Where old and new ones agree from either end of the list on,
    /// nothing is looked up, so that one endpoint more or less costs little besides the balancer's tables.
    fn place_hosts(&mut self, out: &mut Vec<PoolAction>) {
        let config = Arc::clone(&self.config);
        let members = std::mem::take(&mut self.members);
        let before: Vec<HostId> = members.into_iter().flatten().map(|member| member.id).collect();
        let mut wanted: Vec<(&Endpoint, u32, u32)> = Vec::with_capacity(before.len());
        for (at, locality) in config.localities.iter().enumerate() {
            let placed = |endpoint| (endpoint, locality.priority, at as u32);
            wanted.extend(locality.endpoints.iter().map(placed));
        }
        // In the order of `members`, which `before` has; within a level the order of the configuration stays.
        wanted.sort_by_key(|(_, priority, _)| (*priority).min(PRIORITY_MAX));
        let same = |(id, (endpoint, ..)): &(&HostId, &(&Endpoint, u32, u32))| {
            self.hosts.get(id.0).is_some_and(|host| host.address == endpoint.address)
        };
        let first = before.iter().zip(&wanted).take_while(same).count();
        let last = before[first..].iter().rev().zip(wanted[first..].iter().rev()).take_while(same).count();
        let (old_end, new_end) = (before.len() - last, wanted.len() - last);
        let mut by_address = self.leave(&before[first..old_end]);
        let mut failed = Vec::new();
        for (at, (endpoint, priority, locality)) in wanted.into_iter().enumerate() {
            let known = match at {
                at if at < first => Some(before[at]),
                at if at >= new_end => Some(before[at - new_end + old_end]),
                _ => by_address.get_mut(&endpoint.address).and_then(Vec::pop),
            };
            let member = self.place_host(known, endpoint, (priority, locality), &mut failed);
            let level = priority.min(PRIORITY_MAX) as usize;
            if self.members.len() <= level {
                self.members.resize_with(level + 1, Vec::new);
            }
            self.members[level].push(member);
        }
        self.balancer.invalidate();
        self.part(by_address, failed, out);
    }

    /// A host as an endpoint of the configuration wants it: the known one, or a new one.
    pub(crate) fn place_host(
        &mut self,
        known: Option<HostId>,
        endpoint: &Endpoint,
        (priority, locality): (u32, u32),
        failed: &mut Vec<HostId>,
    ) -> Member {
        let is_checked = self.config.health_check.is_some() && endpoint.is_checked();
        let known = known.and_then(|id| Some((id, self.hosts.get_mut(id.0)?)));
        if let Some((id, host)) = known {
            let was = host.health;
            host.refresh(endpoint, priority, locality, is_checked);
            if was != HostHealth::Unhealthy && host.health == HostHealth::Unhealthy {
                failed.push(id);
            }
            return Member::of(id, host);
        }
        let mut host = Host::new(endpoint, priority, locality);
        host.is_checked = is_checked;
        self.watched.join(&mut host, &self.config, &self.budgets);
        let (weight, health, excluded) = (host.weight, host.health, host.excluded);
        Member { id: HostId(self.hosts.insert(host)), weight, health, excluded }
    }

    /// What follows once all hosts are placed: some have left, some are unhealthy now.
    pub(crate) fn part(
        &mut self,
        left: BTreeMap<Address, Vec<HostId>>,
        failed: Vec<HostId>,
        out: &mut Vec<PoolAction>,
    ) {
        for id in left.into_values().flatten() {
            self.unwatch(id);
            self.dismiss(id, out);
        }
        if self.config.close_on_health_failure {
            for id in failed {
                self.close_all(id, CloseReason::HostUnhealthy, out);
            }
        }
        if self.config.close_on_host_set_change {
            self.drain(out);
        }
    }

    /// Hosts that may be gone, by address; those that share one in such an order that `pop` gives them back in
    /// configuration order.
    pub(crate) fn leave(&mut self, ids: &[HostId]) -> BTreeMap<Address, Vec<HostId>> {
        let mut by_address: BTreeMap<Address, Vec<HostId>> = BTreeMap::new();
        for id in ids.iter().rev() {
            if let Some(host) = self.hosts.get_mut(id.0) {
                host.present = false;
                by_address.entry(host.address.clone()).or_default().push(*id);
            }
        }
        by_address
    }

    /// True when the cluster's type says how an endpoint is found (`CLUSTER_PROVIDED`), not a balancer.
    #[inline]
    pub fn provides_balancer(&self) -> bool {
        self.config.lb_policy == LbPolicy::ClusterProvided
    }

    /// Draws a host for a request.
    #[inline]
    pub fn choose_host(&mut self, rng: &mut Rng, context: &ChooseContext<'_>) -> Result<Chosen, NoHost> {
        self.notice_health();
        if context.now >= self.weights_due {
            self.weigh(context.now);
        }
        if !self.balancer.is_built() {
            self.rebuild(context.now);
        }
        if let Some(wanted) = &context.override_host
            && let Some(chosen) =
                self.balancer.overridden(&self.config, &self.members, &self.hosts, wanted)?
        {
            return Ok(chosen);
        }
        if let Some(chosen) = self.drawn_ahead(context) {
            return Ok(chosen);
        }
        self.balancer.choose(&self.hosts, rng, self.active, context)
    }

    /// Builds the balancer's tables. Several changes without a choice in between cost one rebuild.
    #[cold]
    fn rebuild(&mut self, now: Time) {
        self.ahead.clear();
        if self.config.balancing.slow_start.is_some() {
            for member in self.members.iter().flatten() {
                if let Some(host) =
                    self.hosts.get_mut(member.id.0).filter(|host| host.health == HostHealth::Healthy)
                {
                    host.healthy_since = host.healthy_since.min(now);
                }
            }
        }
        if self.balancer.has_stale_members() {
            self.refresh_members();
        }
        let ground = Ground {
            cluster: &self.config,
            local: self.local.as_deref(),
            hosts: &self.hosts,
            shared: &self.budgets.tables,
            now,
        };
        self.balancer.rebuild(&ground, &self.members, &mut self.rng);
    }

    /// Tells of the cluster that this proxy is an endpoint of, when it is new or changed.
    pub fn set_local_cluster(&mut self, local: Option<&Arc<Cluster>>) {
        let same = match (&self.local, local) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.local = local.cloned();
            self.balancer.invalidate();
        }
    }

    /// Hands out what the balancer counted since the last call.
    #[inline]
    pub fn take_lb_stats(&mut self, each: impl FnMut(LbStat, u32)) {
        self.balancer.take_stats(each);
    }

    /// The host, unless it left the cluster and has nothing left to finish.
    #[inline]
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(id.0)
    }

    /// The host that a connection leads to.
    pub fn host_of(&self, conn: ConnId) -> Option<HostId> {
        self.conns.get(conn.0).map(|c| c.host)
    }

    /// The key of what a request asks of its handshake, for [`Self::acquire`] right after; `None` when
    /// [`crate::TRANSPORTS_MAX`] others are in use.
    pub fn transport_key(&mut self, wanted: &Transport<'_>) -> Option<TransportKey> {
        self.transports.intern(wanted)
    }

    /// What a key of [`PoolAction::Connect`] stands for, while its connection is open.
    pub fn transport(&self, key: TransportKey) -> Transport<'_> {
        self.transports.get(key)
    }

    /// Present hosts by priority, then in configuration order; those that requests named in any order.
    pub fn hosts(&self) -> impl Iterator<Item = (HostId, &Host)> {
        let ids = self.members.iter().flatten().map(|member| member.id).chain(self.on_demand.hosts());
        ids.filter_map(|id| Some((id, self.hosts.get(id.0)?)))
    }

    /// Connections of this shard in every state, TCP included.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Requests of this shard that wait for a connection.
    pub fn pending_requests(&self) -> usize {
        self.waiters.len()
    }

    /// True when nothing is open, nobody waits and no retry is under way: the state may be dropped.
    pub fn is_quiescent(&self) -> bool {
        self.conns.is_empty() && self.waiters.is_empty() && self.retries.get() == 0
    }

    /// Takes a retry before its back-off starts; false when the breaker is open (count
    /// `upstream_rq_retry_overflow`, flag `UO`). Undo with [`Self::end_retry`].
    #[must_use]
    pub fn try_retry(&self, priority: ResourcePriority, now: Time) -> bool {
        let granted = retry::try_retry(self.thresholds(priority), self.budget(priority), now);
        self.retries.set(self.retries.get() + u32::from(granted));
        granted
    }

    /// True when [`Self::begins`] wants to hear of tries: `budget_interval` is set.
    #[inline]
    pub fn counts_beginnings(&self, priority: ResourcePriority) -> bool {
        self.thresholds(priority).retry_budget.is_some_and(|budget| !budget.interval.is_zero())
    }

    /// A try begins on its connection.
    pub fn begins(&self, priority: ResourcePriority, now: Time) {
        if let Some(budget) = self.thresholds(priority).retry_budget {
            self.budget(priority).recent.add(now, budget.interval);
        }
    }

    /// The retry's attempt ended, or the request was given up during its back-off.
    pub fn end_retry(&self, priority: ResourcePriority) {
        self.retries.set(self.retries.get().saturating_sub(1));
        self.budget(priority).retries.release();
    }

    /// The limits of one priority.
    #[inline]
    pub fn thresholds(&self, priority: ResourcePriority) -> &Thresholds {
        match priority {
            ResourcePriority::Default => &self.config.circuit_breakers.default,
            ResourcePriority::High => &self.config.circuit_breakers.high,
        }
    }

    /// The shared counters of one priority.
    #[inline]
    pub fn budget(&self, priority: ResourcePriority) -> &PriorityBudgets {
        self.budgets.of(priority)
    }
}

impl Drop for ClusterState {
    fn drop(&mut self) {
        for priority in ResourcePriority::ALL {
            self.leases[priority.index()].end(&self.budgets.of(priority).requests);
        }
    }
}
