//! What is wanted of one type, and how much of it the server has been told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::limits::NAMES_MAX;
use crate::{Interest, ResourceType};

/// The name that asks for everything.
const WILDCARD: &str = "*";

/// The subscriptions of one type.
#[derive(Debug)]
pub(crate) struct Wanted {
    ty: ResourceType,
    wildcard: Option<Told>,
    names: BTreeMap<Arc<str>, Told>,
    /// Names, and the wildcard under its name, that the server still believes we want.
    dropped: BTreeSet<Arc<str>>,
    /// Something is to be said, be it only the same names again.
    changed: bool,
    /// On this stream names were given, so that the wildcard must be one of them ("legacy wildcard" is over).
    explicit: bool,
}

/// Whether the server of this stream knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

impl Wanted {
    pub fn new(ty: ResourceType) -> Self {
        Self {
            ty,
            wildcard: None,
            names: BTreeMap::new(),
            dropped: BTreeSet::new(),
            changed: false,
            explicit: false,
        }
    }

    /// False when there is no room; what is wanted already stays as it is.
    pub fn add(&mut self, interest: Interest) -> bool {
        match interest {
            Interest::Wildcard if self.wildcard.is_none() => {
                self.dropped.remove(WILDCARD);
                self.wildcard = Some(Told::No);
            }
            Interest::Name(name) if !self.names.contains_key(&name) => {
                if self.names.len() >= NAMES_MAX {
                    return false;
                }
                // Unsubscribed a moment ago: the server must be asked again, for we have forgotten it.
                self.dropped.remove(&name);
                self.names.insert(name, Told::No);
            }
            Interest::Wildcard | Interest::Name(_) => return true,
        }
        self.changed = true;
        true
    }

    /// False when it was not wanted.
    pub fn remove(&mut self, interest: &Interest) -> bool {
        let (name, told) = match interest {
            Interest::Wildcard => (Arc::from(WILDCARD), self.wildcard.take()),
            Interest::Name(name) => (Arc::clone(name), self.names.remove(name)),
        };
        let Some(told) = told else { return false };
        if told == Told::Yes {
            self.dropped.insert(name);
        }
        self.changed = true;
        true
    }

    /// Asks once more for what is wanted.
    pub fn repeat(&mut self) {
        self.changed = true;
    }

    /// The name's own copy, to be shared.
    pub fn shared(&self, name: &str) -> Option<Arc<str>> {
        self.names.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }

    pub fn covers(&self, name: &str) -> bool {
        self.wildcard.is_some() || self.names.contains_key(name)
    }

    pub fn is_empty(&self) -> bool {
        self.wildcard.is_none() && self.names.is_empty()
    }

    /// There is a new [`Self::list`] to send. (An empty one is no way to end a legacy wildcard: to a server it is
    /// that wildcard once more.)
    pub fn list_changed(&self) -> bool {
        self.changed && (self.explicit || !self.is_empty())
    }

    /// There is a [`Self::difference`] to send.
    pub fn differs(&self) -> bool {
        let mut told = self.wildcard.iter().chain(self.names.values());
        self.changed && (!self.dropped.is_empty() || told.any(|told| *told == Told::No))
    }

    /// A new stream, whose server knows nothing.
    pub fn new_stream(&mut self) {
        self.changed = false;
        self.explicit = false;
        self.dropped.clear();
        for told in self.wildcard.iter_mut().chain(self.names.values_mut()) {
            *told = Told::No;
        }
    }

    /// All names, as every request of the state-of-the-world variant and the first one of the incremental list them.
    pub fn list(&mut self) -> Vec<String> {
        self.changed = false;
        self.dropped.clear();
        self.explicit |=
            !self.names.is_empty() || (self.wildcard.is_some() && !self.ty.is_asked_by_silence());
        let wildcard = self.wildcard.filter(|_| self.explicit).map(|_| WILDCARD.to_owned());
        for told in self.wildcard.iter_mut().chain(self.names.values_mut()) {
            *told = Told::Yes;
        }
        wildcard.into_iter().chain(self.names.keys().map(|name| name.to_string())).collect()
    }

    /// What to subscribe to and to unsubscribe from, as the incremental variant says it.
    pub fn difference(&mut self) -> (Vec<String>, Vec<String>) {
        self.changed = false;
        let unsubscribe = std::mem::take(&mut self.dropped).iter().map(|name| name.to_string()).collect();
        let mut subscribe = Vec::new();
        for (name, told) in self.names.iter_mut().filter(|(_, told)| **told == Told::No) {
            subscribe.push(name.to_string());
            *told = Told::Yes;
        }
        if let Some(told) = &mut self.wildcard {
            let leaves_legacy = !self.explicit && !subscribe.is_empty();
            if *told == Told::No || leaves_legacy {
                subscribe.insert(0, WILDCARD.to_owned());
                *told = Told::Yes;
            }
        }
        self.explicit |= !subscribe.is_empty();
        (subscribe, unsubscribe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Interest {
        Interest::Name(name.into())
    }

    #[test]
    fn the_wildcard_is_named_once_names_are_given() {
        let mut wanted = Wanted::new(ResourceType::Cluster);
        wanted.add(Interest::Wildcard);
        assert!(wanted.list_changed() && wanted.list().is_empty());
        wanted.add(name("a"));
        assert_eq!(wanted.list(), ["*", "a"]);
        wanted.remove(&name("a"));
        assert_eq!(wanted.list(), ["*"], "an empty list would now mean nothing");
        wanted.new_stream();
        assert!(wanted.list().is_empty());
        let mut hosts = Wanted::new(ResourceType::VirtualHost);
        hosts.add(Interest::Wildcard);
        assert!(hosts.list().is_empty());
        let mut endpoints = Wanted::new(ResourceType::Endpoint);
        endpoints.add(Interest::Wildcard);
        assert_eq!(endpoints.list(), ["*"]);
    }

    #[test]
    fn differences_cancel_out_but_what_was_forgotten_is_asked_for_again() {
        let mut wanted = Wanted::new(ResourceType::Endpoint);
        wanted.add(name("a"));
        wanted.add(name("b"));
        wanted.remove(&name("b"));
        assert_eq!(wanted.list(), ["a"]);
        wanted.remove(&name("a"));
        wanted.add(name("a"));
        assert!(wanted.differs());
        assert_eq!(wanted.difference(), (vec!["a".to_owned()], vec![]));
        wanted.remove(&name("a"));
        assert_eq!(wanted.difference(), (vec![], vec!["a".to_owned()]));
        assert!(!wanted.remove(&name("a")) && !wanted.differs());
        wanted.add(name("c"));
        wanted.remove(&name("c"));
        assert!(!wanted.differs());
    }

    #[test]
    fn a_legacy_wildcard_cannot_be_ended_by_silence() {
        let mut wanted = Wanted::new(ResourceType::Listener);
        wanted.add(Interest::Wildcard);
        wanted.list();
        wanted.remove(&Interest::Wildcard);
        assert!(!wanted.list_changed() && wanted.differs());
        assert_eq!(wanted.difference(), (vec![], vec!["*".to_owned()]));
    }
}
