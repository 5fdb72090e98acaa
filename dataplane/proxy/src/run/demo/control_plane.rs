//! The demo's control plane: incremental ADS over the resources of a file, with routes that change every few seconds.
//! Enough to watch configuration arrive; not a control plane for anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::time::Duration;

use millrace_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use millrace_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use millrace_proto::pb::google::protobuf::Any;
use millrace_proto::{message_from_json, schema, yaml};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

const RESOURCES: &str = include_str!("resources.yaml");
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// How long the routes of one version last.
const CHANGE_EVERY: Duration = Duration::from_secs(5);

/// Starts the control plane on a free port, on a thread of its own.
///
/// # Errors
/// No free port or no thread.
pub fn start(blue: u16, green: u16) -> Result<SocketAddr, String> {
    let failed = |error: &dyn std::fmt::Display| format!("demo control plane: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| failed(&e))?;
    listener.set_nonblocking(true).map_err(|e| failed(&e))?;
    let address = listener.local_addr().map_err(|e| failed(&e))?;
    let plane =
        Plane { text: RESOURCES.replace("{blue}", &blue.to_string()).replace("{green}", &green.to_string()) };
    plane.resources(1)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
    let serve = move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let incoming = TcpIncoming::from(listener);
            let service = AggregatedDiscoveryServiceServer::new(plane);
            let served = tonic::transport::Server::builder().serve_with_incoming(service, incoming).await;
            served.map_err(std::io::Error::other)
        })
    };
    std::thread::Builder::new().name("demo_xds".to_owned()).spawn(serve).map_err(|e| failed(&e))?;
    Ok(address)
}

#[derive(Clone)]
struct Plane {
    /// The file with the upstreams' ports.
    text: String,
}

impl Plane {
    /// The resources of one version by type URL.
    fn resources(&self, version: u64) -> Result<BTreeMap<String, Vec<Resource>>, String> {
        let colour = if version.is_multiple_of(2) { "green" } else { "blue" };
        let text = self.text.replace("{colour}", colour).replace("{version}", &version.to_string());
        let tree = yaml::parse(&text).map_err(|error| error.to_string())?;
        let mut all = BTreeMap::new();
        for (name, list) in tree.as_object().into_iter().flatten() {
            let message = schema::Message::by_name(name).ok_or_else(|| format!("no message {name}"))?;
            let type_url = format!("type.googleapis.com/{name}");
            let one = |value: &Value| -> Result<Resource, String> {
                let bytes = message_from_json(message, value).map_err(|error| error.to_string())?;
                let name = value.get("name").or_else(|| value.get("cluster_name")).and_then(Value::as_str);
                Ok(Resource {
                    name: name.unwrap_or_default().to_owned(),
                    version: version.to_string(),
                    resource: Some(Any { type_url: type_url.clone(), value: bytes }),
                    ..Resource::default()
                })
            };
            let resources = list.as_array().into_iter().flatten().map(one).collect::<Result<_, _>>()?;
            all.insert(type_url, resources);
        }
        Ok(all)
    }

    /// Serves one stream until it ends.
    async fn serve(
        self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        answers: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) {
        let mut version = 1;
        let mut nonce = 0_u64;
        let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut change = tokio::time::interval(CHANGE_EVERY);
        change.reset();
        loop {
            let (type_url, only) = tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    let is_first = !wanted.contains_key(&request.type_url);
                    let names = wanted.entry(request.type_url.clone()).or_default();
                    names.extend(request.resource_names_subscribe.iter().cloned());
                    if !is_first && request.resource_names_subscribe.is_empty() {
                        continue;
                    }
                    (request.type_url, request.resource_names_subscribe)
                }
                _ = change.tick() => {
                    version += 1;
                    (ROUTES.to_owned(), Vec::new())
                }
            };
            let Some(names) = wanted.get(&type_url) else { continue };
            let Ok(mut all) = self.resources(version) else { return };
            let mut resources = all.remove(&type_url).unwrap_or_default();
            resources.retain(|resource| names.is_empty() || names.contains(&resource.name));
            resources.retain(|resource| only.is_empty() || only.contains(&resource.name));
            nonce += 1;
            let response = DeltaDiscoveryResponse {
                system_version_info: version.to_string(),
                resources,
                type_url,
                nonce: nonce.to_string(),
                ..DeltaDiscoveryResponse::default()
            };
            if answers.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the demo speaks incremental xDS only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, answers) = mpsc::channel(4);
        tokio::spawn(self.clone().serve(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_every_resource() {
        let plane = Plane { text: RESOURCES.replace("{blue}", "1").replace("{green}", "2") };
        let (first, second) = (plane.resources(1).unwrap(), plane.resources(2).unwrap());
        let counts: Vec<usize> = first.values().map(Vec::len).collect();
        assert_eq!(counts, [4, 3, 2, 1], "clusters, assignments, listeners, routes");
        assert_ne!(first[ROUTES][0].resource, second[ROUTES][0].resource);
        assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    }
}
