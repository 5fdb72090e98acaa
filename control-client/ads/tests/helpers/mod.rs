//! Messages of a control plane and a driver without a socket, for the tests of this crate.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::panic, reason = "test helpers")]

use std::sync::Arc;

use millrace_ads::source::Variant;
use millrace_ads::{
    Client, ClientOptions, ConnectedState, Input, Interest, Output, Rejected, Request, ResourceType,
    Response, Update, Verdict,
};
use millrace_base::Time;
use millrace_proto::Message;
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use millrace_proto::pb::google::protobuf::{Any, Duration};

pub const WRAPPER_URL: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// A message whose field 1 is `name`; `content` makes it differ.
pub fn body(name: &str, content: &str) -> Vec<u8> {
    let mut bytes = vec![0x0a];
    for (index, text) in [name, content].into_iter().enumerate() {
        if index == 1 {
            bytes.push(0x7a);
        }
        let mut len = text.len();
        while len >= 0x80 {
            bytes.push(len as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

pub fn any(ty: ResourceType, name: &str, content: &str) -> Any {
    Any { type_url: ty.type_url(), value: body(name, content) }
}

/// A resource with name, version and, unless it is a heartbeat, a body.
pub fn resource(ty: ResourceType, name: &str, version: &str, content: Option<&str>, ttl: i64) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: content.map(|content| any(ty, name, content)),
        ttl: (ttl != 0).then_some(Duration { seconds: ttl, nanos: 0 }),
        ..Resource::default()
    }
}

pub fn wrapped(resource: &Resource) -> Any {
    Any { type_url: WRAPPER_URL.to_owned(), value: resource.encode_to_vec() }
}

pub fn sotw(ty: ResourceType, nonce: &str, version: &str, resources: Vec<Any>) -> Response {
    Response::Sotw(DiscoveryResponse {
        version_info: version.to_owned(),
        resources,
        type_url: ty.type_url(),
        nonce: nonce.to_owned(),
        ..DiscoveryResponse::default()
    })
}

pub fn delta(
    ty: ResourceType,
    nonce: &str,
    version: &str,
    added: Vec<Resource>,
    removed: &[&str],
) -> Response {
    Response::Delta(DeltaDiscoveryResponse {
        system_version_info: version.to_owned(),
        resources: added,
        type_url: ty.type_url(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        nonce: nonce.to_owned(),
        ..DeltaDiscoveryResponse::default()
    })
}

pub fn name(name: &str) -> Interest {
    Interest::Name(name.into())
}

pub fn reject(name: &str, reason: &str) -> Verdict {
    Verdict { rejected: vec![Rejected { name: name.into(), reason: reason.to_owned() }] }
}

pub fn options(variant: Variant) -> ClientOptions {
    ClientOptions {
        variant,
        node: Node { id: "n".to_owned(), ..Node::default() },
        node_on_first_message_only: true,
        services: 1,
        rate_limit: None,
        seed: 1,
    }
}

/// A client with everything that came out of it.
pub struct Lab {
    pub client: Client,
    pub now: Time,
    pub connects: Vec<usize>,
    pub sent: Vec<Request>,
    pub updates: Vec<Update>,
    pub states: Vec<ConnectedState>,
}

impl Lab {
    pub fn new(options: ClientOptions) -> Self {
        Self {
            client: Client::new(options),
            now: Time(1_000_000_000),
            connects: Vec::new(),
            sent: Vec::new(),
            updates: Vec::new(),
            states: Vec::new(),
        }
    }

    /// Subscribed and connected; the first requests are in `sent`.
    pub fn connected(variant: Variant, interests: &[(ResourceType, Interest)]) -> Self {
        let mut lab = Self::new(options(variant));
        for (ty, interest) in interests {
            assert!(lab.client.subscribe(*ty, interest.clone()));
        }
        lab.run();
        assert_eq!(lab.connects, [0]);
        lab.input(Input::Connected);
        lab
    }

    pub fn run(&mut self) {
        while let Some(output) = self.client.poll(self.now) {
            match output {
                Output::Connect { service } => self.connects.push(service),
                Output::Send(request) => self.sent.push(request),
                Output::Update(update) => self.updates.push(update),
                Output::State(state) => self.states.push(state),
            }
        }
    }

    pub fn input(&mut self, input: Input) {
        self.client.handle(self.now, input);
        self.run();
    }

    /// Hands a response in and returns the update that comes of it.
    pub fn respond(&mut self, response: Response) -> Update {
        self.input(Input::Response(response));
        self.updates.pop().expect("an update")
    }

    pub fn verdict(&mut self, update: &Update, verdict: Verdict) {
        self.client.verdict(update.id, verdict);
        self.run();
    }

    pub fn accept(&mut self, update: &Update) {
        self.verdict(update, Verdict::default());
    }

    /// Loses the stream and gets another.
    pub fn reconnect(&mut self) {
        self.input(Input::Disconnected);
        self.wait();
        self.input(Input::Connected);
    }

    /// Lets time pass up to the deadline.
    pub fn wait(&mut self) {
        self.now = self.client.deadline().expect("a deadline").max(self.now);
        self.run();
    }

    /// The only request since the last look.
    pub fn sotw(&mut self) -> DiscoveryRequest {
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        match self.sent.pop() {
            Some(Request::Sotw(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// As [`Self::sotw`].
    pub fn delta(&mut self) -> DeltaDiscoveryRequest {
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        match self.sent.pop() {
            Some(Request::Delta(request)) => request,
            other => panic!("{other:?}"),
        }
    }
}

/// The names of an update: changed, removed, unchanged, broken.
pub fn names(update: &Update) -> [Vec<&str>; 4] {
    fn strs(names: &[Arc<str>]) -> Vec<&str> {
        names.iter().map(|name| &**name).collect()
    }
    [
        update.changed.iter().map(|resource| &*resource.name).collect(),
        strs(&update.removed),
        strs(&update.unchanged),
        update.broken.iter().map(|broken| &*broken.name).collect(),
    ]
}
