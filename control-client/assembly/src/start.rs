//! The order in which everything begins, as Envoy has it: names of the bootstrap's clusters, runtime layers, CDS and
//! its endpoints, then LDS and its route tables.

use std::collections::HashSet;
use std::sync::Arc;

use millrace_ads::{Interest, ResourceType};
use millrace_config::{ClusterDiscovery, RouteTableId, ScopeTableId, SecretId, SourceId};
use millrace_observe::stats::{cds, lds};
use millrace_translate::{Compiled, Sources, Subscription};

use crate::action::{Action, Level};
use crate::cluster_book::ClusterVersion;
use crate::deadlines::Due;
use crate::replaced::changed_priorities;
use crate::secrets::cluster_secrets;
use crate::stored::Stored;
use crate::{Assembly, SWEEP_AGAIN, Turn, gauges};

/// How far start-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// [`Assembly::start`] was not called.
    Created,
    /// Clusters of the bootstrap are resolved; no control plane was asked yet.
    Primary,
    /// Runtime layers.
    Runtime,
    /// CDS, and endpoints.
    Clusters,
    /// LDS, and route tables.
    Listeners,
    /// Nothing is waited for any more.
    Done,
}

/// Something that the current phase waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wait {
    Cluster(Arc<str>),
    Layer(Arc<str>),
    Cds,
    Lds,
    Listener(Arc<str>),
    Table(RouteTableId),
    Scopes(ScopeTableId),
    Secret(SecretId),
}

impl Wait {
    /// For `/init_dump`.
    fn describe(&self) -> String {
        match self {
            Self::Cluster(name) => format!("Cluster {name}"),
            Self::Layer(name) => format!("RTDS {name}"),
            Self::Cds => "CDS".to_owned(),
            Self::Lds => "LDS".to_owned(),
            Self::Listener(name) => format!("Listener {name}"),
            Self::Table(id) => format!("RouteConfiguration {}", id.0),
            Self::Scopes(id) => format!("ScopedRoutes {}", id.0),
            Self::Secret(id) => format!("Secret {}", id.0),
        }
    }
}

/// Start-up's state.
pub(crate) struct Startup {
    phase: Phase,
    waits: HashSet<Wait>,
    cds: Option<Subscription>,
    lds: Option<Subscription>,
}

impl Startup {
    pub(crate) fn new(compiled: &Compiled) -> Self {
        Self {
            phase: Phase::Created,
            waits: HashSet::new(),
            cds: compiled.dynamic.cds,
            lds: compiled.dynamic.lds,
        }
    }

    pub(crate) fn wait(&mut self, what: Wait) {
        if self.phase < Phase::Done {
            self.waits.insert(what);
        }
    }

    /// True when it was waited for.
    pub(crate) fn done(&mut self, what: &Wait) -> bool {
        self.waits.remove(what)
    }

    pub(crate) fn lds_source(&self) -> Option<SourceId> {
        self.lds.map(|lds| lds.source)
    }

    /// What `self: {}` means in a listener.
    pub(crate) fn listeners_source(&self) -> SourceId {
        self.lds.map_or(Sources::ADS, |lds| lds.source)
    }

    /// What `self: {}` means in a cluster.
    pub(crate) fn clusters_source(&self) -> SourceId {
        self.cds.map_or(Sources::ADS, |cds| cds.source)
    }

    pub(crate) fn is_waiting(&self, what: &Wait) -> bool {
        self.waits.contains(what)
    }
}

impl Assembly {
    /// How far start-up is.
    pub fn phase(&self) -> Phase {
        self.startup.phase
    }

    /// What start-up waits for, for `/init_dump`.
    pub fn unready(&self) -> Vec<String> {
        let mut names: Vec<String> = self.startup.waits.iter().map(Wait::describe).collect();
        names.sort();
        names
    }

    /// The listeners and clusters of the bootstrap; its clusters of fixed endpoints serve from the start.
    pub(crate) fn adopt_static(&mut self) {
        for listener in self.snapshot.listeners.clone() {
            self.adopt_static_listener(&listener);
        }
        // Clusters that only the control client uses serve no traffic, but their names are taken.
        for name in self.cx.control_clusters.keys() {
            self.clusters.entry(name, true);
        }
        for cluster in self.snapshot.clusters.iter().flatten() {
            self.clusters.entry(&cluster.name, true);
            let version = ClusterVersion { cluster: cluster.clone(), stored: Stored::default() };
            self.clusters.activate(&cluster.name, version);
        }
    }

    /// Begins.
    pub fn start(&mut self, turn: &mut Turn<'_>) {
        self.startup.phase = Phase::Primary;
        let clusters: Vec<_> = self.snapshot.clusters.iter().flatten().cloned().collect();
        for cluster in clusters {
            if let ClusterDiscovery::Dns { wait_for_warm, .. } = &cluster.discovery {
                self.clusters.resolves(&cluster);
                if *wait_for_warm {
                    self.startup.wait(Wait::Cluster(cluster.name.clone()));
                }
                if let Some(entry) = self.clusters.entries.get_mut(&cluster.name) {
                    entry.is_resolved = false;
                }
                self.out.push(Action::WatchDns(cluster.clone()));
            }
            self.await_checks(turn, &cluster);
        }
        for cluster in self.snapshot.clusters.iter().flatten() {
            gauges::membership(turn.stats, cluster);
            let came = changed_priorities(&[], &cluster.localities);
            gauges::endpoints_told(turn.stats, came, cluster);
        }
        self.end_turn(turn);
    }

    /// Goes on when nothing is waited for.
    pub(crate) fn advance_startup(&mut self, turn: &mut Turn<'_>) {
        while self.startup.waits.is_empty() {
            match self.startup.phase {
                Phase::Created | Phase::Done => return,
                Phase::Primary => {
                    self.startup.phase = Phase::Runtime;
                    self.subscribe_layers(turn);
                }
                Phase::Runtime => {
                    self.startup.phase = Phase::Clusters;
                    self.subscribe_clusters(turn);
                }
                Phase::Clusters => {
                    self.out.push(Action::ClustersReady);
                    self.startup.phase = Phase::Listeners;
                    self.subscribe_listeners(turn);
                }
                Phase::Listeners => {
                    self.startup.phase = Phase::Done;
                    self.out.push(Action::ListenersReady);
                }
            }
        }
    }

    fn subscribe_clusters(&mut self, turn: &mut Turn<'_>) {
        let clusters: Vec<_> = self.snapshot.clusters.iter().flatten().cloned().collect();
        for cluster in clusters {
            self.use_static_secrets(turn, &cluster_secrets(&cluster));
            if let ClusterDiscovery::Eds { .. } = &cluster.discovery {
                self.startup.wait(Wait::Cluster(cluster.name.clone()));
                self.warm_static(turn, &cluster);
            }
        }
        let Some(Subscription { source, initial_fetch_timeout }) = self.startup.cds else { return };
        self.startup.wait(Wait::Cds);
        turn.stats.inc(self.manager_scopes.cds, cds::UPDATE_ATTEMPT);
        if let Some(timeout) = initial_fetch_timeout {
            self.deadlines.insert(turn.now + timeout, Due::Cds);
        }
        self.out.push(Action::Subscribe(source, ResourceType::Cluster, Interest::Wildcard));
    }

    fn subscribe_listeners(&mut self, turn: &mut Turn<'_>) {
        self.start_static_listeners(turn);
        let Some(Subscription { source, initial_fetch_timeout }) = self.startup.lds else { return };
        self.startup.wait(Wait::Lds);
        turn.stats.inc(self.manager_scopes.lds, lds::UPDATE_ATTEMPT);
        if let Some(timeout) = initial_fetch_timeout {
            self.deadlines.insert(turn.now + timeout, Due::Lds);
        }
        self.out.push(Action::Subscribe(source, ResourceType::Listener, Interest::Wildcard));
    }

    /// Time has passed.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some(due) = self.deadlines.pop(turn.now) {
            match due {
                Due::Cluster(name) => self.cluster_is_due(turn, &name),
                Due::Table(id) => self.table_is_due(turn, id),
                Due::ForgetTable(id) => self.forget_table(turn.now, id),
                Due::Scopes(id) => self.scopes_are_due(turn, id),
                Due::ForgetScopes(id) => self.forget_scopes(turn, id),
                Due::Secret(id) => self.secret_is_due(turn, id),
                Due::ForgetSecret(id) => self.forget_secret(turn.now, id),
                Due::Layer(name) => self.layer_is_due(&name),
                Due::Cds => {
                    if self.startup.done(&Wait::Cds) {
                        turn.stats.inc(self.manager_scopes.cds, cds::INIT_FETCH_TIMEOUT);
                        self.log(Level::Warning, "cds: the first clusters did not come in time".to_owned());
                    }
                }
                Due::Lds => {
                    if self.startup.done(&Wait::Lds) {
                        turn.stats.inc(self.manager_scopes.lds, lds::INIT_FETCH_TIMEOUT);
                        self.log(Level::Warning, "lds: the first listeners did not come in time".to_owned());
                    }
                }
                Due::Drained => {
                    self.draining = self.draining.saturating_sub(1);
                    self.listeners_changed = true;
                }
                Due::Merged(id) => self.deliver_merged(turn, id),
                Due::Packed(source, service) => self.assignments.pack(source, &service),
                Due::Stale(source, service) => self.assignment_is_due(turn, source, &service),
                Due::Past => {
                    self.past.is_expected = false;
                    self.past.sweep();
                    self.expect_sweep(turn, SWEEP_AGAIN);
                }
                Due::Graves => self.tend_graves(turn),
            }
        }
        self.end_turn(turn);
    }

    fn tend_graves(&mut self, turn: &mut Turn<'_>) {
        let serving = self.snapshot.clusters.iter().flatten();
        let used: HashSet<_> = serving.chain(&self.checked_only).map(|cluster| cluster.scope).collect();
        let registry = self.cx.registry.clone();
        self.graveyard.tend(turn.now, &registry, &mut self.deadlines, |scope| used.contains(&scope));
    }
}
