//! The resources that a control plane has, with their versions.

use std::collections::{BTreeMap, BTreeSet};

use super::resource::{Resource, Type};

/// All resources of one kind.
#[derive(Debug, Default)]
pub(super) struct Kind {
    /// By name, each with its version.
    pub resources: BTreeMap<String, (Resource, String)>,
    /// `version_info` and `system_version_info`.
    pub version: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Store {
    kinds: BTreeMap<Type, Kind>,
    counter: u64,
}

impl Store {
    /// The resources of a kind; empty at version "0" when nothing was ever set.
    pub fn kind(&self, ty: Type) -> Option<&Kind> {
        self.kinds.get(&ty)
    }

    pub fn version(&self, ty: Type) -> String {
        self.kind(ty).map_or_else(|| "0".into(), |kind| kind.version.clone())
    }

    /// Gives a kind a new version without changing a resource.
    pub fn touch(&mut self, ty: Type) {
        self.counter += 1;
        self.kinds.entry(ty).or_default().version = self.counter.to_string();
    }
}

/// Changes that are sent together.
pub struct Change<'a> {
    store: &'a mut Store,
    touched: BTreeSet<Type>,
    versions: BTreeMap<Type, String>,
}

impl<'a> Change<'a> {
    pub(super) fn new(store: &'a mut Store) -> Self {
        store.counter += 1;
        Self { store, touched: BTreeSet::new(), versions: BTreeMap::new() }
    }

    fn kind(&mut self, ty: Type) -> &mut Kind {
        self.touched.insert(ty);
        self.store.kinds.entry(ty).or_default()
    }

    /// Adds or replaces a resource. One whose bytes are the same keeps its counted version.
    pub fn set(&mut self, resource: Resource) -> &mut Self {
        let counted = self.store.counter.to_string();
        let kind = self.kind(resource.ty);
        let same = kind.resources.get(&resource.name).filter(|(old, _)| *old == resource);
        let version = match (&resource.version, same) {
            (Some(version), _) => version.clone(),
            (None, Some((_, version))) => version.clone(),
            (None, None) => counted,
        };
        kind.resources.insert(resource.name.clone(), (resource, version));
        self
    }

    /// Takes a resource away.
    pub fn remove(&mut self, ty: Type, name: &str) -> &mut Self {
        self.kind(ty).resources.remove(name);
        self
    }

    /// Takes all resources of a kind away.
    pub fn clear(&mut self, ty: Type) -> &mut Self {
        self.kind(ty).resources.clear();
        self
    }

    /// The version of the whole kind, instead of a counted one.
    pub fn version(&mut self, ty: Type, version: &str) -> &mut Self {
        self.kind(ty);
        self.versions.insert(ty, version.into());
        self
    }

    pub(super) fn finish(self) -> BTreeSet<Type> {
        for ty in &self.touched {
            let counted = self.store.counter.to_string();
            let version = self.versions.get(ty).cloned().unwrap_or(counted);
            self.store.kinds.entry(*ty).or_default().version = version;
        }
        self.touched
    }
}
