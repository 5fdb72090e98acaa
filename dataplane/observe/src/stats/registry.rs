//! Names of scopes, and the arrays of every thread. Locked on slow paths only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_config::ScopeId;

use super::cluster_scopes::ClusterScopes;
use super::codes::CodeFamily;
use super::control::ControlStats;
use super::histogram::Merged;
use super::metric::{Counter, Gauge, Group, ValueType};
use super::render::{StatsMatcher, TagRules};
use super::scope::ScopeKind;
use super::shard::ShardStats;
use super::slots::ScopeSlots;

/// One scope. Its id is its position.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) kind: ScopeKind,
    pub(crate) name: Arc<str>,
    pub(crate) groups: u16,
    /// False once retired: hidden, and free again when every thread let go of it.
    pub(crate) live: bool,
    /// Most scopes have none of it, and there may be a hundred thousand.
    pub(crate) marks: Option<Box<Marks>>,
}

/// What a scope once counted.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Counter values at the last `reset_counters`, by position; empty before.
    pub(crate) baseline: Vec<u64>,
    /// Codes at the last `reset_counters`.
    pub(crate) code_baseline: Vec<((CodeFamily, u16), u64)>,
    /// Histograms at the last flush and what came in the interval before it, by position.
    pub(crate) flushed: Vec<(Merged, Merged)>,
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
    pub(crate) by_name: BTreeMap<(ScopeKind, Arc<str>), ScopeId>,
    pub(crate) threads: Vec<Thread>,
    /// What the control thread counts, by scope: few values of many scopes, so no array.
    control: HashMap<u32, Vec<(u16, u64)>>,
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) matcher: StatsMatcher,
    pub(crate) tags: TagRules,
    free: Vec<ScopeId>,
    pub(crate) beside: ClusterScopes,
}

/// What [`Registry::tls_scopes`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsScopes {
    /// `ssl.`: `ListenerSsl` or `ClusterSsl`, table [`super::ssl`].
    pub ssl: ScopeId,
    /// `server_ssl_socket_factory.` or `client_ssl_socket_factory.`, table [`super::ssl_secrets`].
    pub secrets: ScopeId,
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

    /// The scope of this kind and name; the same id for the same name. As in Envoy, `://`, `:/` and `:` of
    /// the name are printed as `_`.
    pub fn scope(&self, kind: ScopeKind, name: &str) -> ScopeId {
        self.lock().named((kind, printable(name)))
    }

    /// As [`Self::scope`]; the registry keeps `name` itself if it can be printed.
    pub fn scope_of(&self, kind: ScopeKind, name: &Arc<str>) -> ScopeId {
        match is_printable(name) {
            true => self.lock().named((kind, Arc::clone(name))),
            false => self.scope(kind, name),
        }
    }

    /// A new scope for one endpoint.
    pub fn host_scope(&self) -> ScopeId {
        self.lock().add(ScopeKind::Host, Arc::default())
    }

    /// Makes a group of metrics of a scope exist: `HealthCheck`, `OutlierDetection`, `Http2`. The others follow
    /// from the scope itself.
    pub fn enable(&self, scope: ScopeId, group: Group) {
        if let Some(scope) = self.lock().scopes.get_mut(scope.0 as usize) {
            scope.groups |= group.bit();
        }
    }

    /// The scopes of TLS beside a listener's or cluster's own; they exist from the first call on and are retired with
    /// it. `None` for other scopes.
    pub fn tls_scopes(&self, of: ScopeId) -> Option<TlsScopes> {
        let mut state = self.lock();
        let [ssl, secrets] = state.tls_names(of)?;
        Some(TlsScopes { ssl: state.named(ssl), secrets: state.named(secrets) })
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

    /// The control thread's own counters.
    pub fn attach_control(&self) -> ControlStats {
        ControlStats::new(self.clone())
    }

    /// Sets a text readout; an empty text is printed as such.
    pub fn set_text(&self, name: &str, text: &str) {
        self.lock().texts.insert(name.to_owned(), text.to_owned());
    }

    /// Removes a text readout.
    pub fn remove_text(&self, name: &str) {
        self.lock().texts.remove(name);
    }

    /// `stats_config.stats_matcher`: which statistics are printed.
    pub fn set_matcher(&self, matcher: StatsMatcher) {
        self.lock().matcher = matcher;
    }

    /// `stats_config.stats_tags` and `use_all_default_tags`.
    pub fn set_tags(&self, tags: TagRules) {
        self.lock().tags = tags;
    }

    /// `/reset_counters`: counters print as zero from here on; gauges and histograms stay.
    pub fn reset_counters(&self) {
        let mut state = self.lock();
        for at in 0..state.scopes.len() {
            let table = state.scopes[at].kind.table();
            let counter = |v: usize| matches!(table.values[v].ty, ValueType::Counter);
            let values = (0..table.values.len()).map(|v| if counter(v) { state.raw_sum(at, v) } else { 0 });
            let baseline: Vec<u64> = values.collect();
            let codes = state.code_sums(at);
            let scope = &mut state.scopes[at];
            if scope.marks.is_some() || !codes.is_empty() || baseline.iter().any(|value| *value != 0) {
                let marks = scope.marks.get_or_insert_default();
                marks.baseline = baseline;
                marks.code_baseline = codes;
            }
        }
    }

    /// Ends a histogram interval; call it every `stats_flush_interval` (5 s by default).
    pub fn flush_histograms(&self) {
        let mut state = self.lock();
        for at in 0..state.scopes.len() {
            let histograms = state.scopes[at].kind.table().histograms.len();
            // The control thread measures nothing.
            if histograms == 0 || state.slots(at).next().is_none() {
                continue;
            }
            let flushed = (0..histograms)
                .map(|h| {
                    let total = state.merged(at, h);
                    let marks = state.scopes[at].marks.as_deref();
                    let before = marks.and_then(|marks| marks.flushed.get(h));
                    let interval = before.map_or_else(|| total.clone(), |(before, _)| total.since(before));
                    (total, interval)
                })
                .collect();
            state.scopes[at].marks.get_or_insert_default().flushed = flushed;
        }
    }

    /// A counter summed over threads.
    pub fn counter(&self, scope: ScopeId, metric: Counter) -> u64 {
        self.lock().counter_value(scope.0 as usize, metric.0 as usize)
    }

    /// Counters of one scope summed over threads, as counted since the start: `reset_counters` does not show. Who
    /// forms differences must read them so.
    pub fn counters_since_start<const N: usize>(&self, scope: ScopeId, metrics: [Counter; N]) -> [u64; N] {
        let state = self.lock();
        metrics.map(|metric| state.raw_sum(scope.0 as usize, metric.0 as usize))
    }

    /// A gauge summed over threads; what is below zero reads as zero.
    pub fn gauge(&self, scope: ScopeId, metric: Gauge) -> u64 {
        self.lock().gauge_value(scope.0 as usize, metric.0 as usize).0
    }

    pub(crate) fn inflate(&self, shard: usize, scope: ScopeId) -> Option<Arc<ScopeSlots>> {
        self.lock().inflate(shard, scope)
    }

    pub(crate) fn retired_for(&self, shard: usize) -> Vec<ScopeId> {
        self.lock().sweep(shard)
    }
}

/// Reading. `scope` is a position in `scopes`.
impl State {
    fn slots(&self, scope: usize) -> impl Iterator<Item = &ScopeSlots> {
        self.threads.iter().filter_map(move |thread| thread.slots.get(scope)?.as_deref())
    }

    fn control_raw(&self, scope: usize, value: usize) -> u64 {
        let values = self.control.get(&(scope as u32)).map(|values| &values[..]).unwrap_or_default();
        values.iter().find(|(at, _)| *at as usize == value).map_or(0, |(_, raw)| *raw)
    }

    pub(crate) fn change_control(&mut self, scope: ScopeId, value: u16, change: impl FnOnce(u64) -> u64) {
        if self.scopes.get(scope.0 as usize).is_none_or(|scope| !scope.live) {
            return;
        }
        let values = self.control.entry(scope.0).or_default();
        match values.iter_mut().find(|(at, _)| *at == value) {
            Some((_, raw)) => *raw = change(*raw),
            None => {
                // Few values for each of many scopes: no room is left over.
                values.reserve_exact(1);
                values.push((value, change(0)));
            }
        }
    }

    /// Counters as counted since the start, over all threads.
    pub(crate) fn raw_sum(&self, scope: usize, value: usize) -> u64 {
        let control = self.control_raw(scope, value);
        self.slots(scope).map(|slots| slots.raw(value)).fold(control, u64::wrapping_add)
    }

    pub(crate) fn counter_value(&self, scope: usize, value: usize) -> u64 {
        let marks = self.scopes.get(scope).and_then(|scope| scope.marks.as_deref());
        let base = marks.and_then(|marks| marks.baseline.get(value)).copied().unwrap_or(0);
        self.raw_sum(scope, value).saturating_sub(base)
    }

    /// The sum and whether any thread ever wrote it.
    pub(crate) fn gauge_value(&self, scope: usize, value: usize) -> (u64, bool) {
        let raw = self.slots(scope).map(|slots| slots.raw(value));
        let raw = raw.chain([self.control_raw(scope, value)]).filter(|raw| *raw != 0);
        let (sum, used) =
            raw.fold((0i64, false), |(sum, _), raw| (sum.wrapping_add((raw as i64) >> 1), true));
        (sum.max(0) as u64, used)
    }

    /// One thread's raw value.
    pub(crate) fn thread_raw(&self, scope: usize, thread: usize, value: usize) -> u64 {
        let slots = self.threads.get(thread).and_then(|t| t.slots.get(scope)?.as_deref());
        slots.map_or(0, |slots| slots.raw(value))
    }

    pub(crate) fn merged(&self, scope: usize, histogram: usize) -> Merged {
        let mut merged = Merged::default();
        for slots in self.slots(scope).filter_map(|slots| slots.histogram(histogram)) {
            merged.add(slots);
        }
        merged
    }

    /// Codes over all threads since the start, sorted.
    pub(crate) fn code_sums(&self, scope: usize) -> Vec<((CodeFamily, u16), u64)> {
        let mut sums = BTreeMap::new();
        for slots in self.slots(scope) {
            slots.codes.for_each(|family, code, count| *sums.entry((family, code)).or_insert(0) += count);
        }
        sums.into_iter().collect()
    }
}

/// What would end a metric's name, or a line.
const UNPRINTABLE: [char; 4] = [':', '\0', '\n', '\r'];

/// The name as it is printed.
pub(crate) fn printable(name: &str) -> Arc<str> {
    match is_printable(name) {
        true => Arc::from(name),
        false => Arc::from(name.replace("://", "_").replace(":/", "_").replace(UNPRINTABLE, "_")),
    }
}

fn is_printable(name: &str) -> bool {
    !name.contains(UNPRINTABLE)
}

impl State {
    /// A thread's own array of a scope, made if it has none yet; `None` for a scope that is retired.
    pub(crate) fn inflate(&mut self, shard: usize, scope: ScopeId) -> Option<Arc<ScopeSlots>> {
        let at = scope.0 as usize;
        let table = self.scopes.get(at).filter(|scope| scope.live)?.kind.table();
        let thread = self.threads.get_mut(shard)?;
        if thread.slots.len() <= at {
            thread.slots.resize(at + 1, None);
        }
        Some(Arc::clone(thread.slots[at].get_or_insert_with(|| Arc::new(ScopeSlots::new(table)))))
    }

    pub(crate) fn named(&mut self, key: (ScopeKind, Arc<str>)) -> ScopeId {
        if let Some(id) = self.by_name.get(&key) {
            return *id;
        }
        let id = self.add(key.0, Arc::clone(&key.1));
        self.by_name.insert(key, id);
        id
    }

    fn add(&mut self, kind: ScopeKind, name: Arc<str>) -> ScopeId {
        let own = Group::Always.bit() | Group::OnUse.bit();
        let groups = match (kind, &*name) {
            (ScopeKind::Http, "async-client") => Group::Router.bit(),
            (_, "admin") => own,
            _ => own | Group::Router.bit() | Group::Tracing.bit() | Group::Extensions.bit(),
        };
        let scope = Scope { kind, name, groups, live: true, marks: None };
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

    /// Kinds and names of what [`Registry::tls_scopes`] gives.
    fn tls_names(&self, of: ScopeId) -> Option<[(ScopeKind, Arc<str>); 2]> {
        let scope = self.scopes.get(of.0 as usize).filter(|scope| scope.live)?;
        let (ssl, secrets, factory) = match scope.kind {
            ScopeKind::Listener => (ScopeKind::ListenerSsl, ScopeKind::ListenerSecrets, "server"),
            ScopeKind::Cluster => (ScopeKind::ClusterSsl, ScopeKind::ClusterSecrets, "client"),
            _ => return None,
        };
        let name = &scope.name;
        Some([
            (ssl, format!("{name}.ssl").into()),
            (secrets, format!("{name}.{factory}_ssl_socket_factory").into()),
        ])
    }

    fn retire(&mut self, id: ScopeId) {
        let beside = self.tls_names(id).into_iter().flatten();
        let beside: Vec<ScopeId> = beside.filter_map(|key| self.by_name.get(&key).copied()).collect();
        beside.into_iter().for_each(|scope| self.retire(scope));
        let Some(scope) = self.scopes.get_mut(id.0 as usize).filter(|s| s.live) else { return };
        scope.live = false;
        let of_cluster = self.beside.forget(id);
        self.control.remove(&id.0);
        self.by_name.remove(&(scope.kind, Arc::clone(&scope.name)));
        // Who never counted in it has nothing to let go of, and cannot begin to any more.
        let mut held = false;
        for thread in &mut self.threads {
            if thread.slots.get(id.0 as usize).is_some_and(Option::is_some) {
                thread.to_sweep.push(id);
                held = true;
            }
        }
        if !held {
            self.free.push(id);
        }
        of_cluster.into_iter().for_each(|scope| self.retire(scope));
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
