//! What passed over the wire, in order and with times, for assertions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use millrace_proto::pb::envoy::service::health::v3::HealthCheckRequestOrEndpointHealthResponse;
use millrace_proto::pb::envoy::service::load_stats::v3::LoadStatsRequest;

use super::resource::Type;

/// `google.rpc.Status` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// `code`; Envoy sends 13.
    pub code: i32,
    /// `message`.
    pub message: String,
}

/// A discovery request of either protocol.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Number of the stream, from 1.
    pub stream: u64,
    /// True on an incremental stream.
    pub delta: bool,
    /// The kind that is asked for; `None` for one that is not known here.
    pub ty: Option<Type>,
    /// `type_url`.
    pub type_url: String,
    /// `node`, when it was sent.
    pub node: Option<Node>,
    /// `version_info`; empty in delta.
    pub version: String,
    /// `response_nonce`.
    pub nonce: String,
    /// `resource_names`; empty in delta.
    pub names: BTreeSet<String>,
    /// `resource_names_subscribe`; empty in state of the world.
    pub subscribe: BTreeSet<String>,
    /// `resource_names_unsubscribe`.
    pub unsubscribe: BTreeSet<String>,
    /// `initial_resource_versions`.
    pub initial_versions: BTreeMap<String, String>,
    /// `error_detail`.
    pub error: Option<Error>,
    /// True for the first one of its type on its stream.
    pub first: bool,
    /// The version of the response that this request is the first to accept.
    pub accepts: Option<String>,
}

impl Request {
    /// True when it accepts a response.
    pub fn is_ack(&self) -> bool {
        self.accepts.is_some()
    }

    /// True when it refuses a response.
    pub fn is_nack(&self) -> bool {
        self.error.is_some()
    }

    /// The text of the refusal, empty when there is none.
    pub fn reason(&self) -> &str {
        self.error.as_ref().map_or("", |e| &e.message)
    }

    /// True for this kind.
    pub fn is(&self, ty: Type) -> bool {
        self.ty == Some(ty)
    }

    pub(super) fn sotw(stream: u64, message: DiscoveryRequest) -> Self {
        let error = message.error_detail.map(|e| Error { code: e.code, message: e.message });
        Self {
            stream,
            ty: Type::from_url(&message.type_url),
            type_url: message.type_url,
            node: message.node,
            version: message.version_info,
            nonce: message.response_nonce,
            names: message.resource_names.into_iter().collect(),
            error,
            ..Self::default()
        }
    }

    pub(super) fn delta(stream: u64, message: DeltaDiscoveryRequest) -> Self {
        let error = message.error_detail.map(|e| Error { code: e.code, message: e.message });
        Self {
            stream,
            delta: true,
            ty: Type::from_url(&message.type_url),
            type_url: message.type_url,
            node: message.node,
            nonce: message.response_nonce,
            subscribe: message.resource_names_subscribe.into_iter().collect(),
            unsubscribe: message.resource_names_unsubscribe.into_iter().collect(),
            initial_versions: message.initial_resource_versions.into_iter().collect(),
            error,
            ..Self::default()
        }
    }
}

/// A response that left here.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Number of the stream.
    pub stream: u64,
    /// Its kind; `None` for raw bytes of a script.
    pub ty: Option<Type>,
    /// `version_info` or `system_version_info`.
    pub version: String,
    /// `nonce`.
    pub nonce: String,
    /// Names of the resources in it.
    pub names: Vec<String>,
    /// `removed_resources`.
    pub removed: Vec<String>,
}

/// A stream that was opened.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Its number.
    pub stream: u64,
    /// The connection's number, from 1.
    pub connection: u64,
    /// `StreamAggregatedResources`, `DeltaClusters` and so on.
    pub method: String,
    /// The request's headers (initial metadata), in order, names in lower case.
    pub metadata: Vec<(String, String)>,
    /// DER of the client's certificate, when it presented one.
    pub client_certificate: Option<Vec<u8>>,
}

/// One entry of the record.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection was accepted.
    Connected(u64),
    /// A connection ended.
    Disconnected(u64),
    /// A stream was opened.
    Opened(Opened),
    /// A request arrived.
    Request(Box<Request>),
    /// A load report arrived on this stream.
    Loads(u64, Box<LoadStatsRequest>),
    /// What a stream of health discovery says.
    Health(u64, Box<HealthCheckRequestOrEndpointHealthResponse>),
    /// Bytes arrived that are no request.
    Malformed(u64),
    /// A response left.
    Response(Response),
    /// A stream ended, by either side.
    Closed(u64),
}

/// An entry and when it happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Since the control plane was started.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// The request, if it is one.
    pub fn request(&self) -> Option<&Request> {
        match &self.event {
            Event::Request(request) => Some(request),
            _ => None,
        }
    }

    /// The response, if it is one.
    pub fn response(&self) -> Option<&Response> {
        match &self.event {
            Event::Response(response) => Some(response),
            _ => None,
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.3} ", self.at.as_secs_f64())?;
        match &self.event {
            Event::Connected(n) => write!(f, "connection {n} accepted"),
            Event::Disconnected(n) => write!(f, "connection {n} ended"),
            Event::Opened(o) => {
                write!(f, "stream {} opened on connection {}: {}", o.stream, o.connection, o.method)
            }
            Event::Loads(n, report) => write!(f, "<- {n} loads {:?}", report.cluster_stats),
            Event::Health(n, said) => write!(f, "<- {n} health: {}", super::health::describe(said)),
            Event::Malformed(n) => write!(f, "stream {n} sent what is no request"),
            Event::Closed(n) => write!(f, "stream {n} ended"),
            Event::Response(r) => write!(
                f,
                "-> {} {:?} version {:?} nonce {:?} names {:?} removed {:?}",
                r.stream, r.ty, r.version, r.nonce, r.names, r.removed
            ),
            Event::Request(r) => {
                let answer = if r.is_nack() {
                    "NACK "
                } else if r.is_ack() {
                    "ACK "
                } else {
                    ""
                };
                let kind = r.ty.map_or_else(|| r.type_url.clone(), |ty| format!("{ty:?}"));
                write!(f, "<- {} {answer}{kind} version {:?} nonce {:?}", r.stream, r.version, r.nonce)?;
                if r.delta {
                    write!(f, " +{:?} -{:?} has {:?}", r.subscribe, r.unsubscribe, r.initial_versions)?;
                } else {
                    write!(f, " names {:?}", r.names)?;
                }
                if r.is_nack() { write!(f, ": {}", r.reason()) } else { Ok(()) }
            }
        }
    }
}
