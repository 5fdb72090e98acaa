//! VHDS: virtual hosts that come on their own, for the route tables of RDS that ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_base::WallTime;
use millrace_config::{RouteConfiguration, RouteTableId, ScopeId, SourceId, VirtualHost};
use millrace_observe::stats::{ScopeKind, vhds};
use millrace_translate::resource::{self, RouteTable};

use crate::action::{Action, Level};
use crate::routes::{RouteEntry, entry_mut};
use crate::stored::Stored;
use crate::{Assembly, Turn, gauges};

/// One virtual host in force.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) stored: Stored,
    host: Arc<VirtualHost>,
}

/// By the names of their resources.
type Hosts = BTreeMap<Arc<str>, Host>;

/// The virtual hosts of one route table.
#[derive(Debug)]
pub(crate) struct VirtualHosts {
    source: SourceId,
    pub(crate) scope: ScopeId,
    /// The table without them.
    table: RouteTable,
    pub(crate) hosts: Hosts,
    /// The source has answered; until then there are none, or those of the source before it.
    pub(crate) is_heard: bool,
}

impl VirtualHosts {
    pub(crate) fn source(&self) -> SourceId {
        self.source
    }
}

/// All virtual hosts that a source has, whatever their tables: one subscription holds them all, so that those of a
/// table that comes later do not come again.
#[derive(Debug, Default)]
pub(crate) struct HostSource {
    /// By name; the last good ones.
    hosts: BTreeMap<Arc<str>, Stored>,
    is_heard: bool,
    /// Tables that ask for it.
    users: u32,
}

impl HostSource {
    fn of_table(&self, table: &str) -> impl Iterator<Item = (&Arc<str>, &Stored)> {
        self.hosts.iter().filter(move |(name, _)| belongs(name, table))
    }
}

/// The name of a virtual host is that of its table, a slash and one of its own.
fn belongs(host: &str, table: &str) -> bool {
    host.rsplit_once('/').is_some_and(|(of, _)| of == table)
}

/// What one response says about one table.
struct Part<'a> {
    changed: Vec<&'a Resource>,
    removed: Vec<&'a Arc<str>>,
    /// Something of it could not be read.
    is_broken: bool,
}

impl<'a> Part<'a> {
    fn of(table: &str, update: &'a Update) -> Self {
        Self {
            changed: update.changed.iter().filter(|resource| belongs(&resource.name, table)).collect(),
            removed: update.removed.iter().filter(|name| belongs(name, table)).collect(),
            is_broken: update.broken.iter().any(|broken| belongs(&broken.name, table)),
        }
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty() && !self.is_broken
    }
}

impl Assembly {
    pub(crate) fn update_virtual_hosts(&mut self, turn: &mut Turn<'_>, source: SourceId, update: Update) {
        let Some(known) = self.host_sources.get_mut(&source) else {
            return self.acks.now(source, update.id, update.broken, &mut self.out);
        };
        known.is_heard = true;
        let mut rejected = Vec::new();
        for id in (0..self.routes.len()).map(|at| RouteTableId(u32::try_from(at).unwrap_or(u32::MAX))) {
            let Some(entry) = entry_mut(&mut self.routes, id) else { continue };
            let Some(mut book) = entry.virtual_hosts.take_if(|book| book.source == source) else { continue };
            let part = Part::of(&entry.name, &update);
            // Whatever the first answer says, it says of every table what there is.
            if !part.is_empty() || !book.is_heard {
                let refused = rejected.len();
                let routes = self.apply_hosts(turn, &mut book, &part, &mut rejected);
                let is_good = rejected.len() == refused && !part.is_broken;
                count(turn, book.scope, &update.version, is_good, routes.is_some());
                if part.is_empty() {
                    turn.stats.inc(book.scope, vhds::UPDATE_EMPTY);
                }
                if let Some(routes) = routes {
                    self.next.route_tables.push((id, Some(Arc::new(routes))));
                    self.table_is_of(id, &update.version, turn.wall);
                }
            }
            if let Some(entry) = entry_mut(&mut self.routes, id) {
                entry.virtual_hosts = Some(book);
            }
            self.answer_table(turn, id);
        }
        // Tables of one name may share their hosts; each refusal is named once.
        let mut refused = BTreeSet::new();
        rejected.retain(|one: &Rejected| refused.insert(one.name.clone()));
        if let Some(known) = self.host_sources.get_mut(&source) {
            update.removed.iter().for_each(|name| {
                known.hosts.remove(name);
            });
            let good = update.changed.iter().filter(|resource| !refused.contains(&resource.name));
            known
                .hosts
                .extend(good.map(|resource| (resource.name.clone(), Stored::new(resource, turn.wall))));
        }
        let rejected = update.broken.into_iter().chain(rejected).collect();
        self.acks.now(source, update.id, rejected, &mut self.out);
    }

    /// The version that `config_dump` shows: Envoy's is that of the last change, be it of a virtual host.
    fn table_is_of(&mut self, id: RouteTableId, version: &Arc<str>, wall: WallTime) {
        if let Some(stored) = entry_mut(&mut self.routes, id).and_then(|entry| entry.stored.as_mut()) {
            (stored.version, stored.updated) = (version.clone(), wall);
        }
    }

    /// What the table becomes, if anything changes.
    fn apply_hosts(
        &mut self,
        turn: &Turn<'_>,
        book: &mut VirtualHosts,
        part: &Part<'_>,
        rejected: &mut Vec<Rejected>,
    ) -> Option<RouteConfiguration> {
        let is_first = !std::mem::replace(&mut book.is_heard, true);
        // Until the first answer, those of the source before it have served.
        let mut kept = if is_first { Hosts::new() } else { book.hosts.clone() };
        part.removed.iter().for_each(|name| {
            kept.remove(*name);
        });
        let mut came = Vec::with_capacity(part.changed.len());
        for resource in &part.changed {
            let translated = resource::virtual_host(&resource.body, &book.table, &mut self.cx);
            match self.taken(translated) {
                Ok(host) => {
                    let stored = Stored::new(resource, turn.wall);
                    came.push((resource.name.clone(), Host { stored, host: Arc::new(host) }));
                }
                Err(reason) => rejected.push(Rejected { name: resource.name.clone(), reason }),
            }
        }
        if came.is_empty() && kept.len() == book.hosts.len() {
            return None;
        }
        let (hosts, routes) = joined(&book.table, kept, came, rejected);
        book.hosts = hosts;
        routes
    }

    /// A table has come. The virtual hosts that it had go on under its rules; a source that is new is asked.
    ///
    /// # Errors
    /// A virtual host does not fit the table: nothing has changed then.
    pub(crate) fn join_hosts(
        &mut self,
        id: RouteTableId,
        table: RouteTable,
    ) -> Result<Arc<RouteConfiguration>, String> {
        let Some(entry) = entry_mut(&mut self.routes, id) else { return Ok(Arc::new(table.routes)) };
        let before = entry.hosts().map(|book| book.source);
        let Some(wanted) = table.vhds else {
            entry.virtual_hosts = None;
            self.leave_hosts(before);
            return Ok(Arc::new(table.routes));
        };
        let (source, is_same) = (wanted.source, before == Some(wanted.source));
        let (name, stat_prefix) = (entry.name.clone(), entry.stat_prefix.clone());
        let mut hosts = entry.hosts().map(|book| book.hosts.clone()).unwrap_or_default();
        let was_heard = entry.hosts().is_some_and(|book| book.is_heard);
        let known = self.host_sources.get(&source).filter(|known| known.is_heard && !is_same);
        let is_heard = known.is_some() || (is_same && was_heard);
        let mut came = Vec::new();
        if let Some(known) = known {
            hosts.clear();
            came.extend(known.of_table(&name).map(|(name, stored)| (name.clone(), stored.clone())));
        }
        for (name, host) in &mut hosts {
            let reason = |reason| format!("virtual host '{name}': {reason}");
            host.host = self.host(&host.stored, &table).map_err(reason)?;
        }
        let mut rejected = Vec::new();
        let mut good = Vec::with_capacity(came.len());
        for (name, stored) in came {
            match self.host(&stored, &table) {
                Ok(host) => good.push((name, Host { stored, host })),
                Err(reason) => rejected.push(Rejected { name, reason }),
            }
        }
        let (hosts, routes) = match good.is_empty() {
            true => with_hosts(&table, &hosts).map(|routes| (hosts, routes))?,
            false => {
                let (hosts, routes) = joined(&table, hosts, good, &mut rejected);
                (hosts, routes.unwrap_or_else(|| table.routes.clone()))
            }
        };
        // They were accepted when nobody asked for them.
        for Rejected { name, reason } in rejected {
            self.log(Level::Warning, format!("vhds: the virtual host '{name}' is left out: {reason}"));
        }
        let scope = self.cx.registry.scope(ScopeKind::Vhds, &format!("{stat_prefix}.rds.vhds.{name}"));
        if let Some(entry) = entry_mut(&mut self.routes, id) {
            entry.virtual_hosts = Some(Box::new(VirtualHosts { source, scope, table, hosts, is_heard }));
        }
        if !is_same {
            self.want_hosts(source);
            self.leave_hosts(before);
        }
        Ok(Arc::new(routes))
    }

    fn host(&mut self, stored: &Stored, table: &RouteTable) -> Result<Arc<VirtualHost>, String> {
        let translated = resource::virtual_host(&stored.body.bytes(), table, &mut self.cx);
        self.taken(translated).map(Arc::new)
    }

    fn want_hosts(&mut self, source: SourceId) {
        let known = self.host_sources.entry(source).or_default();
        known.users += 1;
        if known.users == 1 {
            self.out.push(Action::Subscribe(source, ResourceType::VirtualHost, Interest::Wildcard));
        }
    }

    /// A table has no virtual hosts of a source any more.
    pub(crate) fn leave_hosts(&mut self, source: Option<SourceId>) {
        let Some(source) = source else { return };
        let Some(known) = self.host_sources.get_mut(&source) else { return };
        known.users -= 1;
        if known.users == 0 {
            self.host_sources.remove(&source);
            self.out.push(Action::Unsubscribe(source, ResourceType::VirtualHost, Interest::Wildcard));
        }
    }

    /// Scopes of the virtual hosts that come from a source.
    pub(crate) fn virtual_host_scopes(&self, source: SourceId) -> impl Iterator<Item = ScopeId> {
        let books = self.routes.iter().flatten().filter_map(RouteEntry::hosts);
        books.filter(move |book| book.source == source).map(|book| book.scope)
    }
}

/// The hosts in force and their table, once those that came have joined those that were kept. Domains may move between
/// hosts of one response; when a domain remains that two of them want, each host is taken or refused on its own, in
/// the order of the response.
fn joined(
    table: &RouteTable,
    kept: Hosts,
    came: Vec<(Arc<str>, Host)>,
    rejected: &mut Vec<Rejected>,
) -> (Hosts, Option<RouteConfiguration>) {
    let mut all = kept.clone();
    all.extend(came.iter().cloned());
    if let Ok(routes) = with_hosts(table, &all) {
        return (all, Some(routes));
    }
    let mut hosts = kept;
    let own = table.routes.virtual_hosts.iter().map(|host| (None, host));
    let others = hosts.iter().map(|(name, host)| (Some(name.clone()), &host.host));
    let mut owners: BTreeMap<Arc<str>, Option<Arc<str>>> = own
        .chain(others)
        .flat_map(|(name, host)| host.domains.iter().map(move |domain| (domain.clone(), name.clone())))
        .collect();
    for (name, host) in came {
        let me = Some(name.clone());
        let is_taken = |domain: &&Arc<str>| owners.get(*domain).is_some_and(|owner| *owner != me);
        let mut seen = BTreeSet::new();
        let conflict = host.host.domains.iter().find(|domain| is_taken(domain) || !seen.insert(*domain));
        if let Some(domain) = conflict {
            rejected.push(Rejected { name, reason: table.duplicate(domain) });
            continue;
        }
        owners.retain(|_, owner| *owner != me);
        owners.extend(host.host.domains.iter().map(|domain| (domain.clone(), me.clone())));
        hosts.insert(name, host);
    }
    let routes = with_hosts(table, &hosts).ok();
    (hosts, routes)
}

fn with_hosts(table: &RouteTable, hosts: &Hosts) -> Result<RouteConfiguration, String> {
    table.with_hosts(hosts.values().map(|host| &host.host))
}

fn count(turn: &mut Turn<'_>, scope: ScopeId, version: &str, is_good: bool, is_change: bool) {
    let (stats, milliseconds) = (&mut *turn.stats, turn.wall.0 / 1_000_000);
    stats.inc(scope, vhds::UPDATE_ATTEMPT);
    if is_change {
        stats.inc(scope, vhds::CONFIG_RELOAD);
    }
    if !is_good {
        return stats.inc(scope, vhds::UPDATE_REJECTED);
    }
    stats.inc(scope, vhds::UPDATE_SUCCESS);
    stats.gauge_set(scope, vhds::UPDATE_TIME, milliseconds);
    stats.gauge_set(scope, vhds::VERSION, gauges::version_hash(version));
}
