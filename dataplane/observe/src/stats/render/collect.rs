//! What there is to print, in the order of names.

use super::super::codes::{CodeFamily, UNKNOWN_CODE, UNNAMED_CODE};
use super::super::histogram::Merged;
use super::super::metric::{Group, Spread, ValueType};
use super::super::registry::State;
use super::super::scope::ScopeKind;
use super::select::{Selection, StatType};

/// One printable thing of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Value(u16),
    /// One thread's part of a value.
    ThreadValue {
        value: u16,
        thread: u16,
    },
    Code(CodeFamily, u16),
    /// `<n>xx`.
    Class(CodeFamily, u8),
    Completed(CodeFamily),
    Histogram(u16),
}

/// Counters and gauges or histograms: text and JSON print the latter behind the former.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Numbers,
    Histograms,
}

/// Scopes in order of their names' beginnings, and the items of one group at a time.
pub(super) struct Collector<'s> {
    pub(super) state: &'s State,
    pub(super) selection: &'s Selection<'s>,
}

/// One line to be.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) scope: usize,
    pub(super) item: Item,
}

impl<'s> Collector<'s> {
    /// Calls `each` for everything wanted, sorted by name; stops when it returns false.
    pub(super) fn each(&self, pass: Pass, mut each: impl FnMut(&Found) -> bool) -> bool {
        let mut scopes: Vec<(String, usize)> = Vec::new();
        let live = self.state.scopes.iter().enumerate().filter(|(_, s)| s.live && s.kind != ScopeKind::Host);
        for (at, scope) in live {
            scopes.push((scope_prefix(scope.kind, &scope.name), at));
        }
        scopes.sort();
        let mut group: Vec<Found> = Vec::new();
        // Scopes without a prefix lie between all the others; their few rows are merged in first.
        let loose = scopes.iter().take_while(|(prefix, _)| prefix.is_empty()).count();
        let mut rows: Vec<Found> = Vec::new();
        for (prefix, scope) in &scopes[..loose] {
            self.items(prefix, *scope, pass, &mut rows);
        }
        rows.sort_by(|a, b| b.name.cmp(&a.name));
        let rest = &scopes[loose..];
        let mut at = 0;
        while at < rest.len() {
            let root = rest[at].0.as_str();
            let end = at + rest[at..].iter().take_while(|(prefix, _)| prefix.starts_with(root)).count();
            let next = rest.get(end).map(|(prefix, _)| prefix.as_str());
            for (prefix, scope) in &rest[at..end] {
                self.items(prefix, *scope, pass, &mut group);
            }
            while rows.last().is_some_and(|row| next.is_none_or(|next| row.name.as_str() < next)) {
                group.extend(rows.pop());
            }
            group.sort_by(|a, b| a.name.cmp(&b.name));
            if !group.iter().all(&mut each) {
                return false;
            }
            group.clear();
            at = end;
        }
        rows.reverse();
        rows.iter().all(each)
    }

    /// Appends the wanted items of one scope.
    fn items(&self, prefix: &str, scope: usize, pass: Pass, out: &mut Vec<Found>) {
        let groups = self.state.scopes[scope].groups;
        let table = self.state.scopes[scope].kind.table();
        let mut push = |item: Item, used: bool| {
            if used || !self.selection.used_only {
                let name = self.name(prefix, scope, item);
                if (self.selection.wants)(&name) && self.state.matcher.accepts(&name) {
                    out.push(Found { name, scope, item });
                }
            }
        };
        if pass == Pass::Histograms {
            for (i, def) in table.histograms.iter().enumerate().filter(|(_, d)| groups & d.group.bit() != 0) {
                let used = !self.state.merged(scope, i).0.is_empty();
                if used || def.group != Group::OnUse {
                    push(Item::Histogram(i as u16), used);
                }
            }
            return;
        }
        for (i, def) in table.values.iter().enumerate().filter(|(_, d)| groups & d.group.bit() != 0) {
            let ty = match def.ty {
                ValueType::Counter => StatType::Counters,
                ValueType::Gauge => StatType::Gauges,
            };
            if !self.selection.wants_type(ty) {
                continue;
            }
            let used = self.used(scope, i, def.ty);
            if def.spread != Spread::Threads && (used || def.group != Group::OnUse) {
                push(Item::Value(i as u16), used);
            }
            if def.spread != Spread::Sum {
                for thread in (0..self.state.threads.len()).filter(|t| self.serves(*t, scope)) {
                    let used = self.state.thread_raw(scope, thread, i) != 0;
                    push(Item::ThreadValue { value: i as u16, thread: thread as u16 }, used);
                }
            }
        }
        if self.selection.wants_type(StatType::Counters) {
            self.codes(scope, &mut push);
        }
    }

    /// The main thread serves the admin listener and no other; workers the reverse.
    fn serves(&self, thread: usize, scope: usize) -> bool {
        let scope = &self.state.scopes[scope];
        let main = self.state.threads[thread].label == "main_thread";
        scope.kind != ScopeKind::Listener || main == (&*scope.name == "admin")
    }

    fn used(&self, scope: usize, value: usize, ty: ValueType) -> bool {
        match ty {
            ValueType::Counter => self.state.raw_sum(scope, value) != 0,
            ValueType::Gauge => self.state.gauge_value(scope, value).1,
        }
    }

    fn codes(&self, scope: usize, push: &mut impl FnMut(Item, bool)) {
        let codes = self.state.code_sums(scope);
        for family in CodeFamily::ALL {
            let mut classes = [false; 11];
            for ((_, code), _) in codes.iter().filter(|((f, _), _)| f == family) {
                if *code != UNNAMED_CODE {
                    push(Item::Code(*family, *code), true);
                }
                classes[(code / 100) as usize % 11] = true;
            }
            for class in (1..=5).filter(|class| classes[*class as usize]) {
                push(Item::Class(*family, class), true);
            }
            if classes.contains(&true) {
                push(Item::Completed(*family), true);
            }
        }
    }

    fn name(&self, prefix: &str, scope: usize, item: Item) -> String {
        let table = self.state.scopes[scope].kind.table();
        match item {
            Item::Value(i) => format!("{prefix}{}", table.values[i as usize].name),
            Item::ThreadValue { value, thread } => {
                let label = &self.state.threads[thread as usize].label;
                let full = format!("{prefix}{}", table.values[value as usize].name);
                let (head, tail) = full.rsplit_once('.').unwrap_or(("", &full));
                format!("{head}.{label}.{tail}")
            }
            Item::Code(family, UNKNOWN_CODE) => format!("{prefix}{}upstream_rq_unknown", family.prefix()),
            Item::Code(family, code) => format!("{prefix}{}upstream_rq_{code}", family.prefix()),
            Item::Class(family, class) => format!("{prefix}{}upstream_rq_{class}xx", family.prefix()),
            Item::Completed(family) => format!("{prefix}{}upstream_rq_completed", family.prefix()),
            Item::Histogram(i) => format!("{prefix}{}", table.histograms[i as usize].name),
        }
    }

    /// The number of a counter or gauge.
    pub(super) fn number(&self, found: &Found) -> u64 {
        let table = self.state.scopes[found.scope].kind.table();
        match found.item {
            Item::Value(i) => match table.values[i as usize].ty {
                ValueType::Counter => self.state.counter_value(found.scope, i as usize),
                ValueType::Gauge => self.state.gauge_value(found.scope, i as usize).0,
            },
            Item::ThreadValue { value, thread } => {
                let raw = self.state.thread_raw(found.scope, thread as usize, value as usize);
                match table.values[value as usize].ty {
                    ValueType::Counter => raw,
                    ValueType::Gauge => ((raw as i64) >> 1).max(0) as u64,
                }
            }
            Item::Code(family, code) => self.responses(found.scope, |f, c| f == family && c == code),
            Item::Class(family, class) => {
                self.responses(found.scope, |f, c| f == family && c / 100 == u16::from(class))
            }
            Item::Completed(family) => self.responses(found.scope, |f, _| f == family),
            Item::Histogram(_) => 0,
        }
    }

    /// True when the item is a gauge.
    pub(super) fn is_gauge(&self, found: &Found) -> bool {
        let table = self.state.scopes[found.scope].kind.table();
        match found.item {
            Item::Value(value) | Item::ThreadValue { value, .. } => {
                table.values[value as usize].ty == ValueType::Gauge
            }
            _ => false,
        }
    }

    fn responses(&self, scope: usize, wanted: impl Fn(CodeFamily, u16) -> bool) -> u64 {
        let sum = |codes: &[((CodeFamily, u16), u64)]| -> u64 {
            codes.iter().filter(|((f, c), _)| wanted(*f, *c)).map(|(_, count)| count).sum()
        };
        let before = self.state.scopes[scope].marks.as_deref().map_or(0, |marks| sum(&marks.code_baseline));
        sum(&self.state.code_sums(scope)).saturating_sub(before)
    }

    /// A histogram since the start, and in the last interval if one ended.
    pub(super) fn histogram(&self, found: &Found) -> (Merged, Merged) {
        let Item::Histogram(i) = found.item else { return Default::default() };
        let marks = self.state.scopes[found.scope].marks.as_deref();
        let flushed = marks.and_then(|marks| marks.flushed.get(i as usize));
        let interval = flushed.map(|(_, interval)| interval.clone()).unwrap_or_default();
        (self.state.merged(found.scope, i as usize), interval)
    }

    /// Text readouts that are wanted.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'s str, &'s str)> {
        let selection = self.selection;
        let wanted = |name: &str| {
            selection.wants_type(StatType::TextReadouts)
                && (selection.wants)(name)
                && self.state.matcher.accepts(name)
        };
        let texts = self.state.texts.iter().filter(move |(name, _)| wanted(name));
        texts.map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>().into_iter()
    }
}

/// How every name of a scope begins.
pub(super) fn scope_prefix(kind: ScopeKind, name: &str) -> String {
    match (kind.prefix(), name) {
        ("", "") => String::new(),
        ("", name) => format!("{name}."),
        (prefix, "") => format!("{prefix}."),
        (prefix, name) => format!("{prefix}.{name}."),
    }
}
