//! Health discovery (HDS): what subjects are told to check, and what they report.

use millrace_proto::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use millrace_proto::pb::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealthResponse, HealthCheckRequest,
    HealthCheckRequestOrEndpointHealthResponse as Said,
};
use millrace_proto::schema::Message;
use millrace_proto::{Message as _, message_from_json, yaml};

use super::ControlPlane;
use super::record::Event;
use super::side::Kind;

pub(super) const KIND: Kind = Kind {
    path: "health.v3.HealthDiscoveryService/StreamHealthCheck",
    streams: |state| &mut state.health,
    read: |number, bytes| Some(Event::Health(number, Box::new(Said::decode(bytes).ok()?))),
};

impl ControlPlane {
    /// Says what is to be checked, a `HealthCheckSpecifier` as YAML, on streams that are open and on those that come.
    ///
    /// # Panics
    /// When the text does not fit the message: the test is wrong.
    #[track_caller]
    pub fn ask_health(&self, specifier: &str) {
        let schema = Message::by_name("envoy.service.health.v3.HealthCheckSpecifier").expect("a schema");
        let tree = yaml::parse(specifier).expect("YAML");
        let ask = message_from_json(schema, &tree).expect("a specifier");
        self.shared.with(|state| state.health.ask(ask));
    }

    /// Messages after a mark that say nothing.
    pub fn health_silences(&self, mark: usize) -> usize {
        let silent = |event: &Event| matches!(event, Event::Health(_, said) if said.request_type.is_none());
        self.shared.lock().log.iter().skip(mark).filter(|entry| silent(&entry.event)).count()
    }

    fn said(&self, mark: usize) -> Vec<(u64, RequestType)> {
        let said = |event: &Event| match event {
            Event::Health(stream, said) => Some((*stream, said.request_type.clone()?)),
            _ => None,
        };
        self.shared.lock().log.iter().skip(mark).filter_map(|entry| said(&entry.event)).collect()
    }

    /// First messages of streams of health discovery after a mark, with the numbers of their streams.
    pub fn health_requests(&self, mark: usize) -> Vec<(u64, HealthCheckRequest)> {
        let request = |(stream, said)| match said {
            RequestType::HealthCheckRequest(request) => Some((stream, request)),
            RequestType::EndpointHealthResponse(_) => None,
        };
        self.said(mark).into_iter().filter_map(request).collect()
    }

    /// Reports after a mark.
    pub fn health_reports(&self, mark: usize) -> Vec<EndpointHealthResponse> {
        let report = |(_, said)| match said {
            RequestType::EndpointHealthResponse(report) => Some(report),
            RequestType::HealthCheckRequest(_) => None,
        };
        self.said(mark).into_iter().filter_map(report).collect()
    }
}

/// A message in short, for the record.
pub(super) fn describe(said: &Said) -> String {
    match &said.request_type {
        Some(RequestType::HealthCheckRequest(_)) => "introduces itself".to_owned(),
        Some(RequestType::EndpointHealthResponse(report)) => {
            let one = |cluster: &ClusterEndpointsHealth| {
                let all = cluster.locality_endpoints_health.iter().flat_map(|one| &one.endpoints_health);
                (cluster.cluster_name.clone(), all.map(|one| one.health_status().as_str_name()).collect())
            };
            let all: Vec<(String, Vec<&str>)> = report.cluster_endpoints_health.iter().map(one).collect();
            format!("{all:?}")
        }
        None => "says nothing".to_owned(),
    }
}
