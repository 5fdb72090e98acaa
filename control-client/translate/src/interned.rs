//! Small numbers for names that come and go with configuration: clusters, sources of configuration, route tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_ads::source::ConfigSource;
use millrace_config::{ClusterId, RouteTableId, ScopeTableId, SourceId};

use crate::source::Subscription;

/// The ids of cluster names. An id is never given to another name.
#[derive(Clone, Debug, Default)]
pub struct ClusterIds(BTreeMap<Arc<str>, ClusterId>);

impl ClusterIds {
    /// The id of `name`, new when the name is.
    pub fn intern(&mut self, name: &str) -> ClusterId {
        if let Some(id) = self.0.get(name) {
            return *id;
        }
        let id = ClusterId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.insert(name.into(), id);
        id
    }

    /// As [`Self::intern`]; a new name is kept as it is, without a copy.
    pub fn intern_shared(&mut self, name: &Arc<str>) -> ClusterId {
        let next = ClusterId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        *self.0.entry(Arc::clone(name)).or_insert(next)
    }

    /// The one copy of a known name.
    pub fn shared(&self, name: &str) -> Option<Arc<str>> {
        self.0.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }

    /// The id of a known name.
    pub fn get(&self, name: &str) -> Option<ClusterId> {
        self.0.get(name).copied()
    }

    /// Names and ids, by name.
    pub fn names(&self) -> &BTreeMap<Arc<str>, ClusterId> {
        &self.0
    }
}

/// The places that configuration comes from. Equal sources have one id, which is never given to another.
#[derive(Clone, Debug)]
pub struct Sources(Vec<ConfigSource>);

impl Sources {
    /// `ads: {}`; [`Dynamic::ads`](crate::Dynamic::ads) says how it is reached.
    pub const ADS: SourceId = SourceId(0);
    /// `self: {}`: the source of the resource that holds the reference.
    pub const SAME_AS_PARENT: SourceId = SourceId(1);
    /// Most sources of one process; a control plane cannot make us open more connections.
    pub const MAX: usize = 256;

    /// The id of a source, new when the source is; `None` when there are too many.
    pub(crate) fn intern(&mut self, source: ConfigSource) -> Option<SourceId> {
        let at = self.0.iter().position(|known| *known == source).unwrap_or_else(|| {
            self.0.push(source);
            self.0.len() - 1
        });
        if at >= Self::MAX {
            self.0.truncate(Self::MAX);
            return None;
        }
        u32::try_from(at).ok().map(SourceId)
    }

    /// The source of this id.
    pub fn get(&self, id: SourceId) -> Option<&ConfigSource> {
        self.0.get(id.0 as usize)
    }

    /// All of them with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &ConfigSource)> {
        (0..).map(SourceId).zip(&self.0)
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self(vec![ConfigSource::Ads, ConfigSource::SameAsParent])
    }
}

/// A route table that comes over RDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTableInfo {
    /// `rds.route_config_name`.
    pub name: Arc<str>,
    /// `rds.config_source`.
    pub source: SourceId,
    /// `config_source.initial_fetch_timeout`, default 15 s; `None` (0 s) waits for ever. Of several connection
    /// managers that name the table the one that was translated last counts.
    pub initial_fetch_timeout: Option<Duration>,
}

/// The route tables that connection managers name. An id is given to another table only after its release.
#[derive(Clone, Debug, Default)]
pub struct RouteTables {
    all: Vec<RouteTableInfo>,
    by_key: BTreeMap<(Arc<str>, SourceId), RouteTableId>,
    free: Vec<RouteTableId>,
}

impl RouteTables {
    /// The id of the table of this name from this source.
    pub(crate) fn intern(&mut self, table: RouteTableInfo) -> RouteTableId {
        let key = (Arc::clone(&table.name), table.source);
        if let Some(id) = self.by_key.get(&key) {
            if let Some(known) = self.all.get_mut(id.0 as usize) {
                *known = table;
            }
            return *id;
        }
        let id = match self.free.pop() {
            Some(id) => {
                self.all[id.0 as usize] = table;
                id
            }
            None => {
                self.all.push(table);
                RouteTableId(u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.by_key.insert(key, id);
        id
    }

    /// Nothing names the table any more: no listener that is in force, waits or drains. Its id may come back for
    /// another table. A table that is not known is no error.
    pub fn release(&mut self, id: RouteTableId) {
        let key = self.all.get(id.0 as usize).map(|table| (Arc::clone(&table.name), table.source));
        if let Some(key) = key.filter(|key| self.by_key.get(key) == Some(&id)) {
            self.by_key.remove(&key);
            self.free.push(id);
        }
    }

    /// What is known of the table of this id.
    pub fn get(&self, id: RouteTableId) -> Option<&RouteTableInfo> {
        self.all.get(id.0 as usize).filter(|_| !self.free.contains(&id))
    }

    /// The id of a table that some connection manager named.
    pub fn find(&self, name: &str, source: SourceId) -> Option<RouteTableId> {
        self.by_key.get(&(Arc::from(name), source)).copied()
    }

    /// All of them with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (RouteTableId, &RouteTableInfo)> {
        self.by_key.values().filter_map(|id| Some((*id, self.all.get(id.0 as usize)?)))
    }
}

/// The scopes of a connection manager that come over SRDS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopeTableInfo {
    /// `scoped_routes.name`.
    pub name: Arc<str>,
    /// `scoped_rds.scoped_rds_config_source`.
    pub scopes: Subscription,
    /// `rds_config_source`: where the tables come from that scopes name.
    pub tables: Subscription,
}

/// The scopes that connection managers name. An id is given to others only after its release.
#[derive(Clone, Debug, Default)]
pub struct ScopeTables {
    all: Vec<Option<ScopeTableInfo>>,
    by_info: BTreeMap<ScopeTableInfo, ScopeTableId>,
    free: Vec<ScopeTableId>,
}

impl ScopeTables {
    /// The id of these scopes, new when they are.
    pub(crate) fn intern(&mut self, info: ScopeTableInfo) -> ScopeTableId {
        if let Some(id) = self.by_info.get(&info) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            ScopeTableId(u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX))
        });
        self.by_info.insert(info.clone(), id);
        self.all[id.0 as usize] = Some(info);
        id
    }

    /// Nothing names the scopes any more. Those that are not known are no error.
    pub fn release(&mut self, id: ScopeTableId) {
        if let Some(info) = self.all.get_mut(id.0 as usize).and_then(Option::take) {
            self.by_info.remove(&info);
            self.free.push(id);
        }
    }

    /// What is known of the scopes of this id.
    pub fn get(&self, id: ScopeTableId) -> Option<&ScopeTableInfo> {
        self.all.get(id.0 as usize)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_things_have_one_id() {
        let mut sources = Sources::default();
        assert_eq!(sources.intern(ConfigSource::Ads), Some(Sources::ADS));
        assert_eq!(sources.intern(ConfigSource::SameAsParent), Some(Sources::SAME_AS_PARENT));
        let path = |name: &str| {
            ConfigSource::Path(millrace_ads::source::PathSource {
                path: name.into(),
                watched_directory: None,
            })
        };
        let first = sources.intern(path("a")).unwrap();
        assert_eq!(sources.intern(path("b")), Some(SourceId(first.0 + 1)));
        assert_eq!(sources.intern(path("a")), Some(first));
        for i in 0..2 * Sources::MAX {
            let _ = sources.intern(path(&i.to_string()));
        }
        assert_eq!((sources.iter().count(), sources.intern(path("one more"))), (Sources::MAX, None));
        assert_eq!(sources.get(first), Some(&path("a")));
    }

    #[test]
    fn scopes_are_all_that_was_written() {
        let mut tables = ScopeTables::default();
        let subscription = |source| Subscription { source, initial_fetch_timeout: None };
        let info = |name: &str, source| ScopeTableInfo {
            name: name.into(),
            scopes: subscription(Sources::ADS),
            tables: subscription(source),
        };
        let first = tables.intern(info("a", SourceId(7)));
        let second = tables.intern(info("a", SourceId(8)));
        assert_eq!((tables.intern(info("a", SourceId(7))), first == second), (first, false));
        tables.release(first);
        assert_eq!(tables.get(first), None);
        assert_eq!(tables.intern(info("b", SourceId(7))), first);
        assert_eq!(tables.get(second), Some(&info("a", SourceId(8))));
    }

    #[test]
    fn a_table_is_its_name_and_its_source() {
        let mut tables = RouteTables::default();
        let table = |source, seconds| RouteTableInfo {
            name: "r".into(),
            source,
            initial_fetch_timeout: Some(Duration::from_secs(seconds)),
        };
        let first = tables.intern(table(Sources::ADS, 1));
        let second = tables.intern(table(SourceId(7), 1));
        assert_eq!((tables.intern(table(Sources::ADS, 2)), first == second), (first, false));
        assert_eq!(tables.get(first).unwrap().initial_fetch_timeout, Some(Duration::from_secs(2)));
        assert_eq!((tables.find("r", SourceId(7)), tables.find("x", SourceId(7))), (Some(second), None));
        assert_eq!(tables.iter().count(), 2);
        tables.release(first);
        tables.release(first);
        assert_eq!(
            (tables.get(first), tables.find("r", Sources::ADS), tables.iter().count()),
            (None, None, 1)
        );
        let other = tables.intern(RouteTableInfo { name: "s".into(), ..table(Sources::ADS, 1) });
        assert_eq!((other, tables.intern(table(Sources::ADS, 1)) == first), (first, false));
    }
}
