//! Changes of listeners in force: what goes on, and what begins to drain.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{FilterChain, Listener, ListenerChange};

use super::{ListenerFacts, Origin, Removed, chains};
use crate::shard::Shard;

/// How long connections that another shard accepted for a removed listener may be on their way, at the most:
/// until then it is kept although it has none. The drain time is another bound.
const HAND_OVER_GRACE: Duration = Duration::from_secs(5);

/// No drain takes longer: well within what the timer wheel can tell.
const DRAIN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Shard {
    pub(crate) fn change_listener(&mut self, change: &ListenerChange) {
        match change {
            ListenerChange::Replace(config, drain) => self.replace_listener(config, *drain),
            ListenerChange::Remove(name, drain) => self.remove_listener(name, *drain),
        }
    }

    /// The same sockets, another configuration. Connections of the chains that stay notice nothing; those of
    /// the others drain.
    fn replace_listener(&mut self, config: &Arc<Listener>, drain: Duration) {
        let until = self.io.now + drain.min(DRAIN_MAX);
        // One that is unknown here was removed by an earlier change.
        let Some(key) = self.listeners.by_name.get(&config.name).copied() else { return };
        let Some(state) = self.listeners.states.get_mut(key) else { return };
        let chains = Chains::of(config);
        let facts = ListenerFacts::of(config);
        let same_facts = state.facts.is_same(&facts);
        let facts = if same_facts { state.facts.clone() } else { Rc::new(facts) };
        let mut origins: Vec<Option<Rc<Origin>>> = vec![None; chains.0.len()];
        // What drains already goes on as it was told.
        let dropped = |o: &&Rc<Origin>| !o.is_replaced() && chains.position(&o.chain).is_none();
        let mut draining: u32 = state.older.iter().filter(dropped).map(|o| o.drain(until)).sum();
        for old in std::mem::take(&mut state.origins).into_iter().flatten() {
            let slot = chains.position(&old.chain).and_then(|at| origins.get_mut(at));
            match slot {
                Some(slot) if same_facts => {
                    *slot = Some(old);
                    continue;
                }
                Some(slot) => {
                    let new = Rc::new(Origin::new(facts.clone(), &old.chain, old.http(), Time::MAX));
                    self.route_users.add(&new);
                    *slot = Some(new);
                }
                None => draining += old.drain(until),
            }
            if old.connections() > 0 {
                state.older.push(old);
            }
        }
        (state.origins, state.facts, state.config) = (origins, facts, config.clone());
        self.pause_acceptors(key);
        if draining > 0 {
            self.shared.add_draining(self.index, draining);
            self.arm_drain(until);
        }
    }

    /// Its sockets close and its connections drain; one of the same name may come after it.
    pub(crate) fn remove_listener(&mut self, name: &str, drain: Duration) {
        let Some(key) = self.listeners.by_name.remove(name) else { return };
        self.listeners.by_address.retain(|_, at| *at != key);
        self.close_acceptors(key);
        let drain_until = self.io.now + drain.min(DRAIN_MAX);
        let keep_until = self.io.now + drain.min(HAND_OVER_GRACE);
        let Some(state) = self.listeners.states.get_mut(key) else { return };
        state.removed = Some(Removed { drain_until, keep_until });
        let draining = state.drain(drain_until);
        self.listeners.removed.push(key);
        self.shared.add_draining(self.index, draining);
        // Connections may still come, so both are armed whether there are any now or not.
        self.arm_drain(drain_until);
        self.arm_drain(keep_until);
    }
}

/// The filter chains of a listener by identity, with their positions.
struct Chains(Vec<(*const FilterChain, usize)>);

impl Chains {
    fn of(config: &Listener) -> Self {
        let mut all: Vec<_> =
            chains(config).enumerate().map(|(at, chain)| (Arc::as_ptr(chain), at)).collect();
        all.sort_unstable();
        Self(all)
    }

    fn position(&self, chain: &Arc<FilterChain>) -> Option<usize> {
        let wanted = Arc::as_ptr(chain);
        let found = self.0.binary_search_by(|(one, _)| one.cmp(&wanted)).ok()?;
        self.0.get(found).map(|(_, at)| *at)
    }
}
