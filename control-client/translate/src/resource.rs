//! Single resources, as a control plane sends them: wire bytes in, model out.

use millrace_config::{Cluster, Listener, RouteConfiguration};
use millrace_proto::pb::envoy::config::cluster::v3 as clusters;
use millrace_proto::pb::envoy::config::listener::v3 as listeners;
use millrace_proto::pb::envoy::config::route::v3 as routes;
use millrace_proto::{Message, Path, schema, validate};

use crate::context::Context;
use crate::error::Rejection;
use crate::{cluster as cluster_, fields, listener as listener_, route};

/// Type URL of listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type URL of clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type URL of route tables.
pub const ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

fn checked<T: Message + Default>(type_url: &str, bytes: &[u8], cx: &mut Context) -> Result<T, Rejection> {
    let root = Path::default();
    let message = schema::Message::by_type_url(type_url)
        .ok_or_else(|| Rejection::new(&root, format!("this build has no schema of {type_url}")))?;
    validate::validate(message, bytes, &root)?;
    fields::check(message, bytes, &root, cx)?;
    T::decode(bytes).map_err(|error| Rejection::new(&root, format!("not a {}: {error}", message.name())))
}

/// Checks and translates a listener.
///
/// # Errors
/// The first thing that cannot be served as written, with its path inside the resource.
pub fn listener(bytes: &[u8], cx: &mut Context) -> Result<Listener, Rejection> {
    let typed: listeners::Listener = checked(LISTENER, bytes, cx)?;
    listener_::listener(&typed, &Path::default(), cx)
}

/// Checks and translates a cluster.
///
/// # Errors
/// As [`listener`].
pub fn cluster(bytes: &[u8], cx: &mut Context) -> Result<Cluster, Rejection> {
    let typed: clusters::Cluster = checked(CLUSTER, bytes, cx)?;
    cluster_::cluster(&typed, &Path::default(), cx)
}

/// Checks and translates a route table that came on its own, so that unknown clusters are no error.
///
/// # Errors
/// As [`listener`].
pub fn route_configuration(bytes: &[u8], cx: &mut Context) -> Result<RouteConfiguration, Rejection> {
    let typed: routes::RouteConfiguration = checked(ROUTE_CONFIGURATION, bytes, cx)?;
    route::route_configuration(&typed, false, &Path::default(), cx)
}
