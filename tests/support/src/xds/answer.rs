//! What a subscriber of a kind is told, by the rules of the two protocols, or by a script.

use std::time::Duration;

use millrace_proto::Message as _;
use millrace_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource as Wrapped,
};
use millrace_proto::pb::google::protobuf::{Any, Duration as Ttl};
use tonic::codegen::Bytes;

use super::Options;
use super::record::{Event, Response};
use super::resource::{Resource, Type};
use super::script::Answer;
use super::session::Subscription;
use super::state::State;
use super::store::Kind;
use crate::rng::Rng;

/// One response in the making.
#[derive(Default)]
struct Draft {
    version: String,
    nonce: String,
    type_url: String,
    resources: Vec<(Resource, String)>,
    removed: Vec<String>,
}

impl Draft {
    fn encode(&self, delta: bool) -> Vec<u8> {
        if delta {
            let resources = self.resources.iter().map(|(r, v)| wrapped(r, v, true)).collect();
            DeltaDiscoveryResponse {
                system_version_info: self.version.clone(),
                resources,
                type_url: self.type_url.clone(),
                removed_resources: self.removed.clone(),
                nonce: self.nonce.clone(),
                ..DeltaDiscoveryResponse::default()
            }
            .encode_to_vec()
        } else {
            DiscoveryResponse {
                version_info: self.version.clone(),
                resources: self.resources.iter().map(|(r, v)| plain(r, v)).collect(),
                type_url: self.type_url.clone(),
                nonce: self.nonce.clone(),
                ..DiscoveryResponse::default()
            }
            .encode_to_vec()
        }
    }

    /// Breaks the response as the script says.
    fn spoil(&mut self, answer: &Answer) {
        match answer {
            Answer::EnvelopeOfType(url) => self.type_url.clone_from(url),
            Answer::WithoutNonce => self.nonce.clear(),
            Answer::AtVersion(version) => self.version.clone_from(version),
            Answer::Duplicated => self.resources.extend(self.resources.clone()),
            Answer::ResourcesOfType(url) => {
                self.resources.iter_mut().for_each(|(r, _)| r.body.type_url.clone_from(url));
            }
            Answer::Garbage { seed, len } => {
                let mut rng = Rng::new(*seed);
                self.resources.iter_mut().for_each(|(r, _)| r.body.value = rng.bytes(*len));
            }
            Answer::Padded(len) => self.resources.iter_mut().for_each(|(r, _)| pad(&mut r.body.value, *len)),
            Answer::Raw(_) | Answer::End(..) | Answer::Drop | Answer::Silence => {}
        }
    }
}

/// Field 9999 of wire type 2, which no xDS message has.
fn pad(bytes: &mut Vec<u8>, len: usize) {
    bytes.extend_from_slice(&[0xfa, 0xf0, 0x04]);
    let mut rest = len;
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap_or(0));
    bytes.resize(bytes.len() + len, b'x');
}

fn ttl(duration: Duration) -> Ttl {
    Ttl {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn wrapped(resource: &Resource, version: &str, with_body: bool) -> Wrapped {
    Wrapped {
        name: resource.name.clone(),
        version: version.into(),
        resource: with_body.then(|| resource.body.clone()),
        ttl: resource.ttl.map(ttl),
        ..Wrapped::default()
    }
}

/// In state of the world only a time to live needs the wrapper.
fn plain(resource: &Resource, version: &str) -> Any {
    if resource.ttl.is_none() { resource.body.clone() } else { in_any(&wrapped(resource, version, true)) }
}

fn in_any(wrapped: &Wrapped) -> Any {
    Any {
        type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".into(),
        value: wrapped.encode_to_vec(),
    }
}

/// What is new to this subscriber; `None` when nothing is.
fn draft(
    ty: Type,
    kind: Option<&Kind>,
    subscription: &Subscription,
    delta: bool,
    force: bool,
    options: &Options,
) -> Option<Draft> {
    let empty = Kind::default();
    let kind = kind.unwrap_or(&empty);
    let version = if kind.version.is_empty() { "0" } else { &kind.version };
    let wanted = kind.resources.iter().filter(|(name, _)| subscription.wants(name));
    let is_new = |name: &str, version: &str| subscription.sent.get(name).is_none_or(|v| v != version);
    let all: Vec<_> = wanted.map(|(_, (r, v))| (r.clone(), v.clone())).collect();
    let fresh: Vec<_> = all.iter().filter(|(r, v)| is_new(&r.name, v)).cloned().collect();
    let gone = subscription.sent.keys().filter(|n| !kind.resources.contains_key(*n)).cloned();
    let mut draft = Draft { version: version.into(), type_url: ty.url(), ..Draft::default() };
    if delta {
        draft.removed = gone.collect();
        if options.missing_is_removed {
            let missing = |n: &&String| !kind.resources.contains_key(*n);
            let untold = |n: &&String| !subscription.told_missing.contains(*n) && !draft.removed.contains(*n);
            let more: Vec<String> =
                subscription.names.iter().filter(missing).filter(untold).cloned().collect();
            draft.removed.extend(more);
        }
        if options.unversioned {
            draft.resources = all.into_iter().map(|(r, _)| (r, String::new())).collect();
            return Some(draft);
        }
        draft.resources = fresh;
        return (force || !draft.resources.is_empty() || !draft.removed.is_empty()).then_some(draft);
    }
    if ty.is_full_state() {
        draft.resources = all;
        return (force || subscription.version != version).then_some(draft);
    }
    draft.resources = if force || !options.partial_updates { all } else { fresh.clone() };
    ((force && !draft.resources.is_empty()) || !fresh.is_empty()).then_some(draft)
}

impl State {
    /// Sends one stream what it lacks of one kind; everything when `force` is set.
    pub fn push(&mut self, stream: u64, ty: Type, force: bool) {
        let Some(session) = self.streams.get_mut(&stream) else { return };
        let delta = session.delta;
        let Some(subscription) = session.kinds.get_mut(&ty) else { return };
        let Some(mut draft) = draft(ty, self.store.kind(ty), subscription, delta, force, &self.options)
        else {
            return;
        };
        let waits = self.options.wait_for_ack && !subscription.open.is_empty();
        if waits || self.script.held.contains(&ty) {
            subscription.owed = Some(force || subscription.owed == Some(true));
            return;
        }
        session.nonces += 1;
        draft.nonce = format!("{stream}.{}", session.nonces);
        let mut bytes = None;
        match self.script.next(ty) {
            None => {}
            Some(Answer::Silence) => return,
            Some(Answer::End(code, message)) => return self.end_stream(stream, code, &message),
            Some(Answer::Drop) => {
                let connection = session.connection;
                return self.drop_connection(connection);
            }
            Some(Answer::Raw(raw)) => bytes = Some(raw),
            Some(other) => draft.spoil(&other),
        }
        note_sent(subscription, &draft);
        let bytes = bytes.unwrap_or_else(|| draft.encode(delta));
        let response = Response {
            stream,
            ty: Some(ty),
            version: draft.version,
            nonce: draft.nonce,
            names: draft.resources.into_iter().map(|(r, _)| r.name).collect(),
            removed: draft.removed,
        };
        self.send(stream, bytes, response);
    }

    /// Sends bytes as they are and records them.
    pub fn send(&mut self, stream: u64, bytes: Vec<u8>, response: Response) {
        if let Some(session) = self.streams.get(&stream) {
            // A client that is gone shows as a closed stream.
            let _ = session.out.send(Ok(Bytes::from(bytes)));
            self.record(Event::Response(response));
        }
    }

    /// Renews the time to live of a resource without sending it.
    pub fn heartbeat(&mut self, ty: Type, name: &str) {
        let Some((resource, version)) = self.store.kind(ty).and_then(|k| k.resources.get(name)).cloned()
        else {
            return;
        };
        let beat = wrapped(&resource, &version, false);
        self.send_one(ty, |s| s.wants(name), &beat, in_any(&beat));
    }

    /// Sends a resource to every subscriber of its kind.
    pub fn send_unasked(&mut self, resource: &Resource) {
        let whole = wrapped(resource, "unasked", true);
        self.send_one(resource.ty, |_| true, &whole, resource.body.clone());
    }

    /// Sends one resource as a response of its own, in the form of each protocol.
    fn send_one(&mut self, ty: Type, to: impl Fn(&Subscription) -> bool, delta: &Wrapped, sotw: Any) {
        let version = self.store.version(ty);
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            let Some(session) = self.streams.get_mut(&stream) else { continue };
            let Some(subscription) = session.kinds.get_mut(&ty).filter(|s| to(s)) else { continue };
            session.nonces += 1;
            let nonce = format!("{stream}.{}", session.nonces);
            subscription.nonce.clone_from(&nonce);
            subscription.version.clone_from(&version);
            subscription.open.insert(nonce.clone(), version.clone());
            let bytes = if session.delta {
                DeltaDiscoveryResponse {
                    system_version_info: version.clone(),
                    resources: vec![delta.clone()],
                    type_url: ty.url(),
                    nonce: nonce.clone(),
                    ..DeltaDiscoveryResponse::default()
                }
                .encode_to_vec()
            } else {
                DiscoveryResponse {
                    version_info: version.clone(),
                    resources: vec![sotw.clone()],
                    type_url: ty.url(),
                    nonce: nonce.clone(),
                    ..DiscoveryResponse::default()
                }
                .encode_to_vec()
            };
            let (version, names) = (version.clone(), vec![delta.name.clone()]);
            let response = Response { stream, ty: Some(ty), version, nonce, names, ..Response::default() };
            self.send(stream, bytes, response);
        }
    }
}

fn note_sent(subscription: &mut Subscription, draft: &Draft) {
    for (resource, version) in &draft.resources {
        subscription.sent.insert(resource.name.clone(), version.clone());
    }
    for name in &draft.removed {
        subscription.sent.remove(name);
        subscription.told_missing.insert(name.clone());
    }
    for (resource, _) in &draft.resources {
        subscription.told_missing.remove(&resource.name);
    }
    subscription.version.clone_from(&draft.version);
    subscription.nonce.clone_from(&draft.nonce);
    subscription.open.insert(draft.nonce.clone(), draft.version.clone());
}
