//! Thousands of random responses, verdicts, subscriptions and lost streams: whatever comes in whatever order, nothing
//! panics and what we say keeps the rules of the protocol.

mod helpers;

use std::collections::{BTreeMap, BTreeSet};

use helpers::{Lab, body, delta, name, options, resource, sotw, wrapped};
use millrace_ads::source::Variant;
use millrace_ads::{Input, Interest, Rejected, Request, ResourceType, Update, UpdateId, Verdict};
use millrace_base::{Rng, Time};
use millrace_proto::pb::envoy::service::discovery::v3::Resource;
use millrace_proto::pb::google::protobuf::Any;

const TYPES: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Route, ResourceType::VirtualHost];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A response as the server knows it.
struct Sent {
    nonce: String,
    version: String,
    /// The update that it became; `None` when it was ignored or answered without one.
    update: Option<UpdateId>,
    answered: bool,
}

/// Checks every request against what was received and decided.
struct Judge {
    variant: Variant,
    /// Of the current stream.
    responses: BTreeMap<ResourceType, Vec<Sent>>,
    started: BTreeSet<ResourceType>,
    /// Verdicts given: whether something was rejected.
    decided: BTreeMap<UpdateId, bool>,
    /// Updates that held something broken.
    broken: BTreeSet<UpdateId>,
    versions: BTreeMap<ResourceType, BTreeSet<String>>,
    messages: usize,
}

impl Judge {
    fn request(&mut self, request: &Request) {
        let (url, nonce, error, node) = match request {
            Request::Sotw(it) => (&it.type_url, &it.response_nonce, &it.error_detail, &it.node),
            Request::Delta(it) => (&it.type_url, &it.response_nonce, &it.error_detail, &it.node),
        };
        assert_eq!(node.is_some(), self.messages == 0, "the node in the first message only");
        self.messages += 1;
        let ty = ResourceType::from_type_url(url).expect("a type of ours");
        let first = self.started.insert(ty);
        if let Request::Sotw(it) = request {
            let accepted = it.version_info.is_empty() || self.versions[&ty].contains(&it.version_info);
            assert!(accepted, "{} was never accepted", it.version_info);
        }
        if let Request::Delta(it) = request {
            let lists = it.resource_names_subscribe.len() + it.resource_names_unsubscribe.len();
            assert!(nonce.is_empty() || lists + it.initial_resource_versions.len() == 0, "an answer is bare");
            assert!(first || !nonce.is_empty() || lists > 0, "a request that says nothing: {it:?}");
        }
        if nonce.is_empty() {
            assert!(error.is_none());
            return;
        }
        let responses = self.responses.get_mut(&ty).expect("a response of this stream");
        let at = responses.iter().position(|sent| sent.nonce == *nonce).expect("a nonce of this stream");
        let later = responses[at + 1..].iter().any(|sent| sent.answered);
        assert!(!later, "answers keep the order of the responses");
        let sent = &mut responses[at];
        if std::mem::replace(&mut sent.answered, true) {
            assert_eq!(self.variant, Variant::Sotw, "answered twice");
            assert!(error.is_none(), "a NACK after the answer");
            return;
        }
        let Some(id) = sent.update else { return };
        let rejected = self.decided.get(&id).expect("an answer without a verdict");
        if *rejected || self.broken.contains(&id) {
            assert!(error.as_ref().is_some_and(|status| status.code == 13 && !status.message.is_empty()));
        }
        if let (Request::Sotw(it), None) = (request, error) {
            assert_eq!(it.version_info, sent.version);
        }
    }

    fn new_stream(&mut self) {
        self.responses.clear();
        self.started.clear();
        self.messages = 0;
    }
}

/// What the owner holds: the bodies in force and those without a verdict.
#[derive(Default)]
struct Holder {
    open: Vec<Update>,
    in_force: BTreeMap<(ResourceType, String), Vec<u8>>,
}

impl Holder {
    fn take(&mut self, update: Update, offered: &BTreeMap<String, Vec<u8>>) {
        let ty = update.resource_type;
        for resource in &update.changed {
            assert_eq!(&offered[&*resource.name][..], &*resource.body);
        }
        for unchanged in update.unchanged.iter().filter(|name| offered.contains_key(&***name)) {
            let pending = self.open.iter().flat_map(|open| &open.changed);
            let mut same = pending.filter(|r| r.name == *unchanged).map(|r| r.body.to_vec());
            let held = self.in_force.get(&(ty, unchanged.to_string()));
            let body = &offered[&**unchanged];
            assert!(held == Some(body) || same.any(|pending| pending == *body), "{unchanged} did change");
        }
        for removed in &update.removed {
            self.in_force.remove(&(ty, removed.to_string()));
            // Whatever an earlier update holds of it is void.
            for open in self.open.iter_mut().filter(|open| open.resource_type == ty) {
                open.changed.retain(|resource| resource.name != *removed);
            }
        }
        if update.id != UpdateId::NO_VERDICT {
            self.open.push(update);
        }
    }

    /// Verdicts are given in any order, but take effect in the order of the updates: give those of a type in order.
    fn decide(&mut self, at: usize, rng: &mut Rng) -> (UpdateId, Verdict) {
        let ty = self.open[at].resource_type;
        let first = self.open.iter().position(|open| open.resource_type == ty).unwrap_or(at);
        let update = self.open.remove(first);
        let mut rejected = Vec::new();
        for resource in update.changed {
            if rng.chance(1, 5) {
                rejected.push(Rejected { name: resource.name, reason: "no".to_owned() });
            } else {
                self.in_force.insert((ty, resource.name.to_string()), resource.body.to_vec());
            }
        }
        (update.id, Verdict { rejected })
    }
}

struct Run {
    rng: Rng,
    lab: Lab,
    judge: Judge,
    holder: Holder,
    connects: usize,
    up: bool,
    nonce: u64,
    wanted: BTreeSet<(ResourceType, Option<&'static str>)>,
}

impl Run {
    fn new(seed: u64, variant: Variant) -> Self {
        let mut options = options(variant);
        options.seed = seed;
        options.rate_limit = seed.is_multiple_of(4).then_some((5, 2_000));
        Self {
            rng: Rng::new(seed),
            lab: Lab::new(options),
            judge: Judge {
                variant,
                responses: BTreeMap::new(),
                started: BTreeSet::new(),
                decided: BTreeMap::new(),
                broken: BTreeSet::new(),
                versions: TYPES.into_iter().map(|ty| (ty, BTreeSet::new())).collect(),
                messages: 0,
            },
            holder: Holder::default(),
            connects: 0,
            up: false,
            nonce: 0,
            wanted: BTreeSet::new(),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len() as u64) as usize]
    }

    fn drain(&mut self, offered: &BTreeMap<String, Vec<u8>>) {
        self.lab.run();
        for request in std::mem::take(&mut self.lab.sent) {
            assert!(self.up, "sent without a stream");
            self.judge.request(&request);
        }
        for update in std::mem::take(&mut self.lab.updates) {
            if !update.broken.is_empty() {
                self.judge.broken.insert(update.id);
            }
            self.holder.take(update, offered);
        }
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0 | 1 => self.subscribe(),
            2 => self.unsubscribe(),
            3 if self.rng.chance(1, 8) => self.lose(),
            4 => self.lab.now = self.lab.now + std::time::Duration::from_millis(300),
            5..8 => self.decide(),
            _ if self.up => self.respond(),
            _ => self.connect(),
        }
        // What does not fit the state is ignored.
        if self.rng.chance(1, 20) && self.up {
            self.lab.client.handle(self.lab.now, Input::Connected);
        }
        if self.rng.chance(2, 3) {
            self.drain(&BTreeMap::new());
        }
    }

    fn subscribe(&mut self) {
        let ty = self.pick(&TYPES);
        let wildcard = ty.is_full_state() && self.rng.chance(1, 2);
        let one = (!wildcard).then(|| self.pick(&NAMES));
        self.lab.client.subscribe(ty, one.map_or(Interest::Wildcard, name));
        self.wanted.insert((ty, one));
    }

    fn unsubscribe(&mut self) {
        let all: Vec<_> = self.wanted.iter().copied().collect();
        if all.is_empty() {
            return;
        }
        let (ty, one) = self.pick(&all);
        self.wanted.remove(&(ty, one));
        self.lab.client.unsubscribe(ty, &one.map_or(Interest::Wildcard, name));
        // What nobody wants is forgotten on both sides; when it comes again it counts as changed.
        let wanted = &self.wanted;
        let kept = |name: &str| wanted.iter().any(|(t, n)| *t == ty && n.is_none_or(|n| n == name));
        self.holder.in_force.retain(|(t, name), _| *t != ty || kept(name));
        for open in self.holder.open.iter_mut().filter(|open| open.resource_type == ty) {
            open.changed.retain(|resource| kept(&resource.name));
        }
    }

    fn lose(&mut self) {
        self.drain(&BTreeMap::new());
        self.up = false;
        // An attempt on its way has failed with it.
        self.connects = self.lab.connects.len();
        self.lab.client.handle(self.lab.now, Input::Disconnected);
    }

    fn connect(&mut self) {
        self.drain(&BTreeMap::new());
        if self.connects < self.lab.connects.len() {
            self.connects += 1;
            self.judge.new_stream();
            self.up = true;
            self.lab.client.handle(self.lab.now, Input::Connected);
        } else if let Some(deadline) = self.lab.client.deadline() {
            self.lab.now = self.lab.now.max(deadline);
        }
    }

    fn decide(&mut self) {
        if self.holder.open.is_empty() {
            return;
        }
        let at = self.rng.below(self.holder.open.len() as u64) as usize;
        let (id, verdict) = self.holder.decide(at, &mut self.rng);
        self.judge.decided.insert(id, !verdict.rejected.is_empty());
        self.lab.client.verdict(id, verdict);
    }

    fn respond(&mut self) {
        // Requests that are due leave before the response arrives.
        self.drain(&BTreeMap::new());
        let ty = self.pick(&TYPES);
        self.nonce += 1;
        let (nonce, version) = (format!("n{}", self.nonce), format!("v{}", self.nonce));
        let mut offered = BTreeMap::new();
        let count = self.rng.below(6);
        let mut named = BTreeSet::new();
        let resources: Vec<Resource> =
            (0..count).map(|_| self.resource(ty, &mut named, &mut offered)).collect();
        let response = match self.judge.variant {
            Variant::Sotw => {
                let any = |resource: Resource| self.unwrap(resource);
                let resources = resources.into_iter().map(any).collect();
                sotw(ty, &nonce, &version, resources)
            }
            Variant::Delta => {
                let removed: Vec<&str> = (0..self.rng.below(3)).map(|_| self.pick(&NAMES)).collect();
                delta(ty, &nonce, &version, resources, &removed)
            }
        };
        self.judge.versions.get_mut(&ty).expect("a known type").insert(version.clone());
        let before = self.lab.client.ignored_responses();
        self.lab.client.handle(self.lab.now, Input::Response(response));
        if self.lab.client.ignored_responses() == before {
            // The update comes out first; ids only grow.
            let update = self.lab.client.poll(self.lab.now);
            let mut id = None;
            if let Some(millrace_ads::Output::Update(update)) = update {
                if update.id != UpdateId::NO_VERDICT {
                    id = Some(update.id);
                }
                self.lab.updates.push(update);
            } else if let Some(millrace_ads::Output::Send(request)) = update {
                self.lab.sent.push(request);
            }
            let sent = Sent { nonce, version, update: id, answered: false };
            self.judge.responses.entry(ty).or_default().push(sent);
        }
        self.drain(&offered);
    }

    /// A resource, good or not. What is good and the first of its name is noted in `offered`.
    fn resource(
        &mut self,
        ty: ResourceType,
        named: &mut BTreeSet<&'static str>,
        offered: &mut BTreeMap<String, Vec<u8>>,
    ) -> Resource {
        let one = self.pick(&NAMES);
        let content = self.pick(&["x", "y", "z"]);
        let mut made = resource(ty, one, "r", Some(content), 0);
        match self.rng.below(12) {
            0 => made.resource = None,
            1 => made.name.clear(),
            2 => {
                let noise = (0..self.rng.below(20)).map(|_| self.rng.next_u64() as u8).collect();
                made.name.clear();
                made.resource = Some(Any { type_url: ty.type_url(), value: noise });
                return made;
            }
            3 => made.resource = Some(Any { type_url: "x/y".to_owned(), value: Vec::new() }),
            _ => {}
        }
        let good = made.resource.as_ref().is_some_and(|any| any.type_url == ty.type_url());
        if named.insert(one) && good {
            offered.insert(one.to_owned(), body(one, content));
        }
        made
    }

    fn unwrap(&mut self, resource: Resource) -> Any {
        match resource.resource {
            // A name in the wrapper alone would be lost.
            Some(any) if any.type_url != "x/y" && self.rng.chance(1, 2) => any,
            resource_body => wrapped(&Resource { resource: resource_body, ..resource }),
        }
    }

    /// All verdicts are in and time has passed: everything that is to be answered has been.
    fn finish(&mut self) {
        while !self.holder.open.is_empty() {
            self.decide();
        }
        self.drain(&BTreeMap::new());
        while let Some(deadline) = self.lab.client.deadline().filter(|_| self.up) {
            assert!(deadline > self.lab.now, "a deadline that poll did nothing about");
            self.lab.now = deadline;
            self.drain(&BTreeMap::new());
        }
        if !self.up {
            return;
        }
        for (ty, responses) in &self.judge.responses {
            let owed = match self.judge.variant {
                Variant::Sotw => &responses[responses.len().saturating_sub(1)..],
                Variant::Delta => &responses[..],
            };
            let missing: Vec<_> = owed.iter().filter(|sent| !sent.answered).map(|sent| &sent.nonce).collect();
            assert!(missing.is_empty(), "{ty:?}: {missing:?} of {} are not answered", owed.len());
        }
    }
}

fn runs(variant: Variant) {
    for seed in 0..400 {
        let mut run = Run::new(seed, variant);
        for _ in 0..250 {
            run.step();
        }
        run.finish();
        assert!(run.lab.now > Time::ZERO);
    }
}

#[test]
fn state_of_the_world_keeps_the_rules() {
    runs(Variant::Sotw);
}

#[test]
fn incremental_keeps_the_rules() {
    runs(Variant::Delta);
}

/// Responses that are nothing but noise, in every state.
#[test]
fn noise_is_survived() {
    let mut rng = Rng::new(3);
    for round in 0..2000 {
        let variant = if round % 2 == 0 { Variant::Sotw } else { Variant::Delta };
        let mut lab = Lab::connected(variant, &[(ResourceType::Cluster, Interest::Wildcard)]);
        lab.sent.clear();
        let noise: Vec<u8> = (0..rng.below(60)).map(|_| rng.next_u64() as u8).collect();
        let url = if rng.chance(1, 4) {
            "type.googleapis.com/no".to_owned()
        } else {
            helpers::WRAPPER_URL.to_owned()
        };
        let any = Any { type_url: url, value: noise };
        let response = match variant {
            Variant::Sotw => sotw(ResourceType::Cluster, "n", "v", vec![any]),
            Variant::Delta => {
                let resource = Resource { name: "a".to_owned(), resource: Some(any), ..Resource::default() };
                delta(ResourceType::Cluster, "n", "v", vec![resource], &[])
            }
        };
        let update = lab.respond(response);
        lab.accept(&update);
        assert_eq!(lab.sent.len(), 1);
        // The other variant's message is not ours.
        let other = match variant {
            Variant::Sotw => delta(ResourceType::Cluster, "n", "v", Vec::new(), &[]),
            Variant::Delta => sotw(ResourceType::Cluster, "n", "v", Vec::new()),
        };
        lab.input(Input::Response(other));
        assert_eq!((lab.client.ignored_responses(), lab.sent.len()), (1, 1));
        assert!(matches!(lab.sent[0], Request::Sotw(_) | Request::Delta(_)));
    }
}
