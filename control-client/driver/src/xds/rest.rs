//! One REST request: a `DiscoveryRequest` as JSON, answered with a `DiscoveryResponse` or "not modified".

use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use millrace_ads::ResourceType;
use millrace_ads::source::RestSource;
use millrace_proto::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use millrace_proto::{Format, Message as _, message_to_json};
use tokio::time::timeout;

use super::RESPONSE_BYTES_MAX;
use super::connect::connect;
use super::read_file::response_from;
use crate::dns::SystemResolver;

const REQUEST: &str = "envoy.service.discovery.v3.DiscoveryRequest";

/// A request that ended.
#[derive(Debug)]
pub(super) struct Fetched {
    pub resource_type: ResourceType,
    pub outcome: Outcome,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// 200.
    Response(DiscoveryResponse),
    /// 304.
    NotModified,
    /// No answer within `request_timeout`, another status, or no discovery response. One line.
    Failed(String),
}

/// The path of a type's method (`google.api.http` of the services). VHDS has none.
fn path(ty: ResourceType) -> Option<&'static str> {
    match ty {
        ResourceType::Cluster => Some("/v3/discovery:clusters"),
        ResourceType::Endpoint => Some("/v3/discovery:endpoints"),
        ResourceType::Listener => Some("/v3/discovery:listeners"),
        ResourceType::Route => Some("/v3/discovery:routes"),
        ResourceType::ScopedRoute => Some("/v3/discovery:scoped-routes"),
        ResourceType::Secret => Some("/v3/discovery:secrets"),
        ResourceType::Runtime => Some("/v3/discovery:runtime"),
        ResourceType::ExtensionConfig => Some("/v3/discovery:extension_configs"),
        ResourceType::VirtualHost => None,
    }
}

/// Asks once, over a connection of its own, so that rotated certificates count from the next request on.
pub(super) async fn fetch(
    source: &RestSource,
    resolver: &SystemResolver,
    ty: ResourceType,
    request: &DiscoveryRequest,
) -> Outcome {
    let Some(path) = path(ty) else {
        return Outcome::Failed(format!("REST has no {}", ty.message_name()));
    };
    let failed = |reason: String| Outcome::Failed(format!("POST {path} to {}: {reason}", source.target.name));
    match timeout(source.request_timeout, exchange(source, resolver, path, request)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(reason)) => failed(reason),
        Err(_) => failed(format!("no response within {:?}", source.request_timeout)),
    }
}

async fn exchange(
    source: &RestSource,
    resolver: &SystemResolver,
    path: &str,
    request: &DiscoveryRequest,
) -> Result<Outcome, String> {
    let body = message_to_json(REQUEST, &request.encode_to_vec()).map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, &source.authority)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("millrace/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let stream = connect(&source.target, resolver, b"http/1.1").await.map_err(|error| error.to_string())?;
    let shake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shake.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Outcome::NotModified);
        }
        if status != StatusCode::OK {
            return Err(format!("status {status}"));
        }
        let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => format!("the response is longer than {RESPONSE_BYTES_MAX} bytes"),
            None => error.to_string(),
        })?;
        response_from(Format::Json, &body.to_bytes()).map(Outcome::Response)
    };
    // The connection is driven until the exchange is over, and closed then.
    let driven = async {
        // Its error is that of the exchange, too.
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = exchange => outcome,
        () = driven => Err("the connection is gone".to_owned()),
    }
}
