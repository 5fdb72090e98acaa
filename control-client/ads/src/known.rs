//! What was accepted: the version and a digest of each resource, not its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::Digest;

use crate::UpdateId;

#[derive(Debug)]
struct Body {
    digest: Digest,
    version: Arc<str>,
}

/// One resource. Neither accepted nor pending: every body so far was rejected.
#[derive(Debug, Default)]
struct Entry {
    accepted: Option<Body>,
    /// Handed out with an update that has no verdict yet.
    pending: Option<Box<(UpdateId, Body)>>,
}

/// How a body compares with what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// The one that was accepted.
    Unchanged,
    /// The one that an earlier update handed out; its verdict will be this one's as well.
    Carried,
    /// Another one, now pending.
    Changed,
}

/// The resources of one type.
#[derive(Debug, Default)]
pub(crate) struct Known {
    entries: BTreeMap<Arc<str>, Entry>,
}

impl Known {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A body of it has no verdict yet.
    pub fn is_pending(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.pending.is_some())
    }

    /// The name's own copy, to be shared.
    pub fn shared(&self, name: &str) -> Option<Arc<str>> {
        self.entries.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }

    /// The version last handed out or accepted.
    pub fn version(&self, name: &str) -> Option<&Arc<str>> {
        let entry = self.entries.get(name)?;
        let pending = entry.pending.as_deref().map(|(_, body)| body);
        pending.or(entry.accepted.as_ref()).map(|body| &body.version)
    }

    /// A body that came with the update `id`.
    pub fn offer(&mut self, name: &Arc<str>, id: UpdateId, digest: Digest, version: Arc<str>) -> Offer {
        let entry = self.entries.entry(Arc::clone(name)).or_default();
        let (body, offer) = match (entry.pending.as_deref_mut(), &mut entry.accepted) {
            (Some((_, body)), _) if body.digest == digest => (body, Offer::Carried),
            (None, Some(body)) if body.digest == digest => (body, Offer::Unchanged),
            _ => {
                entry.pending = Some(Box::new((id, Body { digest, version })));
                return Offer::Changed;
            }
        };
        body.version = version;
        offer
    }

    /// The update `id` is decided for this resource. A later body that is still pending stays so.
    pub fn settle(&mut self, name: &str, id: UpdateId, accepted: bool) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.settle(id, accepted);
    }

    /// As [`Self::settle`], for an update whose names are no longer at hand: `accepted` says what became of each.
    pub fn settle_all(&mut self, id: UpdateId, accepted: impl Fn(&str) -> bool) {
        for (name, entry) in &mut self.entries {
            if entry.pending.as_ref().is_some_and(|pending| pending.0 == id) {
                entry.settle(id, accepted(name));
            }
        }
    }

    /// The body in force is in doubt: it counts as changed when it comes again.
    pub fn doubt(&mut self, name: &str) {
        if let Some(body) = self.entries.get_mut(name).and_then(|entry| entry.accepted.as_mut()) {
            body.digest = Digest::NONE;
        }
    }

    /// Forgets the resource; true when it was known.
    pub fn remove(&mut self, name: &str) -> bool {
        self.entries.remove(name).is_some()
    }

    /// Forgets all for which `keep` is false, and returns their names.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        self.entries.extract_if(.., |name, _| !keep(name)).map(|(name, _)| name).collect()
    }

    /// What is in force, for `initial_resource_versions`.
    pub fn versions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name, &entry.accepted.as_ref()?.version)))
    }
}

impl Entry {
    fn settle(&mut self, id: UpdateId, accepted: bool) {
        match self.pending.take_if(|pending| pending.0 == id) {
            Some(pending) if accepted => self.accepted = Some(pending.1),
            Some(_) => {}
            // Superseded by a later body before its verdict: in force, but its digest is gone.
            None if accepted && self.pending.is_some() => {
                let version = self.accepted.take().map_or_else(|| Arc::from(""), |body| body.version);
                self.accepted = Some(Body { digest: Digest::NONE, version });
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U1: UpdateId = UpdateId(1);
    const U2: UpdateId = UpdateId(2);

    fn offer(known: &mut Known, id: UpdateId, body: &str) -> Offer {
        known.offer(&"a".into(), id, Digest::of(body.as_bytes()), body.into())
    }

    fn in_force(known: &Known) -> Vec<String> {
        known.versions().map(|(_, version)| version.to_string()).collect()
    }

    #[test]
    fn unchanged_means_equal_to_the_last_accepted_body() {
        let mut known = Known::default();
        assert_eq!(offer(&mut known, U1, "good"), Offer::Changed);
        assert_eq!(offer(&mut known, U2, "good"), Offer::Carried);
        assert!(in_force(&known).is_empty());
        known.settle("a", U1, true);
        assert_eq!(offer(&mut known, U2, "good"), Offer::Unchanged);
        assert_eq!(offer(&mut known, U2, "bad"), Offer::Changed);
        known.settle("a", U2, false);
        assert_eq!(in_force(&known), ["good"]);
        assert_eq!(offer(&mut known, UpdateId(3), "bad"), Offer::Changed, "tried again");
        known.settle_all(UpdateId(3), |_| false);
        assert_eq!(offer(&mut known, UpdateId(4), "good"), Offer::Unchanged);
        known.doubt("a");
        assert_eq!(offer(&mut known, UpdateId(4), "good"), Offer::Changed);
    }

    #[test]
    fn what_was_superseded_before_its_verdict_is_sent_on_again() {
        let mut known = Known::default();
        offer(&mut known, U1, "one");
        offer(&mut known, U2, "two");
        known.settle("a", U1, true);
        known.settle("a", U2, false);
        assert_eq!(in_force(&known), [""], "in force, of a version that no server has");
        assert_eq!(offer(&mut known, UpdateId(3), "one"), Offer::Changed);
    }
}
