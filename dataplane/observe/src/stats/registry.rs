//! Names of scopes, and the arrays of every thread. Locked on slow paths only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_config::ScopeId;

use super::metric::Group;
use super::scope::ScopeKind;
use super::shard::ShardStats;
use super::slots::ScopeSlots;

/// One scope. Its id is its position.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) kind: ScopeKind,
    pub(crate) name: Arc<str>,
    pub(crate) groups: u8,
    /// False once retired: hidden, and free again when every thread let go of it.
    pub(crate) live: bool,
}

/// One attached thread.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) label: String,
    pub(crate) slots: Vec<Option<Arc<ScopeSlots>>>,
    /// Retired scopes that it may still hold.
    to_sweep: Vec<ScopeId>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) scopes: Vec<Scope>,
    by_name: BTreeMap<(ScopeKind, Arc<str>), ScopeId>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) texts: BTreeMap<String, String>,
    free: Vec<ScopeId>,
}

/// Every scope and every thread that counts. Cheap to clone; shared by the control thread and the shards.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<State>>);

impl Registry {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The scope of this kind and name; the same id for the same name.
    pub fn scope(&self, kind: ScopeKind, name: &str) -> ScopeId {
        let mut state = self.lock();
        let key = (kind, Arc::from(name));
        if let Some(id) = state.by_name.get(&key) {
            return *id;
        }
        let id = state.add(kind, Arc::clone(&key.1));
        state.by_name.insert(key, id);
        id
    }

    /// A new scope for one endpoint.
    pub fn host_scope(&self) -> ScopeId {
        self.lock().add(ScopeKind::Host, Arc::from(""))
    }

    /// Makes a group of metrics of a scope exist.
    pub fn enable(&self, scope: ScopeId, group: Group) {
        if let Some(scope) = self.lock().scopes.get_mut(scope.0 as usize) {
            scope.groups |= group.bit();
        }
    }

    /// Hides a scope and frees its id once every thread has swept. Call it only when no snapshot that
    /// names the scope is alive any more.
    pub fn retire(&self, scope: ScopeId) {
        self.lock().retire(scope);
    }

    /// A thread that will count: `worker_<n>` for shards, `main_thread` for the control thread.
    pub fn attach_shard(&self, label: &str) -> ShardStats {
        let mut state = self.lock();
        let thread = Thread { label: label.to_owned(), slots: Vec::new(), to_sweep: Vec::new() };
        state.threads.push(thread);
        ShardStats::new(self.clone(), state.threads.len() - 1)
    }

    /// Sets a text readout; an empty text is printed as such.
    pub fn set_text(&self, name: &str, text: &str) {
        self.lock().texts.insert(name.to_owned(), text.to_owned());
    }

    pub(crate) fn inflate(&self, shard: usize, scope: ScopeId) -> Option<Arc<ScopeSlots>> {
        let mut state = self.lock();
        let at = scope.0 as usize;
        let table = state.scopes.get(at)?.kind.table();
        let thread = state.threads.get_mut(shard)?;
        if thread.slots.len() <= at {
            thread.slots.resize(at + 1, None);
        }
        Some(Arc::clone(thread.slots[at].get_or_insert_with(|| Arc::new(ScopeSlots::new(table)))))
    }

    pub(crate) fn retired_for(&self, shard: usize) -> Vec<ScopeId> {
        self.lock().sweep(shard)
    }
}

impl State {
    fn add(&mut self, kind: ScopeKind, name: Arc<str>) -> ScopeId {
        let scope = Scope { kind, name, groups: Group::Always.bit() | Group::OnUse.bit(), live: true };
        match self.free.pop() {
            Some(id) => {
                self.scopes[id.0 as usize] = scope;
                id
            }
            None => {
                self.scopes.push(scope);
                ScopeId(self.scopes.len() as u32 - 1)
            }
        }
    }

    fn retire(&mut self, id: ScopeId) {
        let Some(scope) = self.scopes.get_mut(id.0 as usize).filter(|s| s.live) else { return };
        scope.live = false;
        self.by_name.remove(&(scope.kind, Arc::clone(&scope.name)));
        for thread in &mut self.threads {
            thread.to_sweep.push(id);
        }
        if self.threads.is_empty() {
            self.free.push(id);
        }
    }

    fn sweep(&mut self, shard: usize) -> Vec<ScopeId> {
        let Some(thread) = self.threads.get_mut(shard) else { return Vec::new() };
        let gone = std::mem::take(&mut thread.to_sweep);
        for id in &gone {
            if let Some(slot) = thread.slots.get_mut(id.0 as usize) {
                *slot = None;
            }
        }
        for id in &gone {
            if self.threads.iter().all(|t| !t.to_sweep.contains(id)) {
                self.free.push(*id);
            }
        }
        gone
    }
}
