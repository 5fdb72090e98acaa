//! RDS: route tables, and the listeners that use them.

use std::sync::Arc;

use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_base::Time;
use millrace_config::{RouteTableId, ScopeId, SourceId};
use millrace_observe::stats::{ScopeKind, rds, vhds};
use millrace_translate::{Sources, resource};

use crate::action::{Action, Level};
use crate::deadlines::Due;
use crate::listeners::UsedTable;
use crate::start::Wait;
use crate::stored::{Failure, Stored};
use crate::virtual_hosts::VirtualHosts;
use crate::{Assembly, Turn, gauges};

/// One route table. Its position is its [`RouteTableId`].
#[derive(Debug)]
pub(crate) struct RouteEntry {
    pub(crate) name: Arc<str>,
    source: SourceId,
    scope: ScopeId,
    /// The last good one.
    pub(crate) stored: Option<Stored>,
    pub(crate) failure: Option<Box<Failure>>,
    /// Of the first connection manager that named it.
    pub(crate) stat_prefix: Arc<str>,
    /// Virtual hosts that come on their own.
    pub(crate) virtual_hosts: Option<Box<VirtualHosts>>,
    /// Versions of listeners that use it.
    users: u32,
    /// It came with all that belongs to it, or was given up: listeners need not wait.
    answered: bool,
    /// When listeners stop waiting for it.
    give_up_at: Option<Time>,
    /// Without users: when connections that drain have done with it.
    forget_at: Option<Time>,
}

impl RouteEntry {
    pub(crate) fn hosts(&self) -> Option<&VirtualHosts> {
        self.virtual_hosts.as_deref()
    }

    /// The table is there, but its virtual hosts are still to come.
    fn waits_for_hosts(&self) -> bool {
        self.hosts().is_some_and(|book| !book.is_heard)
    }
}

impl Assembly {
    pub(crate) fn update_routes(&mut self, turn: &mut Turn<'_>, source: SourceId, update: Update) {
        let mut rejected = update.broken;
        for resource in &update.changed {
            let Some((id, scope)) = self.table_id(source, &resource.name) else { continue };
            turn.stats.inc(scope, rds::UPDATE_ATTEMPT);
            if let Err(reason) = self.put_table(turn, id, resource) {
                turn.stats.inc(scope, rds::UPDATE_REJECTED);
                rejected.push(Rejected { name: resource.name.clone(), reason });
            }
        }
        for name in &update.unchanged {
            if let Some((id, _)) = self.table_id(source, name)
                && let Some(entry) = entry_mut(&mut self.routes, id)
            {
                entry.failure = None;
            }
        }
        // A table that is taken away or refused leaves the last good one in force, as in Envoy; where there is none it is
        // an answer all the same to whoever waits.
        let refused = rejected.iter().map(|refused| &refused.name);
        for name in update.removed.iter().chain(&update.unchanged).chain(refused) {
            if let Some((id, _)) = self.table_id(source, name) {
                self.table_is_here(turn, id);
            }
        }
        self.acks.now(source, update.id, rejected, &mut self.out);
    }

    fn put_table(
        &mut self,
        turn: &mut Turn<'_>,
        id: RouteTableId,
        resource: &Resource,
    ) -> Result<(), String> {
        let translated = resource::route_configuration(&resource.body, &mut self.cx);
        let timeout = translated.as_ref().ok().and_then(|table| table.value.vhds?.initial_fetch_timeout);
        let joined = self.taken(translated).and_then(|table| self.join_hosts(id, table));
        let Some(entry) = entry_mut(&mut self.routes, id) else { return Ok(()) };
        let table = match joined {
            Ok(table) => table,
            Err(reason) => {
                entry.failure = Some(Failure::new(resource, turn.wall, &reason));
                return Err(reason);
            }
        };
        entry.stored = Some(Stored::new(resource, turn.wall));
        entry.failure = None;
        let (stats, scope, milliseconds) = (&mut *turn.stats, entry.scope, turn.wall.0 / 1_000_000);
        stats.inc(scope, rds::UPDATE_SUCCESS);
        stats.inc(scope, rds::CONFIG_RELOAD);
        stats.gauge_set(scope, rds::CONFIG_RELOAD_TIME_MS, milliseconds);
        stats.gauge_set(scope, rds::UPDATE_TIME, milliseconds);
        stats.gauge_set(scope, rds::VERSION, gauges::version_hash(&resource.version));
        self.next.route_tables.push((id, Some(table)));
        if entry.waits_for_hosts() && !entry.answered {
            entry.give_up_at = timeout.map(|timeout| turn.now + timeout);
            if let Some(at) = entry.give_up_at {
                self.deadlines.insert(at, Due::Table(id));
            }
        }
        self.table_is_here(turn, id);
        Ok(())
    }

    /// The table came, or does not exist; its virtual hosts may be still to come.
    fn table_is_here(&mut self, turn: &mut Turn<'_>, id: RouteTableId) {
        let waits =
            self.routes.get(id.0 as usize).and_then(Option::as_ref).is_some_and(RouteEntry::waits_for_hosts);
        if !waits {
            self.answer_table(turn, id);
        }
    }

    pub(crate) fn answer_table(&mut self, turn: &mut Turn<'_>, id: RouteTableId) {
        let Some(entry) = entry_mut(&mut self.routes, id) else { return };
        if !std::mem::replace(&mut entry.answered, true) {
            self.startup.done(&Wait::Table(id));
            self.settle_all_scopes(turn);
            self.activate_waiting(turn);
        }
    }

    /// A listener wants the table.
    pub(crate) fn use_table(&mut self, turn: &mut Turn<'_>, used: &UsedTable) {
        let id = used.id;
        self.know_table(used);
        let Some(entry) = entry_mut(&mut self.routes, id) else { return };
        entry.users += 1;
        if entry.users > 1 {
            return;
        }
        if entry.forget_at.take().is_some() && entry.stored.is_some() {
            return;
        }
        turn.stats.inc(entry.scope, rds::UPDATE_ATTEMPT);
        let timeout = self.cx.route_tables.get(id).and_then(|info| info.initial_fetch_timeout);
        if let Some(timeout) = timeout.filter(|_| !entry.answered) {
            entry.give_up_at = Some(turn.now + timeout);
            self.deadlines.insert(turn.now + timeout, Due::Table(id));
        }
        let interest = Interest::Name(entry.name.clone());
        self.out.push(Action::Subscribe(entry.source, ResourceType::Route, interest));
    }

    /// A version of a listener is gone. Its connections may drain for a while and still use the tables.
    pub(crate) fn release_tables(&mut self, turn: &mut Turn<'_>, tables: &[UsedTable]) {
        for UsedTable { id, .. } in tables {
            let Some(entry) = entry_mut(&mut self.routes, *id) else { continue };
            entry.users -= 1;
            if entry.users > 0 {
                continue;
            }
            // What never arrived needs no rest.
            let rest = if entry.stored.is_some() { self.drain_time } else { std::time::Duration::ZERO };
            let at = turn.now + rest;
            entry.forget_at = Some(at);
            self.deadlines.insert(at, Due::ForgetTable(*id));
        }
    }

    pub(crate) fn forget_table(&mut self, now: Time, id: RouteTableId) {
        let Some(slot) = self.routes.get_mut(id.0 as usize) else { return };
        let is_over = |entry: &mut RouteEntry| entry.forget_at.is_some_and(|at| at <= now);
        let Some(entry) = slot.take_if(is_over) else { return };
        if entry.stored.is_some() {
            self.next.route_tables.push((id, None));
        }
        self.leave_hosts(entry.hosts().map(VirtualHosts::source));
        self.cx.route_tables.release(id);
        let interest = Interest::Name(entry.name);
        self.out.push(Action::Unsubscribe(entry.source, ResourceType::Route, interest));
    }

    /// A table has not come in time: its listeners serve without it, and requests get 404 until it comes.
    pub(crate) fn table_is_due(&mut self, turn: &mut Turn<'_>, id: RouteTableId) {
        let Some(entry) = self.routes.get(id.0 as usize).and_then(Option::as_ref) else { return };
        if entry.answered || entry.users == 0 || entry.give_up_at.is_none_or(|at| at > turn.now) {
            return;
        }
        let what = match entry.hosts() {
            Some(book) => {
                turn.stats.inc(book.scope, vhds::INIT_FETCH_TIMEOUT);
                "vhds: the virtual hosts of the route configuration"
            }
            None => {
                turn.stats.inc(entry.scope, rds::INIT_FETCH_TIMEOUT);
                "rds: the route configuration"
            }
        };
        let text = format!("{what} '{}' did not come in time", entry.name);
        self.log(Level::Warning, text);
        self.answer_table(turn, id);
    }

    /// Scopes of the tables that come from a source.
    pub(crate) fn route_scopes(&self, source: SourceId) -> impl Iterator<Item = ScopeId> {
        self.routes.iter().flatten().filter(move |entry| entry.source == source).map(|entry| entry.scope)
    }

    pub(crate) fn is_table_answered(&self, id: RouteTableId) -> bool {
        self.routes.get(id.0 as usize).and_then(Option::as_ref).is_some_and(|entry| entry.answered)
    }

    fn table_id(&self, source: SourceId, name: &Arc<str>) -> Option<(RouteTableId, ScopeId)> {
        let found = self.cx.route_tables.find(name, source);
        let id = found.or_else(|| self.cx.route_tables.find(name, Sources::SAME_AS_PARENT))?;
        let entry = self.routes.get(id.0 as usize)?.as_ref().filter(|entry| entry.source == source)?;
        Some((id, entry.scope))
    }

    /// Makes an entry for a table that no listener used before.
    fn know_table(&mut self, used: &UsedTable) {
        let at = used.id.0 as usize;
        if self.routes.len() <= at {
            self.routes.resize_with(at + 1, || None);
        }
        let Some(info) = self.cx.route_tables.get(used.id).filter(|_| self.routes[at].is_none()) else {
            return;
        };
        let parent = self.startup.listeners_source();
        let scope =
            self.cx.registry.scope(ScopeKind::Rds, &format!("{}.rds.{}", used.stat_prefix, info.name));
        self.routes[at] = Some(RouteEntry {
            name: info.name.clone(),
            source: if info.source == Sources::SAME_AS_PARENT { parent } else { info.source },
            scope,
            stored: None,
            failure: None,
            stat_prefix: used.stat_prefix.clone(),
            virtual_hosts: None,
            users: 0,
            answered: false,
            give_up_at: None,
            forget_at: None,
        });
    }
}

pub(crate) fn entry_mut(routes: &mut [Option<RouteEntry>], id: RouteTableId) -> Option<&mut RouteEntry> {
    routes.get_mut(id.0 as usize)?.as_mut()
}
