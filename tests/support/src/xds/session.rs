//! One stream: what its client asked for, and what it was told.

use std::collections::{BTreeMap, BTreeSet};

use millrace_proto::Message as _;
use millrace_proto::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tokio::sync::mpsc::UnboundedSender;
use tonic::Status;
use tonic::codegen::Bytes;

use super::record::{Event, Request};
use super::resource::Type;
use super::state::State;

/// What a stream says next; an error ends it.
pub(super) type Out = Result<Bytes, Status>;

/// A stream that is open.
pub(super) struct Session {
    pub connection: u64,
    pub delta: bool,
    /// The only kind that a service of its own serves.
    pub only: Option<Type>,
    pub out: UnboundedSender<Out>,
    pub kinds: BTreeMap<Type, Subscription>,
    pub nonces: u64,
}

/// What a stream asks of one kind.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub wildcard: bool,
    /// Names were given once, so that no names mean none any more.
    named: bool,
    pub names: BTreeSet<String>,
    /// Versions of what the client has, as far as it was told.
    pub sent: BTreeMap<String, String>,
    /// Names that the client was told do not exist.
    pub told_missing: BTreeSet<String>,
    /// Nonce of the last response.
    pub nonce: String,
    /// Versions of the responses that were neither accepted nor refused, by nonce.
    pub open: BTreeMap<String, String>,
    /// Version of the last response.
    pub version: String,
    /// An answer waits until the script or the client lets it go; true when it must be sent even if nothing changed.
    pub owed: Option<bool>,
}

impl Subscription {
    pub fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Takes the names of a state-of-the-world request; true when a new one is among them.
    fn take_names(&mut self, ty: Type, request: &Request) -> bool {
        let names: BTreeSet<String> = request.names.iter().filter(|n| *n != "*").cloned().collect();
        self.named |= !request.names.is_empty();
        self.wildcard = request.names.contains("*") || (!self.named && ty.is_full_state());
        let grew = names.iter().any(|n| !self.names.contains(n));
        if !self.wildcard {
            self.sent.retain(|name, _| names.contains(name));
        }
        self.names = names;
        grew
    }

    /// Takes the changes of an incremental request.
    fn take_changes(&mut self, request: &Request) {
        if request.first {
            self.wildcard = request.subscribe.is_empty();
            self.sent = request.initial_versions.clone();
        }
        for name in &request.subscribe {
            if name == "*" {
                self.wildcard = true;
                continue;
            }
            self.names.insert(name.clone());
            self.told_missing.remove(name);
            if !request.initial_versions.contains_key(name) {
                self.sent.remove(name);
            }
        }
        for name in &request.unsubscribe {
            if name == "*" {
                self.wildcard = false;
            }
            self.names.remove(name);
            if !self.wildcard {
                self.sent.remove(name);
            }
        }
    }

    /// Notes the answer to a response, and which version it accepts.
    fn take_answer(&mut self, request: &mut Request) {
        let Some(version) = self.open.get(&request.nonce).cloned() else { return };
        // In state of the world a change of names repeats the nonce under the version that is in force.
        let answers = request.delta || request.is_nack() || request.version == version;
        if !answers {
            return;
        }
        self.open.remove(&request.nonce);
        if !request.is_nack() {
            request.accepts = Some(version);
        }
    }
}

impl State {
    /// Handles the bytes of one request.
    pub fn receive(&mut self, stream: u64, bytes: &[u8]) {
        let Some(session) = self.streams.get(&stream) else { return };
        let (delta, only) = (session.delta, session.only);
        let parsed = if delta {
            DeltaDiscoveryRequest::decode(bytes).map(|m| Request::delta(stream, m))
        } else {
            DiscoveryRequest::decode(bytes).map(|m| Request::sotw(stream, m))
        };
        let Ok(mut request) = parsed else { return self.record(Event::Malformed(stream)) };
        request.ty = request.ty.or(only);
        let Some(ty) = request.ty else { return self.record(Event::Request(Box::new(request))) };
        let Some(session) = self.streams.get_mut(&stream) else { return };
        request.first = !session.kinds.contains_key(&ty);
        let subscription = session.kinds.entry(ty).or_default();
        let stale = !delta && !request.nonce.is_empty() && request.nonce != subscription.nonce;
        subscription.take_answer(&mut request);
        if stale {
            return self.record(Event::Request(Box::new(request)));
        }
        let wanted = if delta {
            subscription.take_changes(&request);
            request.first || !request.subscribe.is_empty()
        } else {
            let grew = subscription.take_names(ty, &request);
            let repeated = request.accepts.is_none() && !request.is_nack();
            request.first || grew || (repeated && self.options.answer_repeats)
        };
        let force = if delta { request.first && subscription.wildcard } else { wanted };
        let known = request.first && !delta && request.version == self.store.version(ty);
        let owed = subscription.owed.take();
        let insist = request.is_nack() && self.script.insist.contains(&ty);
        self.record(Event::Request(Box::new(request)));
        if insist {
            self.store.touch(ty);
            self.push(stream, ty, true);
        } else if known && self.options.trust_versions {
            self.assume_sent(stream, ty);
        } else if wanted || owed.is_some() {
            self.push(stream, ty, force || owed == Some(true));
        }
    }

    /// Believes a client that says it has the current version.
    fn assume_sent(&mut self, stream: u64, ty: Type) {
        let version = self.store.version(ty);
        let Some(kind) = self.store.kind(ty) else { return };
        let Some(subscription) = self.streams.get_mut(&stream).and_then(|s| s.kinds.get_mut(&ty)) else {
            return;
        };
        subscription.version = version;
        for (name, (_, version)) in &kind.resources {
            if subscription.wants(name) {
                subscription.sent.insert(name.clone(), version.clone());
            }
        }
    }
}
