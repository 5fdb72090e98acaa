//! The gRPC services that answer about services and policies; every answer is a watch that never changes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use linkerd2_proxy_api::destination::destination_server::Destination;
use linkerd2_proxy_api::destination::{DestinationProfile, GetDestination, Update};
use linkerd2_proxy_api::inbound::inbound_server_policies_server::InboundServerPolicies;
use linkerd2_proxy_api::inbound::{PortSpec, Server};
use linkerd2_proxy_api::outbound::outbound_policies_server::OutboundPolicies;
use linkerd2_proxy_api::outbound::{OutboundPolicy, TrafficSpec, traffic_spec::Target};
use tonic::codegen::tokio_stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::service::Service;
use crate::{inbound, outbound};

type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sends one value and then holds the stream open.
fn watch<T: Send + 'static>(value: T) -> Response<Watch<T>> {
    Response::new(Box::pin(tokio_stream::once(Ok(value)).chain(tokio_stream::pending())))
}

/// Every service, by whatever a proxy may ask for.
pub(crate) struct Directory {
    services: Vec<Service>,
}

impl Directory {
    pub(crate) fn new(services: Vec<Service>) -> Arc<Self> {
        Arc::new(Self { services })
    }

    /// Logs what was asked and what was found.
    fn find(&self, what: &str, is: impl Fn(&Service) -> bool) -> Result<&Service, Status> {
        let found = self.services.iter().find(|service| is(service));
        eprintln!("{what} -> {}", found.map_or("not found", |service| &service.name));
        found.ok_or_else(|| Status::not_found(what))
    }

    fn by_target(&self, spec: TrafficSpec) -> Result<&Service, Status> {
        match spec.target {
            Some(Target::Addr(address)) => {
                let address = SocketAddr::try_from(address)
                    .map_err(|e| Status::invalid_argument(format!("target address: {e}")))?;
                self.find(&format!("policy {address}"), |service| service.vip == address)
            }
            Some(Target::Authority(name)) => {
                self.find(&format!("policy {name}"), |service| service.authority() == name)
            }
            None => Err(Status::invalid_argument("no target")),
        }
    }
}

#[tonic::async_trait]
impl Destination for Directory {
    type GetStream = Watch<Update>;
    type GetProfileStream = Watch<DestinationProfile>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let path = &request.get_ref().path;
        let service = self.find(&format!("endpoints {path}"), |s| s.authority() == *path)?;
        Ok(watch(service.endpoints()))
    }

    async fn get_profile(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        let path = &request.get_ref().path;
        let named = |s: &Service| s.authority() == *path || s.vip.to_string() == *path;
        Ok(watch(self.find(&format!("profile {path}"), named)?.profile()))
    }
}

#[tonic::async_trait]
impl OutboundPolicies for Directory {
    type WatchStream = Watch<OutboundPolicy>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        Ok(Response::new(outbound::policy(self.by_target(request.into_inner())?)))
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(watch(outbound::policy(self.by_target(request.into_inner())?)))
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for Directory {
    type WatchPortStream = Watch<Server>;

    async fn get_port(&self, _: Request<PortSpec>) -> Result<Response<Server>, Status> {
        Ok(Response::new(inbound::policy()))
    }

    async fn watch_port(
        &self,
        request: Request<PortSpec>,
    ) -> Result<Response<Self::WatchPortStream>, Status> {
        eprintln!("server policy {}", request.get_ref().port);
        Ok(watch(inbound::policy()))
    }
}
