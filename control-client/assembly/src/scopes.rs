//! SRDS: scopes, each with a route table of RDS, and the listeners that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_base::{Time, WallTime};
use millrace_config::{Scope, ScopeId, ScopeRoutes, ScopeTable, ScopeTableId, SourceId};
use millrace_observe::stats::{ScopeKind, scoped_rds};
use millrace_translate::{Sources, Subscription, resource};

use crate::action::{Action, Level};
use crate::deadlines::Due;
use crate::listeners::UsedTable;
use crate::start::Wait;
use crate::stored::Stored;
use crate::{Assembly, Turn, gauges};

/// Scopes that a listener needs, and the `stat_prefix` of the first connection manager that names them.
#[derive(Clone, Debug)]
pub(crate) struct UsedScopes {
    pub(crate) id: ScopeTableId,
    pub(crate) stat_prefix: Arc<str>,
}

/// One scope in force.
#[derive(Clone, Debug)]
pub(crate) struct ScopeVersion {
    pub(crate) stored: Stored,
    scope: Arc<Scope>,
}

/// By name.
type Versions = BTreeMap<Arc<str>, ScopeVersion>;

/// The scopes of a connection manager. Their position is their [`ScopeTableId`].
#[derive(Debug)]
pub(crate) struct ScopesEntry {
    pub(crate) name: Arc<str>,
    source: SourceId,
    /// Where their route tables come from.
    tables: Subscription,
    stat_prefix: Arc<str>,
    scope: ScopeId,
    pub(crate) versions: Versions,
    /// `version_info` of the last update, and when it came.
    pub(crate) version: Arc<str>,
    pub(crate) updated: WallTime,
    /// Versions of listeners that use them.
    users: u32,
    /// The source has answered.
    pub(crate) is_heard: bool,
    /// It has, and the first route tables have come, or were given up: listeners need not wait.
    answered: bool,
    /// When listeners stop waiting for the source.
    give_up_at: Option<Time>,
    /// Without users: when connections that drain have done with them.
    forget_at: Option<Time>,
}

impl Assembly {
    pub(crate) fn update_scopes(&mut self, turn: &mut Turn<'_>, source: SourceId, update: Update) {
        let mut rejected = Vec::new();
        for id in self.scope_ids() {
            let Some(entry) = self.scopes_entry(id).filter(|entry| entry.source == source) else { continue };
            let scope = entry.scope;
            let refused = rejected.len();
            let is_first = !std::mem::replace(&mut entry.is_heard, true);
            (entry.version, entry.updated) = (update.version.clone(), turn.wall);
            let is_change = self.change_scopes(turn, id, &update.changed, &update.removed, &mut rejected);
            let is_good = rejected.len() == refused && update.broken.is_empty();
            count(turn, scope, &update.version, is_good, is_change || is_first);
            self.settle_scopes(turn, id);
        }
        // Several connection managers may have the same scopes; each refusal is named once.
        let mut named = BTreeSet::new();
        rejected.retain(|one: &Rejected| named.insert(one.name.clone()));
        let rejected = update.broken.into_iter().chain(rejected).collect();
        self.acks.now(source, update.id, rejected, &mut self.out);
    }

    /// True when anything changed. Keys may move between scopes of one response; where two scopes want one key, each
    /// is taken or refused on its own, in the order of the response.
    fn change_scopes(
        &mut self,
        turn: &mut Turn<'_>,
        id: ScopeTableId,
        changed: &[Resource],
        removed: &[Arc<str>],
        rejected: &mut Vec<Rejected>,
    ) -> bool {
        let Some(entry) = self.scopes_entry(id) else { return false };
        let (tables, before) = (entry.tables, std::mem::take(&mut entry.versions));
        let mut came = Vec::with_capacity(changed.len());
        for resource in changed {
            let translated = resource::scoped_route(&resource.body, tables, &mut self.cx);
            match self.taken(translated).and_then(|scope| named(scope, &resource.name)) {
                Ok(scope) => {
                    let stored = Stored::new(resource, turn.wall);
                    came.push((resource.name.clone(), ScopeVersion { stored, scope: Arc::new(scope) }));
                }
                Err(reason) => rejected.push(Rejected { name: resource.name.clone(), reason }),
            }
        }
        let mut kept = before.clone();
        let is_smaller = removed.iter().filter(|name| kept.remove(*name).is_some()).count() > 0;
        let is_change = is_smaller || !came.is_empty();
        let after = joined(kept, came, rejected);
        self.follow_tables(turn, id, &before, &after);
        let (total, table) = (after.len() as u64, table_of(&after));
        let Some(entry) = self.scopes_entry(id) else { return false };
        let (scope, is_new) = (entry.scope, before.is_empty());
        entry.versions = after;
        turn.stats.gauge_set(scope, scoped_rds::ALL_SCOPES, total);
        turn.stats.gauge_set(scope, scoped_rds::ACTIVE_SCOPES, total);
        if is_change || is_new {
            self.next.scope_tables.push((id, Some(Arc::new(table))));
        }
        is_change
    }

    /// Asks for the route tables of scopes that are new, then lets go of those that are not needed any more.
    fn follow_tables(&mut self, turn: &mut Turn<'_>, id: ScopeTableId, before: &Versions, after: &Versions) {
        let Some(entry) = self.scopes_entry(id) else { return };
        let stat_prefix = entry.stat_prefix.clone();
        let differ = |a: &Versions, b: &Versions| -> Vec<UsedTable> {
            let is_other = |name: &Arc<str>, of: &ScopeVersion| {
                b.get(name).is_none_or(|other| !Arc::ptr_eq(&other.scope, &of.scope))
            };
            let changed = a.iter().filter(|(name, version)| is_other(name, version));
            let tables = changed.filter_map(|(_, version)| match version.scope.routes {
                ScopeRoutes::Rds(id) => Some(UsedTable { id, stat_prefix: stat_prefix.clone() }),
                ScopeRoutes::Inline(_) => None,
            });
            tables.collect()
        };
        for table in differ(after, before) {
            self.use_table(turn, &table);
        }
        self.release_tables(turn, &differ(before, after));
    }

    /// A listener wants the scopes.
    pub(crate) fn use_scopes(&mut self, turn: &mut Turn<'_>, used: &UsedScopes) {
        let id = used.id;
        self.know_scopes(used);
        let timeout = self.cx.scope_tables.get(id).and_then(|info| info.scopes.initial_fetch_timeout);
        let Some(entry) = self.scopes_entry(id) else { return };
        entry.users += 1;
        if entry.users > 1 || entry.forget_at.take().is_some() {
            return;
        }
        let source = entry.source;
        // Another connection manager may have the same scopes: they do not come a second time.
        let mut others =
            self.scopes.iter().flatten().filter(|other| other.source == source && other.is_heard);
        if let Some(other) = others.next() {
            let (version, updated) = (other.version.clone(), other.updated);
            let known: Vec<Resource> =
                other.versions.iter().map(|(name, of)| resource_of(name, of)).collect();
            if let Some(entry) = self.scopes_entry(id) {
                (entry.is_heard, entry.version, entry.updated) = (true, version, updated);
            }
            let mut refused = Vec::new();
            self.change_scopes(turn, id, &known, &[], &mut refused);
            for Rejected { name, reason } in refused {
                self.log(Level::Warning, format!("srds: the scope '{name}' is left out: {reason}"));
            }
            return self.settle_scopes(turn, id);
        }
        if let (Some(timeout), Some(entry)) = (timeout, self.scopes_entry(id)) {
            entry.give_up_at = Some(turn.now + timeout);
            self.deadlines.insert(turn.now + timeout, Due::Scopes(id));
        }
        if self.scopes.iter().flatten().filter(|other| other.source == source).count() == 1 {
            self.out.push(Action::Subscribe(source, ResourceType::ScopedRoute, Interest::Wildcard));
        }
    }

    /// A version of a listener is gone. Its connections may drain for a while and still use the scopes.
    pub(crate) fn release_scopes(&mut self, turn: &mut Turn<'_>, scopes: &[UsedScopes]) {
        let drain_time = self.drain_time;
        for UsedScopes { id, .. } in scopes {
            let Some(entry) = self.scopes_entry(*id) else { continue };
            entry.users -= 1;
            if entry.users == 0 {
                let rest = if entry.is_heard { drain_time } else { std::time::Duration::ZERO };
                entry.forget_at = Some(turn.now + rest);
                self.deadlines.insert(turn.now + rest, Due::ForgetScopes(*id));
            }
        }
    }

    pub(crate) fn forget_scopes(&mut self, turn: &mut Turn<'_>, id: ScopeTableId) {
        let now = turn.now;
        let Some(slot) = self.scopes.get_mut(id.0 as usize) else { return };
        let is_over = |entry: &mut ScopesEntry| entry.forget_at.is_some_and(|at| at <= now);
        let Some(entry) = slot.take_if(is_over) else { return };
        if entry.is_heard {
            self.next.scope_tables.push((id, None));
        }
        let tables = entry.versions.values().filter_map(|version| match version.scope.routes {
            ScopeRoutes::Rds(id) => Some(UsedTable { id, stat_prefix: entry.stat_prefix.clone() }),
            ScopeRoutes::Inline(_) => None,
        });
        self.release_tables(turn, &tables.collect::<Vec<_>>());
        self.cx.scope_tables.release(id);
        if !self.scopes.iter().flatten().any(|other| other.source == entry.source) {
            self.out.push(Action::Unsubscribe(entry.source, ResourceType::ScopedRoute, Interest::Wildcard));
        }
    }

    /// Scopes have not come in time: their listeners serve without them, and requests get 404 until they come.
    pub(crate) fn scopes_are_due(&mut self, turn: &mut Turn<'_>, id: ScopeTableId) {
        let now = turn.now;
        let Some(entry) = self.scopes_entry(id) else { return };
        if entry.is_heard || entry.users == 0 || entry.give_up_at.is_none_or(|at| at > now) {
            return;
        }
        turn.stats.inc(entry.scope, scoped_rds::INIT_FETCH_TIMEOUT);
        let text = format!("srds: the scopes '{}' did not come in time", entry.name);
        self.log(Level::Warning, text);
        self.answer_scopes(turn, id);
    }

    /// A route table was answered: scopes that waited for it only are complete.
    pub(crate) fn settle_all_scopes(&mut self, turn: &mut Turn<'_>) {
        for id in self.scope_ids() {
            if self.scopes_entry(id).is_some_and(|entry| !entry.answered) {
                self.settle_scopes(turn, id);
            }
        }
    }

    fn settle_scopes(&mut self, turn: &mut Turn<'_>, id: ScopeTableId) {
        let Some(entry) = self.scopes.get(id.0 as usize).and_then(Option::as_ref) else { return };
        let is_here = |version: &ScopeVersion| match version.scope.routes {
            ScopeRoutes::Rds(id) => self.is_table_answered(id),
            ScopeRoutes::Inline(_) => true,
        };
        if entry.is_heard && entry.versions.values().all(is_here) {
            self.answer_scopes(turn, id);
        }
    }

    fn answer_scopes(&mut self, turn: &mut Turn<'_>, id: ScopeTableId) {
        let Some(entry) = self.scopes_entry(id) else { return };
        if !std::mem::replace(&mut entry.answered, true) {
            self.startup.done(&Wait::Scopes(id));
            self.activate_waiting(turn);
        }
    }

    pub(crate) fn are_scopes_answered(&self, id: ScopeTableId) -> bool {
        self.scopes.get(id.0 as usize).and_then(Option::as_ref).is_some_and(|entry| entry.answered)
    }

    /// Statistics scopes of the scopes that come from a source.
    pub(crate) fn scoped_stats(&self, source: SourceId) -> impl Iterator<Item = ScopeId> {
        self.scopes.iter().flatten().filter(move |entry| entry.source == source).map(|entry| entry.scope)
    }

    fn know_scopes(&mut self, used: &UsedScopes) {
        let at = used.id.0 as usize;
        if self.scopes.len() <= at {
            self.scopes.resize_with(at + 1, || None);
        }
        let Some(info) = self.cx.scope_tables.get(used.id).filter(|_| self.scopes[at].is_none()) else {
            return;
        };
        let resolved = |source, parent| if source == Sources::SAME_AS_PARENT { parent } else { source };
        let source = resolved(info.scopes.source, self.startup.listeners_source());
        let tables = Subscription { source: resolved(info.tables.source, source), ..info.tables };
        let name = format!("{}.scoped_rds.{}", used.stat_prefix, info.name);
        self.scopes[at] = Some(ScopesEntry {
            name: info.name.clone(),
            source,
            tables,
            stat_prefix: used.stat_prefix.clone(),
            scope: self.cx.registry.scope(ScopeKind::ScopedRds, &name),
            versions: Versions::new(),
            version: Arc::default(),
            updated: WallTime::default(),
            users: 0,
            is_heard: false,
            answered: false,
            give_up_at: None,
            forget_at: None,
        });
    }

    fn scopes_entry(&mut self, id: ScopeTableId) -> Option<&mut ScopesEntry> {
        self.scopes.get_mut(id.0 as usize)?.as_mut()
    }

    fn scope_ids(&self) -> impl Iterator<Item = ScopeTableId> + use<> {
        (0..self.scopes.len()).map(|at| ScopeTableId(u32::try_from(at).unwrap_or(u32::MAX)))
    }
}

/// The scopes in force once those that came have joined those that were kept.
fn joined(kept: Versions, came: Vec<(Arc<str>, ScopeVersion)>, rejected: &mut Vec<Rejected>) -> Versions {
    let mut all = kept.clone();
    all.extend(came.iter().cloned());
    let mut keys = BTreeSet::new();
    if all.values().all(|version| keys.insert(&version.scope.key)) {
        return all;
    }
    let owned = kept.iter().map(|(name, version)| (version.scope.key.clone(), name.clone()));
    let mut owners: BTreeMap<Vec<Arc<[u8]>>, Arc<str>> = owned.collect();
    let mut scopes = kept;
    for (name, version) in came {
        if let Some(owner) = owners.get(&version.scope.key).filter(|owner| **owner != name) {
            let reason =
                format!("scope key conflict found, first scope is '{owner}', second scope is '{name}'");
            rejected.push(Rejected { name, reason });
            continue;
        }
        owners.insert(version.scope.key.clone(), name.clone());
        if let Some(before) = scopes.insert(name, version.clone())
            && before.scope.key != version.scope.key
        {
            owners.remove(&before.scope.key);
        }
    }
    scopes
}

fn named(scope: Scope, name: &str) -> Result<Scope, String> {
    match *scope.name == *name {
        true => Ok(scope),
        false => Err(format!("name: '{}' came as the resource '{name}'", scope.name)),
    }
}

fn table_of(versions: &Versions) -> ScopeTable {
    ScopeTable::new(versions.values().map(|version| version.scope.clone()).collect())
}

fn resource_of(name: &Arc<str>, of: &ScopeVersion) -> Resource {
    Resource {
        name: name.clone(),
        version: of.stored.version.clone(),
        body: of.stored.body.bytes().into_owned().into(),
    }
}

fn count(turn: &mut Turn<'_>, scope: ScopeId, version: &str, is_good: bool, is_change: bool) {
    let (stats, milliseconds) = (&mut *turn.stats, turn.wall.0 / 1_000_000);
    stats.inc(scope, scoped_rds::UPDATE_ATTEMPT);
    if is_change {
        stats.inc(scope, scoped_rds::CONFIG_RELOAD);
        stats.gauge_set(scope, scoped_rds::CONFIG_RELOAD_TIME_MS, milliseconds);
    }
    if !is_good {
        return stats.inc(scope, scoped_rds::UPDATE_REJECTED);
    }
    stats.inc(scope, scoped_rds::UPDATE_SUCCESS);
    stats.gauge_set(scope, scoped_rds::UPDATE_TIME, milliseconds);
    stats.gauge_set(scope, scoped_rds::VERSION, gauges::version_hash(version));
}
