//! LDS: listeners come, wait for their route tables, serve and go.

use std::sync::Arc;

use millrace_ads::{Rejected, Resource, Update};
use millrace_config::{
    Address, FilterChain, Listener, ListenerChange, NetworkFilter, RouteSource, RouteTableId, ScopeSource,
    SourceId,
};
use millrace_observe::stats::listener_manager;
use millrace_translate::resource;

use crate::action::{Action, Level};
use crate::deadlines::Due;
use crate::scopes::UsedScopes;
use crate::secrets::{UsedSecret, listener_secrets};
use crate::start::Wait;
use crate::stored::{Failure, Stored};
use crate::{Assembly, Turn};

/// One version of a listener.
#[derive(Clone, Debug)]
pub(crate) struct ListenerVersion {
    pub(crate) listener: Arc<Listener>,
    pub(crate) stored: Stored,
    /// The route tables, scopes and secrets that its filter chains name.
    uses: Uses,
}

/// What a listener waits for.
#[derive(Clone, Debug, Default)]
struct Uses {
    tables: Vec<UsedTable>,
    scopes: Vec<UsedScopes>,
    secrets: Vec<UsedSecret>,
}

/// A route table and the `stat_prefix` of the first connection manager that names it.
#[derive(Clone, Debug)]
pub(crate) struct UsedTable {
    pub(crate) id: RouteTableId,
    pub(crate) stat_prefix: Arc<str>,
}

/// One listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerEntry {
    /// From the bootstrap: no control plane changes or removes it.
    pub(crate) is_static: bool,
    pub(crate) active: Option<ListenerVersion>,
    pub(crate) warming: Option<ListenerVersion>,
    pub(crate) failure: Option<Box<Failure>>,
}

impl ListenerEntry {
    fn versions(&self) -> impl Iterator<Item = &ListenerVersion> {
        self.active.iter().chain(&self.warming)
    }
}

impl Assembly {
    /// Removals first, so that an address can move to another listener within one update.
    pub(crate) fn update_listeners(&mut self, turn: &mut Turn<'_>, source: SourceId, update: Update) {
        let mut rejected = update.broken;
        self.listeners_changed = true;
        self.forget_listener_failures();
        for name in &update.removed {
            self.remove_listener(turn, name);
        }
        for resource in &update.changed {
            if let Err(reason) = self.put_listener(turn, resource) {
                let failure = Failure::new(resource, turn.wall, &reason);
                self.listeners.entry(resource.name.clone()).or_default().failure = Some(failure);
                rejected.push(Rejected { name: resource.name.clone(), reason });
            }
        }
        self.versions.listeners = update.version.clone();
        self.count_lds(turn, &update.version, rejected.is_empty());
        if self.startup.is_waiting(&Wait::Lds) {
            for (name, entry) in self.listeners.iter().filter(|(_, entry)| entry.warming.is_some()) {
                debug_assert!(!entry.is_static);
                self.startup.wait(Wait::Listener(name.clone()));
            }
            self.startup.done(&Wait::Lds);
        }
        self.acks.now(source, update.id, rejected, &mut self.out);
    }

    /// Refusals are shown until the next update, as in Envoy: what is still wrong is refused again.
    fn forget_listener_failures(&mut self) {
        self.listeners.values_mut().for_each(|entry| entry.failure = None);
        self.listeners.retain(|_, entry| entry.versions().next().is_some());
    }

    fn put_listener(&mut self, turn: &mut Turn<'_>, resource: &Resource) -> Result<(), String> {
        let entry = self.listeners.get(&resource.name);
        if entry.is_some_and(|entry| entry.is_static) {
            let text = format!("lds: the static listener '{}' cannot be changed", resource.name);
            self.log(Level::Debug, text);
            return Ok(());
        }
        let previous = entry.and_then(|entry| entry.warming.as_ref().or(entry.active.as_ref()));
        let previous = previous.map(|version| version.listener.clone());
        let translated = resource::listener(&resource.body, previous.as_deref(), &mut self.cx);
        let listener = self.taken(translated)?;
        if listener.name != resource.name {
            return Err(format!("name: '{}' came as the resource '{}'", listener.name, resource.name));
        }
        self.check_addresses(&listener)?;
        self.check_sockets(&listener)?;
        let uses = uses_of(&listener);
        let version = ListenerVersion {
            listener: Arc::new(listener),
            stored: Stored::new(resource, turn.wall),
            uses: uses.clone(),
        };
        self.use_all(turn, &uses);
        let ready = self.are_answered(&uses);
        let entry = self.listeners.entry(resource.name.clone()).or_default();
        entry.failure = None;
        let before = if ready { entry.warming.take() } else { entry.warming.replace(version.clone()) };
        if let Some(before) = before {
            self.release_all(turn, &before.uses);
        }
        if ready { self.activate_listener(turn, version) } else { Ok(()) }
    }

    /// No two listeners of different names have an address in common.
    fn check_addresses(&self, listener: &Listener) -> Result<(), String> {
        if !listener.bind_to_port {
            return Ok(());
        }
        let others = self.listeners.iter().filter(|(name, _)| **name != listener.name);
        for other in others.flat_map(|(_, entry)| entry.versions()) {
            let other = &other.listener;
            let shared = listener.addresses.iter().find(|a| !is_any_port(a) && other.addresses.contains(a));
            if let Some(address) = shared.filter(|_| other.bind_to_port) {
                return Err(format!(
                    "error adding listener: '{}' has duplicate address '{address}' as existing listener '{}'",
                    listener.name, other.name
                ));
            }
        }
        Ok(())
    }

    /// Sockets that stay cannot change how they were opened.
    fn check_sockets(&self, listener: &Listener) -> Result<(), String> {
        let active = self.listeners.get(&listener.name).and_then(|entry| entry.active.as_ref());
        let Some(active) = active.map(|version| &version.listener) else { return Ok(()) };
        let overlaps = listener.addresses.iter().any(|address| active.addresses.contains(address));
        if !overlaps || (same_sockets(active, listener) && active.addresses == listener.addresses) {
            return Ok(());
        }
        Err(format!(
            "error updating listener '{}': an address that stays cannot change its socket options or its companions",
            listener.name
        ))
    }

    /// Puts a version whose route tables are there in force.
    fn activate_listener(&mut self, turn: &mut Turn<'_>, version: ListenerVersion) -> Result<(), String> {
        let listener = version.listener.clone();
        let name = listener.name.clone();
        let active = self.listeners.get(&name).and_then(|entry| entry.active.clone());
        let stays = active.as_ref().is_some_and(|active| active.listener.addresses == listener.addresses);
        if !stays && let Err(reason) = turn.host.bind(&listener) {
            turn.stats.inc(self.manager_scopes.listeners, listener_manager::LISTENER_CREATE_FAILURE);
            self.release_all(turn, &version.uses);
            return Err(format!("error adding listener '{name}': {reason}"));
        }
        let counter = match &active {
            None => listener_manager::LISTENER_ADDED,
            Some(active) if only_chains_differ(&active.listener, &listener) => {
                listener_manager::LISTENER_IN_PLACE_UPDATED
            }
            Some(_) => listener_manager::LISTENER_MODIFIED,
        };
        turn.stats.inc(self.manager_scopes.listeners, counter);
        if let Some(active) = &active {
            if stays {
                turn.host.replace(&listener);
                self.next.listeners.push(ListenerChange::Replace(listener.clone(), self.drain_time));
            } else {
                turn.host.unbind(&active.listener);
                self.next.listeners.push(ListenerChange::Remove(name.clone(), self.drain_time));
            }
            self.start_drain(turn);
            self.release_all(turn, &active.uses);
        }
        if !stays {
            self.added.push(listener.clone());
            self.out.push(Action::Listen(listener));
        }
        let entry = self.listeners.entry(name.clone()).or_default();
        entry.active = Some(version);
        self.startup.done(&Wait::Listener(name));
        Ok(())
    }

    fn use_all(&mut self, turn: &mut Turn<'_>, uses: &Uses) {
        uses.tables.iter().for_each(|table| self.use_table(turn, table));
        uses.scopes.iter().for_each(|scopes| self.use_scopes(turn, scopes));
        let parent = self.startup.listeners_source();
        uses.secrets.iter().for_each(|secret| self.use_secret(turn, secret, parent));
    }

    fn release_all(&mut self, turn: &mut Turn<'_>, uses: &Uses) {
        self.release_tables(turn, &uses.tables);
        self.release_scopes(turn, &uses.scopes);
        self.release_secrets(turn, &uses.secrets);
    }

    fn are_answered(&self, uses: &Uses) -> bool {
        uses.tables.iter().all(|table| self.is_table_answered(table.id))
            && uses.scopes.iter().all(|scopes| self.are_scopes_answered(scopes.id))
            && self.are_secrets_answered(&uses.secrets)
    }

    /// A route table or scopes were answered, or nobody waits for them any longer: listeners that waited for them only
    /// serve now.
    pub(crate) fn activate_waiting(&mut self, turn: &mut Turn<'_>) {
        self.listeners_changed = true;
        let is_ready = |entry: &ListenerEntry| {
            entry.warming.as_ref().is_some_and(|version| self.are_answered(&version.uses))
        };
        let ready = self.listeners.iter().filter(|(_, entry)| is_ready(entry));
        let names: Vec<Arc<str>> = ready.map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(entry) = self.listeners.get_mut(&name) else { continue };
            let Some(version) = entry.warming.take() else { continue };
            if let Err(reason) = self.activate_listener(turn, version) {
                self.log(Level::Warning, reason);
                self.startup.done(&Wait::Listener(name));
            }
        }
    }

    fn remove_listener(&mut self, turn: &mut Turn<'_>, name: &Arc<str>) {
        if self.listeners.get(name).is_none_or(|entry| entry.is_static) {
            return;
        }
        let Some(entry) = self.listeners.remove(name) else { return };
        if let Some(warming) = entry.warming {
            self.release_all(turn, &warming.uses);
            self.startup.done(&Wait::Listener(name.clone()));
        }
        if let Some(active) = entry.active {
            turn.stats.inc(self.manager_scopes.listeners, listener_manager::LISTENER_REMOVED);
            turn.host.unbind(&active.listener);
            self.next.listeners.push(ListenerChange::Remove(name.clone(), self.drain_time));
            self.start_drain(turn);
            self.release_all(turn, &active.uses);
        }
    }

    fn start_drain(&mut self, turn: &mut Turn<'_>) {
        self.draining += 1;
        self.deadlines.insert(turn.now + self.drain_time, Due::Drained);
    }

    /// Listeners of the bootstrap begin to ask for their route tables.
    pub(crate) fn start_static_listeners(&mut self, turn: &mut Turn<'_>) {
        let of_bootstrap = self.listeners.values().filter(|entry| entry.is_static);
        let wanted: Vec<Uses> =
            of_bootstrap.flat_map(ListenerEntry::versions).map(|version| version.uses.clone()).collect();
        for uses in wanted {
            self.use_all(turn, &uses);
            for table in &uses.tables {
                if !self.is_table_answered(table.id) {
                    self.startup.wait(Wait::Table(table.id));
                }
            }
            for scopes in &uses.scopes {
                if !self.are_scopes_answered(scopes.id) {
                    self.startup.wait(Wait::Scopes(scopes.id));
                }
            }
            self.wait_for_secrets(&uses.secrets);
        }
    }

    pub(crate) fn adopt_static_listener(&mut self, listener: &Arc<Listener>) {
        let version = ListenerVersion {
            listener: listener.clone(),
            stored: Stored::default(),
            uses: uses_of(listener),
        };
        let entry = ListenerEntry { is_static: true, active: Some(version), ..ListenerEntry::default() };
        self.listeners.insert(listener.name.clone(), entry);
    }
}

fn chains(listener: &Listener) -> impl Iterator<Item = &Arc<FilterChain>> {
    listener.filter_chains.iter().chain(&listener.default_filter_chain)
}

/// The route tables and scopes that a listener needs, each once, and its secrets.
fn uses_of(listener: &Listener) -> Uses {
    let mut uses = Uses { secrets: listener_secrets(listener), ..Uses::default() };
    for filter in chains(listener).flat_map(|chain| &chain.filters) {
        let NetworkFilter::HttpConnectionManager(manager) = filter else { continue };
        let stat_prefix = manager.stat_prefix.clone();
        match &manager.routes {
            RouteSource::Rds(id) if !uses.tables.iter().any(|used| used.id == *id) => {
                uses.tables.push(UsedTable { id: *id, stat_prefix });
            }
            RouteSource::Scoped(scoped) => {
                if let ScopeSource::Srds(id) = scoped.scopes
                    && !uses.scopes.iter().any(|used| used.id == id)
                {
                    uses.scopes.push(UsedScopes { id, stat_prefix });
                }
            }
            RouteSource::Rds(_) | RouteSource::Inline(_) => {}
        }
    }
    uses
}

fn is_any_port(address: &Address) -> bool {
    matches!(address, Address::Inet(socket) if socket.port() == 0)
}

fn same_sockets(a: &Listener, b: &Listener) -> bool {
    a.bind_to_port == b.bind_to_port
        && a.transparent == b.transparent
        && a.freebind == b.freebind
        && a.reuse_port == b.reuse_port
        && a.backlog == b.backlog
}

/// True when a new version changes filter chains and nothing else that a connection sees.
fn only_chains_differ(a: &Listener, b: &Listener) -> bool {
    a.scope == b.scope
        && same_sockets(a, b)
        && a.use_original_dst == b.use_original_dst
        && a.buffer_limit_bytes == b.buffer_limit_bytes
        && a.listener_filters == b.listener_filters
        && a.traffic_direction == b.traffic_direction
        && a.drain_type == b.drain_type
        && chains(a).any(|chain| chains(b).any(|other| Arc::ptr_eq(chain, other)))
}
