//! Envoy 1.40 against a scripted control plane, recorded: our client is fed the same responses and must say the same.
//!
//! What the owner of the client does (subscriptions, verdicts) is read off Envoy's next request; what our client then
//! sends is compared with it in all that matters: type, names, versions, nonce, error code. `DIFFERENCES` lists
//! where we differ on purpose.
#![allow(clippy::panic, reason = "test helpers")]

mod helpers;
mod transcript;

use std::collections::{BTreeMap, BTreeSet};

use helpers::{Lab, any, delta, name, options, reject, resource, sotw};
use millrace_ads::source::Variant;
use millrace_ads::{Input, Interest, Request, ResourceType, UpdateId, Verdict};
use transcript::{Event, Said, transcript};

/// Transcript, time and type of Envoy's request, and what ours says instead in the field that differs.
///
/// All three are one difference. Envoy calls a version its own as soon as it has processed a response, although the
/// ACK is withheld because a cluster warms; after a reconnect the server then believes that it was accepted, and a
/// NACK can never follow. We name versions that we have accepted, so the server sends the rest again.
const DIFFERENCES: &[(&str, f64, ResourceType, &str)] = &[
    ("sotw", 15.49, ResourceType::Cluster, "version 3"),
    ("delta", 15.079, ResourceType::Cluster, "initial a=a-v1 b=b-v1"),
    ("delta", 19.462, ResourceType::Cluster, "initial a=a-v1 b=b-v1"),
];

/// An update without a verdict: type, nonce, id, names in it.
type Open = (ResourceType, String, UpdateId, Vec<String>);

/// One client and what its owner has done with it.
struct Owner {
    lab: Lab,
    subscribed: BTreeMap<ResourceType, BTreeSet<String>>,
    /// Oldest first.
    open: Vec<Open>,
    /// What Envoy's nonces of this stream have become.
    answered: BTreeSet<String>,
    /// Incremental: the version of each resource.
    versions: BTreeMap<(ResourceType, String), String>,
    streams: usize,
}

impl Owner {
    fn new(variant: Variant) -> Self {
        Self {
            lab: Lab::new(options(variant)),
            subscribed: BTreeMap::new(),
            open: Vec::new(),
            answered: BTreeSet::new(),
            versions: BTreeMap::new(),
            streams: 0,
        }
    }

    fn connect(&mut self) {
        if self.lab.connects.len() == self.streams {
            self.lab.wait();
        }
        self.streams += 1;
        assert_eq!(self.lab.connects.len(), self.streams);
        self.lab.input(Input::Connected);
    }

    fn respond(&mut self, variant: Variant, ty: ResourceType, said: &Said) {
        let response = match variant {
            Variant::Sotw => {
                let resources = said.names.iter().map(|name| any(ty, name, &said.version)).collect();
                sotw(ty, &said.nonce, &said.version, resources)
            }
            Variant::Delta => {
                let first = self.streams == 1;
                let added = said.names.iter().map(|name| {
                    let fresh = format!("{name}-v{}", said.version);
                    let known = self.versions.entry((ty, name.clone())).or_insert_with(|| fresh.clone());
                    if first {
                        *known = fresh;
                    }
                    resource(ty, name, known, Some(known), 0)
                });
                let removed: Vec<&str> = said.removed.iter().map(String::as_str).collect();
                delta(ty, &said.nonce, &said.version, added.collect(), &removed)
            }
        };
        let update = self.lab.respond(response);
        assert!(update.broken.is_empty());
        self.open.push((ty, said.nonce.clone(), update.id, said.names.clone()));
    }

    /// Does what Envoy must have done before it said this.
    fn follow(&mut self, ty: ResourceType, said: &Said, variant: Variant) {
        let wanted = self.subscribed.entry(ty).or_default();
        let before = wanted.clone();
        match variant {
            Variant::Sotw => *wanted = said.names.iter().cloned().collect(),
            Variant::Delta => {
                wanted.extend(said.names.iter().cloned());
                wanted.retain(|name| !said.removed.contains(name));
            }
        }
        for gone in before.difference(wanted) {
            self.lab.client.unsubscribe(ty, &name(gone));
        }
        for new in wanted.difference(&before) {
            self.lab.client.subscribe(ty, name(new));
        }
        if ty.is_full_state() {
            self.lab.client.subscribe(ty, Interest::Wildcard);
        }
        if self.answered.contains(&said.nonce) && before == *wanted {
            let first = said.names.first().expect("names that are asked for again");
            self.lab.client.refresh(ty, first);
        }
        if let Some(at) = self.open.iter().position(|open| open.0 == ty && open.1 == said.nonce) {
            // Responses of the type that Envoy never answered are decided with the one that it did.
            let due = |(index, open): (usize, &Open)| index <= at && open.0 == ty;
            let keep = |pair: &(usize, &Open)| !due(*pair);
            let rest = self.open.iter().enumerate().filter(keep).map(|(_, open)| open.clone()).collect();
            for (_, nonce, id, names) in self.open.drain(..=at).filter(|open| open.0 == ty) {
                let bad = names.iter().find(|name| name.contains("bad"));
                let verdict = match bad.filter(|_| said.error.is_some() && nonce == said.nonce) {
                    Some(bad) => reject(bad, "refused"),
                    None => Verdict::default(),
                };
                self.lab.client.verdict(id, verdict);
                self.answered.insert(nonce);
            }
            self.open = rest;
        }
        self.lab.run();
    }

    /// Our request of this type.
    fn ours(&mut self, ty: ResourceType) -> Said {
        let position = self.lab.sent.iter().position(|request| said(request).0 == ty);
        let at = position
            .unwrap_or_else(|| panic!("no request for {ty:?} in {:?}; open {:?}", self.lab.sent, self.open));
        said(&self.lab.sent.remove(at)).1
    }
}

/// A request of ours in the form of the transcripts.
fn said(request: &Request) -> (ResourceType, Said) {
    let (url, said) = match request {
        Request::Sotw(it) => {
            let said = Said {
                version: it.version_info.clone(),
                nonce: it.response_nonce.clone(),
                names: it.resource_names.clone(),
                error: it.error_detail.as_ref().map(|status| (status.code, status.message.clone())),
                node: it.node.is_some(),
                ..Said::default()
            };
            (&it.type_url, said)
        }
        Request::Delta(it) => {
            let said = Said {
                nonce: it.response_nonce.clone(),
                names: it.resource_names_subscribe.clone(),
                removed: it.resource_names_unsubscribe.clone(),
                initial: it.initial_resource_versions.clone().into_iter().collect(),
                error: it.error_detail.as_ref().map(|status| (status.code, status.message.clone())),
                node: it.node.is_some(),
                ..Said::default()
            };
            (&it.type_url, said)
        }
    };
    (ResourceType::from_type_url(url).expect("a type of ours"), said)
}

/// In Envoy's order the names of a request mean nothing.
fn sorted(mut said: Said) -> Said {
    said.names.sort();
    said.removed.sort();
    said
}

fn compare(file: &str, at: f64, ty: ResourceType, envoy: &Said, ours: Said, used: &mut usize) {
    let mut expected = sorted(envoy.clone());
    let mut ours = sorted(ours);
    let here = |d: &&(&str, f64, ResourceType, &str)| (d.0, d.1, d.2) == (file, at, ty);
    if let Some((_, _, _, difference)) = DIFFERENCES.iter().find(here) {
        *used += 1;
        let (field, value) = difference.split_once(' ').expect("field and value");
        match field {
            "version" => expected.version = value.to_owned(),
            "initial" => {
                let pairs = value.split(' ').filter_map(|pair| pair.split_once('='));
                expected.initial = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            }
            other => panic!("no field {other}"),
        }
    }
    // Who sends the first message of a stream is a matter of order, which after a reconnect is arbitrary in Envoy.
    ours.node = expected.node;
    if let (Some((_, ours)), Some((_, envoys))) = (&mut ours.error, &expected.error) {
        assert!(ours.contains("bad") && envoys.contains("bad") || envoys.contains("constraint"), "{ours}");
        envoys.clone_into(ours);
    }
    assert_eq!(ours, expected, "{file} at {at}");
}

/// Streams of the aggregated service: one client.
fn replay_aggregated(file: &str, variant: Variant) {
    let mut owner = Owner::new(variant);
    let mut used = 0;
    for (at, event) in transcript(file) {
        match event {
            Event::Step(step) => {
                assert!(owner.lab.sent.is_empty(), "{file} at {at}: Envoy did not say {:?}", owner.lab.sent);
                if step.starts_with("server aborts") {
                    owner.answered.clear();
                    owner.lab.input(Input::Disconnected);
                }
            }
            Event::Open if owner.streams == 0 => {
                owner.lab.client.subscribe(ResourceType::Cluster, Interest::Wildcard);
                owner.lab.run();
                owner.connect();
            }
            Event::Open => owner.connect(),
            Event::End(_) => {}
            Event::Response(_, ty, said) => owner.respond(variant, ty, &said),
            Event::Request(_, ty, envoy) => {
                owner.follow(ty, &envoy, variant);
                let ours = owner.ours(ty);
                compare(file, at, ty, &envoy, ours, &mut used);
            }
        }
    }
    assert!(owner.lab.sent.is_empty(), "{file}: Envoy did not say {:?}", owner.lab.sent);
    assert_eq!(used, DIFFERENCES.iter().filter(|(f, ..)| *f == file).count());
}

#[test]
fn sotw_over_the_aggregated_stream() {
    replay_aggregated("sotw", Variant::Sotw);
}

#[test]
fn sotw_with_bad_resources() {
    replay_aggregated("sotw-failures", Variant::Sotw);
}

#[test]
fn delta_over_the_aggregated_stream() {
    replay_aggregated("delta", Variant::Delta);
}

#[test]
fn delta_with_bad_resources() {
    replay_aggregated("delta-failures", Variant::Delta);
}

/// A client for every type and name, each with its stream.
#[test]
fn sotw_over_separate_streams() {
    let mut owners: Vec<(ResourceType, BTreeSet<String>, Owner)> = Vec::new();
    // Which of them has the stream of this name.
    let mut streams: BTreeMap<String, usize> = BTreeMap::new();
    for (at, event) in transcript("sep") {
        match event {
            Event::Step(step) if step.starts_with("server aborts") => {
                for index in std::mem::take(&mut streams).into_values() {
                    owners[index].2.answered.clear();
                    owners[index].2.lab.input(Input::Disconnected);
                }
            }
            Event::Step(_) | Event::Open => {}
            // Envoy gave the subscription up.
            Event::End(stream) => {
                if let Some(index) = streams.remove(&stream) {
                    owners[index].1.clear();
                }
            }
            Event::Response(stream, ty, said) => {
                owners[streams[&stream]].2.respond(Variant::Sotw, ty, &said);
            }
            Event::Request(stream, ty, envoy) => {
                let names: BTreeSet<String> = envoy.names.iter().cloned().collect();
                let index = *streams.entry(stream).or_insert_with_key(|_| usize::MAX);
                let index = if index != usize::MAX { index } else { adopt(&mut owners, &streams, ty, names) };
                streams.iter_mut().filter(|(_, at)| **at == usize::MAX).for_each(|(_, at)| *at = index);
                let owner = &mut owners[index].2;
                owner.follow(ty, &envoy, Variant::Sotw);
                let ours = owner.ours(ty);
                assert_eq!(ours.node, envoy.node);
                compare("sep", at, ty, &envoy, ours, &mut 0);
                assert!(owner.lab.sent.is_empty());
            }
        }
    }
    assert_eq!(owners.len(), 9);
}

/// The client without a stream that wants this, or a new one.
fn adopt(
    owners: &mut Vec<(ResourceType, BTreeSet<String>, Owner)>,
    streams: &BTreeMap<String, usize>,
    ty: ResourceType,
    names: BTreeSet<String>,
) -> usize {
    let free = |index: usize| !streams.values().any(|taken| *taken == index);
    let known = (0..owners.len()).find(|at| free(*at) && owners[*at].0 == ty && owners[*at].1 == names);
    let index = known.unwrap_or_else(|| {
        let mut owner = Owner::new(Variant::Sotw);
        let interest = names.iter().next().map_or(Interest::Wildcard, |one| name(one));
        owner.lab.client.subscribe(ty, interest);
        owner.lab.run();
        owner.subscribed.insert(ty, names.clone());
        owners.push((ty, names, owner));
        owners.len() - 1
    });
    owners[index].2.connect();
    index
}
