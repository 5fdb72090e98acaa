//! Between the assembly, which decides, and everything that it decides about: shards, control planes, sockets, names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use millrace_ads::source::ConfigSource;
use millrace_assembly::{Action, Assembly, Host, Level as Loudness, Turn};
use millrace_base::{Time, WallTime};
use millrace_config::{Address, Cluster, ClusterId, Listener, ScopeId, SourceId};
use millrace_driver::xds::{Build, Event as FromSource, SERVED, SourceEvent, Sources, node};
use millrace_observe::stats::{
    ControlStats, Registry, ScopeKind, cluster as cluster_metric, control_plane, server,
};
use millrace_proto::Message as _;
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_shard::shared::{Message, Shared};
use millrace_translate::{Compiled, Sources as Known};

use super::control::{Control, Hosts, TRIM_AFTER};
use super::listeners::{self, Bound};
use super::{breakers, cluster_gauges, health};
use crate::cli;
use crate::control::Event;
use crate::logging::{Component, Level};

/// Resources of so many octets take several times as much while they are decoded.
const LARGE: usize = 256 << 10;

/// The control planes and what came of them.
pub struct Xds {
    pub(super) assembly: Assembly,
    pub(super) sources: Sources,
    pub(super) stats: ControlStats,
    /// Sources that were handed to the transports.
    opened: BTreeSet<SourceId>,
    /// How `ads: {}` is reached.
    ads: Option<ConfigSource>,
    /// `control_plane.`, where there is an aggregated stream.
    scope: Option<ScopeId>,
    /// Totals that are counted already: unknown fields, static and dynamic, and requests that were held back.
    told: [u64; 3],
}

impl Xds {
    /// Nothing is contacted before the assembly says so.
    pub fn new(compiled: &Compiled, registry: &Registry, assembly: Assembly, sources: Sources) -> Self {
        let ads = compiled.dynamic.ads.clone().map(ConfigSource::Grpc);
        Self {
            stats: registry.attach_control(),
            opened: BTreeSet::new(),
            scope: ads.is_some().then(|| registry.scope(ScopeKind::ControlPlane, "")),
            ads,
            told: [0; 3],
            assembly,
            sources,
        }
    }

    /// What is worked out of clusters when somebody asks; of those whose endpoints may be ejected, or fail their checks,
    /// how many are left.
    pub(super) fn membership(&mut self, shared: &Shared, hosts: &Hosts) {
        for cluster in self.assembly.snapshot().clusters.iter().flatten() {
            cluster_gauges::refresh(&mut self.stats, cluster, shared);
            if cluster.discovery.is_on_demand() {
                let total = match cluster.discovery.forward_proxy() {
                    Some(own) => hosts.members(own.cache.id).count() as u64,
                    None => shared.on_demand(cluster.id, |book| book.len()).unwrap_or(0) as u64,
                };
                self.stats.gauge_set(cluster.scope, cluster_metric::MEMBERSHIP_TOTAL, total);
                self.stats.gauge_set(cluster.scope, cluster_metric::MEMBERSHIP_HEALTHY, total);
                continue;
            }
            if cluster.outlier_detection.is_none() && cluster.health_check.is_none() {
                continue;
            }
            let counts = shared.members(cluster);
            let gauges = [
                (cluster_metric::MEMBERSHIP_HEALTHY, counts.healthy),
                (cluster_metric::MEMBERSHIP_DEGRADED, counts.degraded),
                (cluster_metric::MEMBERSHIP_EXCLUDED, counts.excluded),
            ];
            for (gauge, count) in gauges {
                self.stats.gauge_set(cluster.scope, gauge, count);
            }
        }
    }

    /// How the circuit breakers stand.
    pub(super) fn breakers(&mut self, shared: &Shared, now: Time) {
        for cluster in self.assembly.snapshot().clusters.iter().flatten() {
            breakers::refresh(&mut self.stats, cluster, shared, now);
        }
    }

    /// Counts what nobody tells of by itself.
    pub(super) fn refresh(&mut self, server: ScopeId) {
        let cx = self.assembly.context();
        let now = [cx.static_unknown_fields, cx.dynamic_unknown_fields];
        let metrics = [server::STATIC_UNKNOWN_FIELDS, server::DYNAMIC_UNKNOWN_FIELDS];
        for ((metric, now), told) in metrics.into_iter().zip(now).zip(&mut self.told) {
            self.stats.add(server, metric, now - std::mem::replace(told, now));
        }
        let Some(scope) = self.scope else { return };
        let ads = self.sources.statistics(Known::ADS);
        self.stats.gauge_set(scope, control_plane::PENDING_REQUESTS, ads.pending_requests as u64);
        let before = std::mem::replace(&mut self.told[2], ads.rate_limit_enforced);
        self.stats.add(
            scope,
            control_plane::RATE_LIMIT_ENFORCED,
            ads.rate_limit_enforced.saturating_sub(before),
        );
    }

    /// Hands a source to the transports at its first subscription.
    fn open(&mut self, id: SourceId) {
        if !self.opened.insert(id) {
            return;
        }
        match self.assembly.context().sources.get(id) {
            Some(ConfigSource::Ads) => {
                if let Some(config) = &self.ads {
                    self.sources.add(id, config.clone(), true);
                }
            }
            Some(config) => self.sources.add(id, config.clone(), false),
            None => {}
        }
    }
}

/// Sources that introduce themselves as the bootstrap's node.
pub fn sources(compiled: &Compiled) -> Sources {
    Sources::new(node_of(compiled), seed())
}

/// The bootstrap's node with the version and the extensions of this build.
pub fn node_of(compiled: &Compiled) -> Node {
    let own = Node::decode(&compiled.node[..]).unwrap_or_default();
    let text = cli::version();
    let mut parts = text.split('/');
    let revision = parts.next().unwrap_or_default();
    let mut numbers = parts.next().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let build = Build { version: (number(), number(), number()), revision, ssl: "rustls" };
    node(own, build, SERVED)
}

/// Different for every start: back-off must not be in step with other proxies.
pub fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Opens sockets for the assembly.
struct Sockets<'a> {
    bound: &'a mut Vec<Bound>,
    shared: Arc<Shared>,
}

impl Host for Sockets<'_> {
    fn bind(&mut self, listener: &Arc<Listener>) -> Result<(), String> {
        let bound = listeners::bind(listener, self.shared.doors().len())?;
        self.bound.push(bound);
        Ok(())
    }

    fn replace(&mut self, listener: &Arc<Listener>) {
        for bound in self.bound.iter_mut().filter(|bound| bound.listener.name == listener.name) {
            bound.listener = listener.clone();
        }
    }

    fn unbind(&mut self, listener: &Arc<Listener>) {
        for bound in self.bound.extract_if(.., |bound| Arc::ptr_eq(&bound.listener, listener)) {
            listeners::close(&bound);
        }
    }

    fn is_checked(&self, cluster: &Cluster) -> bool {
        health::is_checked(cluster, &self.shared)
    }

    fn passes_checks(&self, cluster: ClusterId, endpoint: &Address) -> bool {
        health::passes(cluster, endpoint, &self.shared)
    }
}

impl Control {
    /// Lets the assembly work, then does what it says.
    pub(super) fn assemble(&mut self, work: impl FnOnce(&mut Assembly, &mut Turn<'_>)) {
        let now = self.now();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall = WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let mut host = Sockets { bound: &mut self.bound, shared: Arc::clone(&self.workers.shared) };
        let mut turn = Turn { now, wall, stats: &mut self.xds.stats, host: &mut host };
        work(&mut self.xds.assembly, &mut turn);
        for action in self.xds.assembly.take_actions() {
            self.carry_out(action);
        }
        self.start_loads();
        self.preresolve_hosts();
        self.start_health_discovery();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Publish(update) => {
                self.loads_change(&update);
                self.workers.broadcast(|| Message::Update(update.clone()));
            }
            Action::Listen(listener) => {
                if self.lifecycle.workers_run() {
                    let new = self.bound.iter_mut().filter(|bound| Arc::ptr_eq(&bound.listener, &listener));
                    let count = listeners::start(new, &mut self.workers);
                    self.stats.listeners_created(count);
                }
            }
            Action::Subscribe(source, ty, interest) => {
                self.xds.open(source);
                self.xds.sources.subscribe(source, ty, interest);
            }
            Action::Unsubscribe(source, ty, interest) => self.xds.sources.unsubscribe(source, ty, &interest),
            Action::Refresh(source, ty, name) => self.xds.sources.refresh(source, ty, &name),
            Action::Verdict(source, id, verdict) => {
                for rejected in &verdict.rejected {
                    let message = format_args!("xds: '{}' is refused: {}", rejected.name, rejected.reason);
                    self.logger.log(Component::CONFIG, Level::Warning, message);
                }
                self.xds.sources.verdict(source, id, verdict);
            }
            Action::WatchFiles(source, secret, directories) => {
                self.xds.sources.watch_files(source, secret, directories);
            }
            Action::WatchDns(cluster) => self.dns.watch(&cluster),
            Action::UnwatchDns(id) => self.dns.unwatch(id),
            Action::ClustersReady => {
                self.logger.log(
                    Component::MAIN,
                    Level::Info,
                    format_args!("cm init: all clusters initialized"),
                );
                self.handle(Event::ClustersReady);
            }
            Action::ListenersReady => {
                self.logger.log(
                    Component::MAIN,
                    Level::Info,
                    format_args!("all dependencies initialized. starting workers"),
                );
                self.handle(Event::ListenersReady);
            }
            Action::Log(loudness, text) => {
                let level = match loudness {
                    Loudness::Debug => Level::Debug,
                    Loudness::Info => Level::Info,
                    Loudness::Warning => Level::Warning,
                };
                self.logger.log(Component::CONFIG, level, format_args!("{text}"));
            }
        }
    }

    /// Something came from a control plane, or one came or went.
    pub(super) fn heard(&mut self, event: SourceEvent) {
        let source = event.source;
        let is_ads = source == Known::ADS;
        match event.event {
            FromSource::Update(update) => {
                let octets: usize = update.changed.iter().map(|resource| resource.body.len()).sum();
                self.assemble(|assembly, turn| assembly.update(turn, source, is_ads, update));
                if octets >= LARGE {
                    self.trim_at = Some(self.now() + TRIM_AFTER);
                }
            }
            FromSource::Connected { service, identifier } => {
                let message = format_args!("xds: connected to service {service} of source {}", source.0);
                self.logger.log(Component::CONFIG, Level::Debug, message);
                if let Some(text) = identifier.filter(|_| is_ads) {
                    self.registry.set_text("control_plane.identifier", &text);
                }
            }
            FromSource::State(state) => self.connected(is_ads, state as u64),
            FromSource::Failed { resource_type, reason } => {
                self.xds.assembly.source_failed(&mut self.xds.stats, source, Some(resource_type));
                self.logger.log(Component::CONFIG, Level::Warning, format_args!("xds: {reason}"));
            }
            FromSource::FilesMoved(secret) => {
                self.assemble(|assembly, turn| assembly.secret_files_moved(turn, secret));
            }
            FromSource::Warning(text) => {
                self.logger.log(Component::CONFIG, Level::Warning, format_args!("xds: {text}"));
            }
            FromSource::Disconnected { reason } => {
                self.xds.assembly.source_failed(&mut self.xds.stats, source, None);
                self.logger.log(Component::CONFIG, Level::Warning, format_args!("xds: {reason}"));
            }
        }
    }

    fn connected(&mut self, is_ads: bool, state: u64) {
        if let Some(scope) = self.xds.scope.filter(|_| is_ads) {
            self.xds.stats.gauge_set(scope, control_plane::CONNECTED_STATE, state);
        }
    }
}
