//! RDS: route tables, and the listeners that use them.

use std::sync::Arc;

use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_base::Time;
use millrace_config::{RouteConfiguration, RouteTableId, ScopeId, SourceId};
use millrace_observe::stats::{ScopeKind, rds};
use millrace_translate::{Sources, resource};

use crate::action::{Action, Level};
use crate::deadlines::Due;
use crate::listeners::UsedTable;
use crate::start::Wait;
use crate::stored::{Failure, Stored};
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
    table: Option<Arc<RouteConfiguration>>,
    /// Versions of listeners that use it.
    users: u32,
    /// It came, or was given up: listeners need not wait.
    answered: bool,
    /// When listeners stop waiting for it.
    give_up_at: Option<Time>,
    /// Without users: when connections that drain have done with it.
    forget_at: Option<Time>,
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
                self.answer_table(turn, id);
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
        let translated = self.taken(translated);
        let Some(entry) = entry_mut(&mut self.routes, id) else { return Ok(()) };
        let table = match translated {
            Ok(table) => Arc::new(table),
            Err(reason) => {
                entry.failure = Some(Failure::new(resource, turn.wall, &reason));
                return Err(reason);
            }
        };
        entry.stored = Some(Stored::new(resource, turn.wall));
        entry.failure = None;
        entry.table = Some(table.clone());
        let (stats, scope, milliseconds) = (&mut *turn.stats, entry.scope, turn.wall.0 / 1_000_000);
        stats.inc(scope, rds::UPDATE_SUCCESS);
        stats.inc(scope, rds::CONFIG_RELOAD);
        stats.gauge_set(scope, rds::CONFIG_RELOAD_TIME_MS, milliseconds);
        stats.gauge_set(scope, rds::UPDATE_TIME, milliseconds);
        stats.gauge_set(scope, rds::VERSION, gauges::version_hash(&resource.version));
        self.next.route_tables.push((id, Some(table)));
        self.answer_table(turn, id);
        Ok(())
    }

    fn answer_table(&mut self, turn: &mut Turn<'_>, id: RouteTableId) {
        let Some(entry) = entry_mut(&mut self.routes, id) else { return };
        if !std::mem::replace(&mut entry.answered, true) {
            self.startup.done(&Wait::Table(id));
            self.table_is_answered(turn, id);
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
            let rest = if entry.table.is_some() { self.drain_time } else { std::time::Duration::ZERO };
            let at = turn.now + rest;
            entry.forget_at = Some(at);
            self.deadlines.insert(at, Due::ForgetTable(*id));
        }
    }

    pub(crate) fn forget_table(&mut self, now: Time, id: RouteTableId) {
        let Some(slot) = self.routes.get_mut(id.0 as usize) else { return };
        let is_over = |entry: &mut RouteEntry| entry.forget_at.is_some_and(|at| at <= now);
        let Some(entry) = slot.take_if(is_over) else { return };
        if entry.table.is_some() {
            self.next.route_tables.push((id, None));
        }
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
        turn.stats.inc(entry.scope, rds::INIT_FETCH_TIMEOUT);
        let text = format!("rds: the route configuration '{}' did not come in time", entry.name);
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
            table: None,
            users: 0,
            answered: false,
            give_up_at: None,
            forget_at: None,
        });
    }
}

fn entry_mut(routes: &mut [Option<RouteEntry>], id: RouteTableId) -> Option<&mut RouteEntry> {
    routes.get_mut(id.0 as usize)?.as_mut()
}
