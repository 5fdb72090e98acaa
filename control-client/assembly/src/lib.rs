//! From resources to what the shards serve.
//!
//! [`Assembly`] is told what control planes send ([`Assembly::update`]), what names resolve to and what time it is; it
//! translates, keeps what is good, waits for what belongs together (a cluster for its endpoints, a listener for its
//! route tables), and says what to do: publish a change to the shards, subscribe, answer a control plane. It opens no
//! socket and reads no clock.

mod acks;
mod action;
mod checks;
mod cluster_book;
mod clusters;
mod deadlines;
mod dump;
mod endpoints;
mod gauges;
mod graveyard;
mod health_discovery;
mod listeners;
mod merges;
mod past;
mod replaced;
mod routes;
mod runtime;
mod scopes;
mod secrets;
mod stale;
mod start;
mod stored;
mod virtual_hosts;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_ads::{ResourceType, Update};
use millrace_base::{Time, WallTime};
use millrace_config::{ScopeId, Snapshot, SourceId};
use millrace_observe::stats::{ControlStats, ScopeKind};
use millrace_translate::resource::Translated;
use millrace_translate::{Compiled, Context, Rejection};

pub use action::{Action, Host, Level};
pub use dump::DumpEntry;
pub use start::Phase;
pub use stored::{Body, Failure, Stored};

use cluster_book::ClusterBook;
use deadlines::{Deadlines, Due};
use endpoints::Assignments;
use graveyard::Graveyard;
use listeners::ListenerEntry;
use routes::RouteEntry;
use start::Startup;

/// When to look whether what an update replaced can be freed, and when again.
const SWEEP_AFTER: Duration = Duration::from_millis(200);
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// What every call brings along.
pub struct Turn<'a> {
    /// The control thread's clock.
    pub now: Time,
    /// The wall clock, for `last_updated`.
    pub wall: WallTime,
    /// The control thread's counters.
    pub stats: &'a mut ControlStats,
    /// Opens listening sockets.
    pub host: &'a mut dyn Host,
}

/// The configuration in force, and what is on its way into force.
pub struct Assembly {
    cx: Context,
    snapshot: Snapshot,
    /// What this turn changes; published at its end.
    next: millrace_config::Update,
    /// New listeners of this turn.
    added: Vec<Arc<millrace_config::Listener>>,
    /// How many names the shards know of.
    names_published: usize,
    clusters: ClusterBook,
    /// Clusters of the bootstrap that only the control client uses.
    control_clusters: Vec<Arc<millrace_config::Cluster>>,
    /// What a control plane only wants checked.
    checked_only: Vec<Arc<millrace_config::Cluster>>,
    assignments: Assignments,
    listeners: BTreeMap<Arc<str>, ListenerEntry>,
    /// By [`millrace_config::RouteTableId`].
    routes: Vec<Option<RouteEntry>>,
    /// Where virtual hosts come from.
    host_sources: BTreeMap<SourceId, virtual_hosts::HostSource>,
    layers: runtime::Layers,
    /// By [`millrace_config::ScopeTableId`].
    scopes: Vec<Option<scopes::ScopesEntry>>,
    /// By [`millrace_config::SecretId`].
    secrets: Vec<Option<secrets::SecretEntry>>,
    acks: acks::Acks,
    startup: Startup,
    deadlines: Deadlines,
    graveyard: Graveyard,
    past: past::Past,
    merges: merges::Merges,
    out: Vec<Action>,
    manager_scopes: Scopes,
    versions: Versions,
    cds: Option<SourceId>,
    drain_time: Duration,
    /// Listeners that drain now.
    draining: u64,
    /// The gauges of listeners are not up to date.
    listeners_changed: bool,
}

/// `version_info` of the last update that was applied, for `config_dump`.
#[derive(Default)]
struct Versions {
    clusters: Arc<str>,
    listeners: Arc<str>,
}

/// Scopes of the managers.
struct Scopes {
    cds: ScopeId,
    lds: ScopeId,
    clusters: ScopeId,
    listeners: ScopeId,
}

impl Assembly {
    /// Takes over what the bootstrap says. Nothing happens before [`Self::start`].
    pub fn new(compiled: &Compiled, cx: Context, drain_time: Duration) -> Self {
        let scope = |kind| cx.registry.scope(kind, "");
        let manager_scopes = Scopes {
            cds: if compiled.dynamic.cds.is_some() { scope(ScopeKind::Cds) } else { ScopeId(u32::MAX) },
            lds: if compiled.dynamic.lds.is_some() { scope(ScopeKind::Lds) } else { ScopeId(u32::MAX) },
            clusters: scope(ScopeKind::ClusterManager),
            listeners: scope(ScopeKind::ListenerManager),
        };
        let mut assembly = Self {
            snapshot: compiled.snapshot.clone(),
            next: millrace_config::Update::default(),
            added: Vec::new(),
            names_published: compiled.snapshot.cluster_names.len(),
            clusters: ClusterBook::default(),
            control_clusters: compiled.control_clusters.clone(),
            checked_only: Vec::new(),
            assignments: Assignments::default(),
            listeners: BTreeMap::new(),
            routes: Vec::new(),
            host_sources: BTreeMap::new(),
            layers: runtime::Layers::new(compiled),
            scopes: Vec::new(),
            secrets: Vec::new(),
            acks: acks::Acks::default(),
            startup: Startup::new(compiled),
            deadlines: Deadlines::default(),
            graveyard: Graveyard::default(),
            past: past::Past::default(),
            merges: merges::Merges::default(),
            out: Vec::new(),
            manager_scopes,
            versions: Versions::default(),
            cds: compiled.dynamic.cds.map(|subscription| subscription.source),
            drain_time,
            draining: 0,
            listeners_changed: true,
            cx,
        };
        assembly.adopt_static();
        assembly
    }

    /// The configuration as the shards have it once they took every published update.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What translation knows.
    pub fn context(&self) -> &Context {
        &self.cx
    }

    /// Caches of hosts that configuration has named since the last call.
    pub fn take_dns_caches(&mut self) -> Vec<Arc<millrace_config::DnsCache>> {
        self.cx.dns_caches.take_new()
    }

    /// What one control plane says. Its verdict follows among the actions, at once or when clusters are warm.
    pub fn update(&mut self, turn: &mut Turn<'_>, source: SourceId, aggregated: bool, update: Update) {
        self.count_attempt(turn, &update);
        match update.resource_type {
            ResourceType::Cluster => self.update_clusters(turn, source, aggregated, update),
            ResourceType::Endpoint => self.update_endpoints(turn, source, update),
            ResourceType::Listener => self.update_listeners(turn, source, update),
            ResourceType::Route => self.update_routes(turn, source, update),
            ResourceType::ScopedRoute => self.update_scopes(turn, source, update),
            ResourceType::VirtualHost => self.update_virtual_hosts(turn, source, update),
            ResourceType::Runtime => self.update_runtime(turn, source, update),
            ResourceType::Secret => self.update_secrets(turn, source, update),
            // Nothing subscribes to these, so nothing of them is in force: what came unasked is answered.
            ResourceType::ExtensionConfig => {
                self.acks.now(source, update.id, update.broken, &mut self.out);
            }
        }
        self.end_turn(turn);
    }

    /// When [`Self::tick`] is wanted next.
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.next()
    }

    /// What to do, in order. Publish before anything that follows from it.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// Publishes what the turn changed ahead of its other actions.
    fn end_turn(&mut self, turn: &mut Turn<'_>) {
        let names = self.cx.cluster_ids.names();
        if names.len() != self.names_published {
            self.names_published = names.len();
            self.next.cluster_names = Some(Arc::new(names.clone()));
        }
        self.past.sweep();
        self.warm_last();
        if !self.next.is_empty() {
            let mut update = std::mem::take(&mut self.next);
            update.endpoints = self.endpoint_changes(&update);
            self.past.keep(&self.snapshot, &update);
            self.expect_sweep(turn, SWEEP_AFTER);
            update.version = self.snapshot.version + 1;
            self.snapshot.apply(&update);
            self.out.insert(0, Action::Publish(Arc::new(update)));
        }
        self.refresh_gauges(turn.stats);
        self.snapshot.listeners.append(&mut self.added);
        self.advance_startup(turn);
    }

    fn expect_sweep(&mut self, turn: &Turn<'_>, after: Duration) {
        if !self.past.is_empty() && !std::mem::replace(&mut self.past.is_expected, true) {
            self.deadlines.insert(turn.now + after, Due::Past);
        }
    }

    /// A translated resource; what of it has no effect is for the log.
    fn taken<T>(&mut self, translated: Result<Translated<T>, Rejection>) -> Result<T, String> {
        let Translated { value, unsupported } = translated.map_err(|rejection| rejection.to_string())?;
        for field in unsupported {
            self.log(Level::Warning, format!("{}: {}", field.path, field.why));
        }
        Ok(value)
    }

    fn log(&mut self, level: Level, text: String) {
        self.out.push(Action::Log(level, text));
    }
}
