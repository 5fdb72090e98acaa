//! One stream of xDS: the aggregated one or that of a single type, of either variant.

use std::collections::{BTreeMap, VecDeque};

use millrace_base::{Rng, Time};
use millrace_proto::pb::envoy::config::core::v3::{ControlPlane, Node};
use millrace_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use crate::backoff::{Backoff, Failover};
use crate::bucket::Bucket;
use crate::limits::IDENTIFIER_BYTES_MAX;
use crate::source::Variant;
use crate::tracker::{Answers, Tracker};
use crate::{Interest, ResourceType, Update, UpdateId, Verdict, delta, incoming, nack, sotw};

/// What a [`Client`] is made of.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Which protocol.
    pub variant: Variant,
    /// Who we are.
    pub node: Node,
    /// `set_node_on_first_message_only`; otherwise every request carries the node.
    pub node_on_first_message_only: bool,
    /// Services to connect to: 1, or 2 with one to fail over to.
    pub services: usize,
    /// `rate_limit_settings`: tokens, and thousandths of a token that come back each second.
    pub rate_limit: Option<(u32, u64)>,
    /// For the back-off.
    pub seed: u64,
}

/// What happened to the stream.
#[derive(Clone, Debug)]
pub enum Input {
    /// The stream that [`Output::Connect`] asked for takes requests. Servers may send their response headers only
    /// with their first message, which waits for our request: do not wait for the headers.
    Connected,
    /// A message.
    Response(Response),
    /// There was no connection, or the stream has ended, for whatever reason.
    Disconnected,
}

/// A message of the server.
#[derive(Clone, Debug)]
pub enum Response {
    /// State of the world.
    Sotw(DiscoveryResponse),
    /// Incremental.
    Delta(DeltaDiscoveryResponse),
}

/// What the owner is to do.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, never stored in numbers")]
pub enum Output {
    /// Open a stream to this service (0: primary, 1: failover) and report [`Input::Connected`] or
    /// [`Input::Disconnected`].
    Connect {
        /// Index into `grpc_services`.
        service: usize,
    },
    /// Send this on the stream.
    Send(Request),
    /// Apply this and give a verdict, unless its id is [`UpdateId::NO_VERDICT`].
    Update(Update),
    /// `control_plane.connected_state` has changed.
    State(ConnectedState),
}

/// A message to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// State of the world.
    Sotw(DiscoveryRequest),
    /// Incremental.
    Delta(DeltaDiscoveryRequest),
}

/// The gauge `control_plane.connected_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectedState {
    /// No stream.
    #[default]
    None = 0,
    /// To the primary.
    Primary = 1,
    /// To the failover.
    Failover = 2,
}

/// The order of first requests: that in which control planes push.
const FIRST_REQUESTS: [ResourceType; 9] = [
    ResourceType::Cluster,
    ResourceType::Endpoint,
    ResourceType::Listener,
    ResourceType::ScopedRoute,
    ResourceType::Route,
    ResourceType::VirtualHost,
    ResourceType::Secret,
    ResourceType::ExtensionConfig,
    ResourceType::Runtime,
];

/// The protocol of one stream. After every call of another method, call [`Client::poll`] until it returns `None`, and
/// again at [`Client::deadline`]. It connects once something is subscribed to, and stays connected.
#[derive(Debug)]
pub struct Client {
    variant: Variant,
    node: Node,
    node_on_first_message_only: bool,
    node_sent: bool,
    rng: Rng,
    link: Link,
    backoff: Backoff,
    failover: Failover,
    bucket: Option<Bucket>,
    types: BTreeMap<ResourceType, Subscription>,
    /// Types with something to say, in the order in which they came to have it.
    due: VecDeque<ResourceType>,
    outputs: VecDeque<Output>,
    last_id: u64,
    ignored: u64,
    identifier: String,
}

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// None; not before this time.
    Down(Time),
    Connecting,
    Up,
}

/// One type that is or was subscribed to.
#[derive(Debug)]
struct Subscription {
    tracker: Tracker,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Sotw(sotw::Stream),
    Delta(delta::Stream),
}

impl Client {
    /// A client that wants nothing yet.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            variant: options.variant,
            node: options.node,
            node_on_first_message_only: options.node_on_first_message_only,
            node_sent: false,
            rng: Rng::new(options.seed),
            link: Link::Down(Time::ZERO),
            backoff: Backoff::new(),
            failover: Failover::new(options.services),
            bucket: options.rate_limit.map(|(tokens, refill)| Bucket::new(tokens, refill)),
            types: BTreeMap::new(),
            due: VecDeque::new(),
            outputs: VecDeque::new(),
            last_id: UpdateId::NO_VERDICT.0,
            ignored: 0,
            identifier: String::new(),
        }
    }

    /// Wants something; subscriptions are a set, so that a second one of the same changes nothing. False when the
    /// type has [`NAMES_MAX`](crate::limits::NAMES_MAX) names already.
    pub fn subscribe(&mut self, ty: ResourceType, interest: Interest) -> bool {
        let variant = self.variant;
        let subscription = self.types.entry(ty).or_insert_with(|| Subscription::new(ty, variant));
        let added = subscription.tracker.wanted.add(interest);
        self.speak(ty);
        added
    }

    /// No longer wants something. What is not covered by another subscription is forgotten here, without an update.
    pub fn unsubscribe(&mut self, ty: ResourceType, interest: &Interest) {
        if let Some(subscription) = self.types.get_mut(&ty)
            && subscription.tracker.unsubscribe(interest)
        {
            self.speak(ty);
        }
    }

    /// Asks again for a name that is subscribed to, as Envoy does for the endpoints of a cluster that changed. The
    /// incremental variant has no such request.
    pub fn refresh(&mut self, ty: ResourceType, name: &str) {
        if self.variant == Variant::Sotw
            && let Some(subscription) = self.types.get_mut(&ty)
            && subscription.tracker.wanted.covers(name)
        {
            subscription.tracker.wanted.repeat();
            self.speak(ty);
        }
    }

    /// What became of an update; it may come much later, and counts even when the stream is another by then. Each
    /// update gets one: answers of a type leave in the order of its responses.
    pub fn verdict(&mut self, id: UpdateId, verdict: Verdict) {
        let waiting = self.types.iter_mut().find(|(_, subscription)| subscription.tracker.awaits(id));
        if let Some((&ty, subscription)) = waiting {
            subscription.tracker.verdict(id, verdict);
            // What was subscribed to meanwhile goes first: RDS before the ACK of LDS, as Envoy does.
            self.due.retain(|due| *due != ty);
            self.speak(ty);
        } else if id != UpdateId::NO_VERDICT && id.0 <= self.last_id {
            for subscription in self.types.values_mut() {
                subscription.tracker.verdict(id, verdict.clone());
            }
        }
    }

    /// Takes in what happened to the stream. What does not fit the state is ignored: it comes from an older stream.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Connected if self.link == Link::Connecting => self.connected(),
            Input::Disconnected if !matches!(self.link, Link::Down(_)) => self.disconnected(now),
            Input::Response(response) if self.link == Link::Up => self.response(now, response),
            Input::Connected | Input::Disconnected | Input::Response(_) => {}
        }
    }

    /// What to do next.
    pub fn poll(&mut self, now: Time) -> Option<Output> {
        for subscription in self.types.values_mut() {
            self.outputs.extend(subscription.tracker.expire(now).map(Output::Update));
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        match self.link {
            Link::Down(until) if until <= now && self.wants_anything() => {
                self.link = Link::Connecting;
                Some(Output::Connect { service: self.failover.current() })
            }
            Link::Up => self.next_request(now).map(Output::Send),
            Link::Down(_) | Link::Connecting => None,
        }
    }

    /// When to call [`Self::poll`] though nothing happened.
    pub fn deadline(&self) -> Option<Time> {
        let connect = match self.link {
            Link::Down(until) if self.wants_anything() => Some(until),
            Link::Down(_) | Link::Connecting | Link::Up => None,
        };
        let up = self.link == Link::Up;
        let token = self.bucket.as_ref().and_then(Bucket::ready_at).filter(|_| up);
        let trackers = || self.types.values().map(|subscription| &subscription.tracker);
        let expiry = trackers().filter_map(Tracker::expires_at).min();
        // Without a token nothing leaves, whatever its own time is.
        let may_leave = up && token.is_none();
        let nack = trackers().filter_map(Tracker::answer_at).filter(|at| may_leave && *at > Time::ZERO).min();
        [connect, token, expiry, nack].into_iter().flatten().min()
    }

    /// `control_plane.rate_limit_enforced`.
    pub fn rate_limit_enforced(&self) -> u64 {
        self.bucket.as_ref().map_or(0, |bucket| bucket.enforced)
    }

    /// `control_plane.pending_requests`: types with something to say.
    pub fn pending_requests(&self) -> usize {
        self.due.len()
    }

    /// `control_plane.identifier` of the last response.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// Responses that were dropped without an answer: of an unknown type or one never asked for, or of the other
    /// variant. Envoy logs these and carries on.
    pub fn ignored_responses(&self) -> u64 {
        self.ignored
    }

    fn wants_anything(&self) -> bool {
        self.types.values().any(|subscription| !subscription.tracker.wanted.is_empty())
    }

    fn speak(&mut self, ty: ResourceType) {
        if self.link == Link::Up && !self.due.contains(&ty) {
            self.due.push_back(ty);
        }
    }

    fn connected(&mut self) {
        self.link = Link::Up;
        self.node_sent = false;
        let primary = self.failover.current() == 0;
        let state = if primary { ConnectedState::Primary } else { ConnectedState::Failover };
        self.outputs.push_back(Output::State(state));
        if self.failover.has_moved() {
            self.types.values_mut().for_each(|subscription| subscription.stream.meets_another());
        }
        self.due = FIRST_REQUESTS.into_iter().filter(|ty| self.types.contains_key(ty)).collect();
    }

    fn disconnected(&mut self, now: Time) {
        if self.link == Link::Up {
            self.outputs.push_back(Output::State(ConnectedState::None));
        }
        self.link = Link::Down(now + self.backoff.next(&mut self.rng));
        self.failover.failed();
        self.due.clear();
        if let Some(bucket) = &mut self.bucket {
            bucket.unblock();
        }
        for subscription in self.types.values_mut() {
            subscription.tracker.disconnected();
            subscription.stream = Stream::new(self.variant);
        }
    }

    fn response(&mut self, now: Time, response: Response) {
        self.backoff.reset();
        self.failover.answered();
        let (type_url, nonce, control_plane) = match &response {
            Response::Sotw(it) => (&it.type_url, &it.nonce, &it.control_plane),
            Response::Delta(it) => (&it.type_url, &it.nonce, &it.control_plane),
        };
        if let Some(ControlPlane { identifier }) = control_plane {
            prefix_into(identifier, &mut self.identifier);
        }
        let ty = ResourceType::from_type_url(type_url);
        let subscription = ty.and_then(|ty| self.types.get_mut(&ty));
        let (Some(ty), Some(subscription)) = (ty, subscription.filter(|s| s.speaks(&response))) else {
            self.ignored += 1;
            return;
        };
        let nonce = nonce.clone();
        let (batch, complete) = match response {
            Response::Sotw(it) => (incoming::sotw(ty, it), ty.is_full_state()),
            Response::Delta(it) => (incoming::delta(ty, it), false),
        };
        self.last_id += 1;
        let id = UpdateId(self.last_id);
        let update = subscription.tracker.take(now, id, Some(nonce), batch, complete);
        if subscription.tracker.wanted.is_empty() {
            // Nothing in it is ours any longer: nobody needs to see it.
            subscription.tracker.verdict(id, Verdict::default());
        } else {
            self.outputs.push_back(Output::Update(update));
        }
        self.speak(ty);
    }

    fn next_request(&mut self, now: Time) -> Option<Request> {
        // A NACK that had to wait may have its time now.
        for (ty, subscription) in &self.types {
            if subscription.ready(now) && !self.due.contains(ty) {
                self.due.push_back(*ty);
            }
        }
        loop {
            let ty = *self.due.front()?;
            let Some(subscription) = self.types.get_mut(&ty).filter(|one| one.ready(now)) else {
                self.due.pop_front();
                continue;
            };
            if let Some(bucket) = &mut self.bucket
                && !bucket.take(now)
            {
                return None;
            }
            let node = (!self.node_sent || !self.node_on_first_message_only).then(|| self.node.clone());
            self.node_sent = true;
            let request = subscription.request(now, node);
            self.due.pop_front();
            if subscription.ready(now) {
                self.due.push_back(ty);
            }
            return Some(request);
        }
    }
}

impl Subscription {
    fn new(ty: ResourceType, variant: Variant) -> Self {
        let policy = match variant {
            Variant::Sotw => Answers::Newest,
            Variant::Delta => Answers::Each,
        };
        Self { tracker: Tracker::new(ty, policy), stream: Stream::new(variant) }
    }

    fn ready(&self, now: Time) -> bool {
        match &self.stream {
            Stream::Sotw(stream) => stream.ready(&self.tracker, now),
            Stream::Delta(stream) => stream.ready(&self.tracker, now),
        }
    }

    /// The response is of our variant, and of a type that was asked for on this stream.
    fn speaks(&self, response: &Response) -> bool {
        match (&self.stream, response) {
            (Stream::Sotw(stream), Response::Sotw(_)) => stream.started(),
            (Stream::Delta(stream), Response::Delta(_)) => stream.started(),
            (Stream::Sotw(_), Response::Delta(_)) | (Stream::Delta(_), Response::Sotw(_)) => false,
        }
    }

    fn request(&mut self, now: Time, node: Option<Node>) -> Request {
        let type_url = self.tracker.resource_type().type_url();
        match &mut self.stream {
            Stream::Sotw(stream) => {
                Request::Sotw(DiscoveryRequest { node, ..stream.next(&mut self.tracker, now, type_url) })
            }
            Stream::Delta(stream) => Request::Delta(DeltaDiscoveryRequest {
                node,
                ..stream.next(&mut self.tracker, now, type_url)
            }),
        }
    }
}

impl Stream {
    fn new(variant: Variant) -> Self {
        match variant {
            Variant::Sotw => Self::Sotw(sotw::Stream::default()),
            Variant::Delta => Self::Delta(delta::Stream::default()),
        }
    }

    /// It leads to another control plane than the one that sent what is known. In state of the world Envoy names the
    /// version all the same.
    fn meets_another(&mut self) {
        match self {
            Self::Sotw(_) => {}
            Self::Delta(stream) => stream.meets_another(),
        }
    }
}

/// Keeps the identifier within its bound.
fn prefix_into(identifier: &str, kept: &mut String) {
    kept.clear();
    kept.push_str(nack::prefix(identifier, IDENTIFIER_BYTES_MAX));
}
