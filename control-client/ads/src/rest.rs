//! xDS over REST: one request per type every `refresh_delay`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

use crate::tracker::{Answers, Tracker};
use crate::{Interest, ResourceType, Update, UpdateId, Verdict, incoming};

/// What a [`RestClient`] is made of.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// Who we are.
    pub node: Node,
    /// `refresh_delay`. As with Envoy the time from one response to the next request is drawn from once to twice it.
    pub refresh_delay: Duration,
    /// For the jitter.
    pub seed: u64,
}

/// What became of a [`RestOutput::Fetch`].
#[derive(Clone, Debug)]
pub enum RestInput {
    /// Status 200. `type_url` of the response may be empty.
    Response(ResourceType, DiscoveryResponse),
    /// Status 304: nothing has changed.
    NotModified(ResourceType),
    /// No answer, another status, or a body that cannot be read. It is tried again after the refresh delay.
    Failed(ResourceType),
}

/// What the owner is to do.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, never stored in numbers")]
pub enum RestOutput {
    /// POST this to the type's path and report the outcome.
    Fetch(ResourceType, DiscoveryRequest),
    /// Apply this and give a verdict, unless its id is [`UpdateId::NO_VERDICT`].
    Update(Update),
}

/// The polling of a REST control plane; used as [`Client`](crate::Client) is. There is no nonce and no NACK: a
/// request carries the last version that was accepted as a whole.
#[derive(Debug)]
pub struct RestClient {
    node: Node,
    refresh_delay: Duration,
    rng: Rng,
    types: BTreeMap<ResourceType, Poller>,
    outputs: VecDeque<RestOutput>,
    last_id: u64,
}

#[derive(Debug)]
struct Poller {
    tracker: Tracker,
    in_flight: bool,
    next: Time,
}

impl Poller {
    /// When the next request is due: at once when other names are wanted than were asked for last.
    fn due(&self) -> Option<Time> {
        let idle = !self.in_flight && !self.tracker.wanted.is_empty();
        idle.then(|| if self.tracker.wanted.list_changed() { Time::ZERO } else { self.next })
    }
}

impl RestClient {
    /// A client that wants nothing yet.
    pub fn new(options: RestOptions) -> Self {
        Self {
            node: options.node,
            refresh_delay: options.refresh_delay,
            rng: Rng::new(options.seed),
            types: BTreeMap::new(),
            outputs: VecDeque::new(),
            last_id: UpdateId::NO_VERDICT.0,
        }
    }

    /// As [`Client::subscribe`](crate::Client::subscribe).
    pub fn subscribe(&mut self, ty: ResourceType, interest: Interest) -> bool {
        let poller = self.types.entry(ty).or_insert_with(|| Poller {
            tracker: Tracker::new(ty, Answers::Newest),
            in_flight: false,
            next: Time::ZERO,
        });
        poller.tracker.wanted.add(interest)
    }

    /// As [`Client::unsubscribe`](crate::Client::unsubscribe).
    pub fn unsubscribe(&mut self, ty: ResourceType, interest: &Interest) {
        if let Some(poller) = self.types.get_mut(&ty) {
            poller.tracker.unsubscribe(interest);
        }
    }

    /// As [`Client::verdict`](crate::Client::verdict).
    pub fn verdict(&mut self, id: UpdateId, verdict: Verdict) {
        let waiting = self.types.values_mut().find(|poller| poller.tracker.awaits(id));
        if let Some(poller) = waiting {
            poller.tracker.verdict(id, verdict);
        } else if id != UpdateId::NO_VERDICT && id.0 <= self.last_id {
            for poller in self.types.values_mut() {
                poller.tracker.verdict(id, verdict.clone());
            }
        }
    }

    /// Takes in what became of a request.
    pub fn handle(&mut self, now: Time, input: RestInput) {
        let ty = match &input {
            RestInput::Response(ty, _) | RestInput::NotModified(ty) | RestInput::Failed(ty) => *ty,
        };
        let Some(poller) = self.types.get_mut(&ty).filter(|poller| poller.in_flight) else { return };
        poller.in_flight = false;
        let delay = u64::try_from(self.refresh_delay.as_nanos()).unwrap_or(u64::MAX);
        poller.next = now + self.refresh_delay + Duration::from_nanos(self.rng.below(delay));
        if let RestInput::Response(_, response) = input
            && !poller.tracker.wanted.is_empty()
        {
            self.last_id += 1;
            let batch = incoming::sotw(ty, response);
            let update = poller.tracker.take(now, UpdateId(self.last_id), None, batch, ty.is_full_state());
            self.outputs.push_back(RestOutput::Update(update));
        }
    }

    /// What to do next; call until it returns `None`.
    pub fn poll(&mut self, now: Time) -> Option<RestOutput> {
        for poller in self.types.values_mut() {
            self.outputs.extend(poller.tracker.expire(now).map(RestOutput::Update));
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let (&ty, poller) =
            self.types.iter_mut().find(|(_, poller)| poller.due().is_some_and(|due| due <= now))?;
        poller.in_flight = true;
        let request = DiscoveryRequest {
            version_info: poller.tracker.version().to_owned(),
            node: Some(self.node.clone()),
            resource_names: poller.tracker.wanted.list(),
            type_url: ty.type_url(),
            ..DiscoveryRequest::default()
        };
        Some(RestOutput::Fetch(ty, request))
    }

    /// When to call [`Self::poll`] though nothing happened.
    pub fn deadline(&self) -> Option<Time> {
        self.types.values().flat_map(|poller| [poller.due(), poller.tracker.expires_at()]).flatten().min()
    }
}
