//! One type's resources between server and owner: what a response changes, what it is answered once there is a
//! verdict. The same for both variants, REST and files.
//!
//! Updates are handed out at once, however many have no verdict yet: a cluster that warms for ever must not keep the
//! next response, which may remove it, from its owner. Verdicts take effect and answers leave in the order of the
//! responses.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use millrace_base::{Digest, Time};

use crate::incoming::{Batch, Item};
use crate::known::{Known, Offer};
use crate::limits::{NACK_INTERVAL, NACKS_AT_ONCE, RESOURCES_MAX, UNANSWERED_MAX};
use crate::names::Wanted;
use crate::ttl::Expiry;
use crate::{Interest, Rejected, ResourceType, Update, UpdateId, Verdict};

/// Which responses are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The newest only: it stands for those before it (state of the world).
    Newest,
    /// Each one (incremental).
    Each,
}

/// An ACK, or a NACK when something was rejected.
#[derive(Debug)]
pub(crate) struct Answer {
    pub nonce: String,
    pub rejected: Vec<Rejected>,
}

/// An update whose verdict, or that of an earlier one, is still to come.
#[derive(Debug)]
struct Unanswered {
    id: UpdateId,
    /// `None` when nobody waits for an answer: the stream is gone, or there never was one.
    nonce: Option<String>,
    version: Arc<str>,
    changed: Vec<Arc<str>>,
    /// Names whose body an earlier update without a verdict handed out; in order.
    carried: Vec<Arc<str>>,
    /// What is rejected whatever the verdict says.
    broken: Vec<Rejected>,
    verdict: Option<Verdict>,
}

/// The state of one type.
#[derive(Debug)]
pub(crate) struct Tracker {
    ty: ResourceType,
    policy: Answers,
    pub wanted: Wanted,
    known: Known,
    expiry: Expiry,
    unanswered: VecDeque<Unanswered>,
    answers: VecDeque<Answer>,
    /// `version_info` of the last response that was accepted as a whole.
    version: Arc<str>,
    nacks_in_a_row: u32,
    last_nack: Time,
}

/// A response on its way into an update.
struct Intake {
    update: Update,
    carried: Vec<Arc<str>>,
    seen: BTreeSet<Arc<str>>,
    heartbeat: bool,
}

impl Tracker {
    pub fn new(ty: ResourceType, policy: Answers) -> Self {
        Self {
            ty,
            policy,
            wanted: Wanted::new(ty),
            known: Known::default(),
            expiry: Expiry::default(),
            unanswered: VecDeque::new(),
            answers: VecDeque::new(),
            version: Arc::default(),
            nacks_in_a_row: 0,
            last_nack: Time::ZERO,
        }
    }

    pub fn resource_type(&self) -> ResourceType {
        self.ty
    }

    /// No longer wants something, and forgets what only that covered.
    pub fn unsubscribe(&mut self, interest: &Interest) -> bool {
        if !self.wanted.remove(interest) {
            return false;
        }
        let gone = match interest {
            Interest::Name(name) if self.wanted.covers(name) => Vec::new(),
            Interest::Name(name) => self.known.remove(name).then(|| Arc::clone(name)).into_iter().collect(),
            Interest::Wildcard => self.known.retain(|name| self.wanted.covers(name)),
        };
        gone.iter().for_each(|name| self.expiry.clear(name));
        true
    }

    /// What the response changes. `nonce` is what it is to be answered with; in a state of the world `complete`
    /// types lose what it does not name.
    pub fn take(
        &mut self,
        now: Time,
        id: UpdateId,
        nonce: Option<String>,
        batch: Batch,
        complete: bool,
    ) -> Update {
        let named = batch.broken.iter().filter(|broken| !broken.name.is_empty());
        let mut intake = Intake {
            seen: named.map(|broken| Arc::clone(&broken.name)).collect(),
            update: Update {
                id,
                resource_type: self.ty,
                version: batch.version,
                changed: Vec::with_capacity(batch.items.len()),
                removed: Vec::new(),
                unchanged: Vec::new(),
                broken: batch.broken,
            },
            carried: Vec::new(),
            heartbeat: false,
        };
        for item in batch.items {
            self.take_item(now, item, &mut intake);
        }
        self.take_removed(batch.removed, &mut intake);
        // A response with a heartbeat holds only what has a time to live, and a resource that nobody can name may be
        // any of those that seem to be missing.
        if complete && !batch.nameless && !intake.heartbeat {
            intake.update.removed.extend(self.known.retain(|name| intake.seen.contains(name)));
        }
        intake.update.removed.iter().for_each(|name| self.expiry.clear(name));
        intake.update.changed.shrink_to_fit();
        self.expect_verdict(nonce, &mut intake);
        intake.update
    }

    fn take_item(&mut self, now: Time, item: Item, intake: &mut Intake) {
        let update = &mut intake.update;
        let shared = self.known.shared(&item.name).or_else(|| self.wanted.shared(&item.name));
        let name = shared.unwrap_or(item.name);
        let mut reject = |reason: &str| {
            update.broken.push(Rejected { name: Arc::clone(&name), reason: reason.to_owned() });
        };
        if !intake.seen.insert(Arc::clone(&name)) {
            return reject("duplicate: the response holds it more than once");
        }
        if !self.wanted.covers(&name) {
            return;
        }
        let Some(body) = item.body else {
            if self.known.version(&name).is_some_and(|version| *version == item.version) {
                intake.heartbeat = true;
                self.expiry.set(&name, now, item.ttl);
                update.unchanged.push(name);
            } else if self.ty == ResourceType::VirtualHost {
                // The answer to a request for a host that does not exist.
                self.known.remove(&name);
                update.removed.push(name);
            } else {
                reject("it has no body, and is no heartbeat of the version that is known");
            }
            return;
        };
        if self.known.len() >= RESOURCES_MAX && !self.known.contains(&name) {
            return reject("there are too many resources of its type");
        }
        self.expiry.set(&name, now, item.ttl);
        match self.known.offer(&name, update.id, Digest::of(&body), Arc::clone(&item.version)) {
            Offer::Changed => {
                update.changed.push(crate::Resource { name, version: item.version, body: body.into() });
            }
            Offer::Carried => {
                intake.carried.push(Arc::clone(&name));
                update.unchanged.push(name);
            }
            Offer::Unchanged => update.unchanged.push(name),
        }
    }

    fn take_removed(&mut self, removed: Vec<Arc<str>>, intake: &mut Intake) {
        for name in removed.into_iter().filter(|name| self.wanted.covers(name)) {
            if intake.seen.insert(Arc::clone(&name)) {
                self.known.remove(&name);
                intake.update.removed.push(name);
            } else {
                let reason = "the response removes it although it holds it already".to_owned();
                intake.update.broken.push(Rejected { name, reason });
            }
        }
    }

    fn expect_verdict(&mut self, nonce: Option<String>, intake: &mut Intake) {
        let mut broken = intake.update.broken.clone();
        if self.policy == Answers::Newest {
            // An answer that did not leave in time is void. What it said about resources that are still so is not.
            let void = self.answers.drain(..).flat_map(|answer| answer.rejected);
            broken.extend(void.filter(|r| !self.ty.is_full_state() && !intake.seen.contains(&r.name)));
        }
        intake.carried.sort_unstable();
        self.unanswered.push_back(Unanswered {
            id: intake.update.id,
            nonce,
            version: Arc::clone(&intake.update.version),
            changed: intake.update.changed.iter().map(|resource| Arc::clone(&resource.name)).collect(),
            carried: std::mem::take(&mut intake.carried),
            broken,
            verdict: None,
        });
        if self.unanswered.len() > UNANSWERED_MAX {
            self.unanswered.pop_front();
            self.settle();
        }
    }

    /// True when the update is one of those that wait.
    pub fn awaits(&self, id: UpdateId) -> bool {
        self.unanswered.iter().any(|one| one.id == id)
    }

    /// The first verdict counts. One that comes after its update was given up still says what is in force.
    pub fn verdict(&mut self, id: UpdateId, verdict: Verdict) {
        match self.unanswered.iter_mut().find(|one| one.id == id) {
            Some(one) => {
                one.verdict.get_or_insert(verdict);
            }
            None => {
                let refused: BTreeSet<&str> = verdict.rejected.iter().map(|r| &*r.name).collect();
                self.known.settle_all(id, |name| !refused.contains(name));
                self.pass_on(&verdict.rejected);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        while self.unanswered.front().is_some_and(|one| one.verdict.is_some()) {
            let Some(one) = self.unanswered.pop_front() else { return };
            self.settle_one(one);
        }
    }

    fn settle_one(&mut self, one: Unanswered) {
        let refused = one.verdict.unwrap_or_default().rejected;
        let mut names: BTreeSet<&str> = refused.iter().map(|r| &*r.name).collect();
        for name in &one.changed {
            let accepted = !names.remove(&**name);
            self.known.settle(name, one.id, accepted);
        }
        // Refused though it did not change: whatever is in force, it is not known to be this.
        names.into_iter().for_each(|name| self.known.doubt(name));
        self.pass_on(&refused);
        let rejected: Vec<Rejected> = one.broken.into_iter().chain(refused).collect();
        if rejected.is_empty() {
            self.version = one.version;
        }
        let Some(nonce) = one.nonce else { return };
        let newer = self.unanswered.iter_mut().find(|later| later.nonce.is_some());
        match newer.filter(|_| self.policy == Answers::Newest) {
            None => self.answer(Answer { nonce, rejected }),
            // The newer answer speaks for resources that its own response did not hold.
            Some(newer) if !self.ty.is_full_state() => {
                let known = &self.known;
                newer.broken.extend(rejected.into_iter().filter(|r| !known.is_pending(&r.name)));
            }
            Some(_) => {}
        }
    }

    /// Later updates that held the very same body are rejected for the same reason.
    fn pass_on(&mut self, refused: &[Rejected]) {
        for later in self.unanswered.iter_mut().filter(|later| !later.carried.is_empty()) {
            let same = refused.iter().filter(|r| later.carried.binary_search(&r.name).is_ok());
            later.broken.extend(same.cloned());
        }
    }

    fn answer(&mut self, answer: Answer) {
        if self.policy == Answers::Newest || self.answers.len() >= UNANSWERED_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
    }

    /// A response on this stream waits for its verdict.
    pub fn awaits_verdict(&self) -> bool {
        self.unanswered.iter().any(|one| one.nonce.is_some())
    }

    /// When the next answer may leave: at once, unless NACK follows upon NACK.
    pub fn answer_at(&self) -> Option<Time> {
        let answer = self.answers.front()?;
        let slow = !answer.rejected.is_empty() && self.nacks_in_a_row >= NACKS_AT_ONCE;
        Some(if slow { self.last_nack + NACK_INTERVAL } else { Time::ZERO })
    }

    pub fn pop_answer(&mut self, now: Time) -> Option<Answer> {
        let answer = self.answers.pop_front()?;
        if answer.rejected.is_empty() {
            self.nacks_in_a_row = 0;
        } else {
            self.nacks_in_a_row = self.nacks_in_a_row.saturating_add(1);
            self.last_nack = now;
        }
        Some(answer)
    }

    /// `version_info` of requests.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// `initial_resource_versions`.
    pub fn versions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.known.versions()
    }

    /// The stream is gone, and with it everything that its server was to be told.
    pub fn disconnected(&mut self) {
        self.wanted.new_stream();
        self.answers.clear();
        self.unanswered.iter_mut().for_each(|one| one.nonce = None);
    }

    /// When a time to live ends next.
    pub fn expires_at(&self) -> Option<Time> {
        self.expiry.next()
    }

    /// What has outlived its time.
    pub fn expire(&mut self, now: Time) -> Option<Update> {
        let removed: Vec<_> = std::iter::from_fn(|| self.expiry.pop(now)).collect();
        removed.iter().for_each(|name| {
            self.known.remove(name);
        });
        (!removed.is_empty()).then(|| Update {
            id: UpdateId::NO_VERDICT,
            resource_type: self.ty,
            version: Arc::clone(&self.version),
            changed: Vec::new(),
            removed,
            unchanged: Vec::new(),
            broken: Vec::new(),
        })
    }
}
