//! Single resources, as a control plane sends them: wire bytes in, model out.
//!
//! Every function treats its message as dynamic ([`Source::Dynamic`]), never panics whatever the bytes, and changes
//! nothing but the context's ids when it refuses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::{Cluster, Listener, LocalityEndpoints, Scope, VirtualHost};
use millrace_proto::pb::envoy::config::cluster::v3 as clusters;
use millrace_proto::pb::envoy::config::endpoint::v3 as endpoints;
use millrace_proto::pb::envoy::config::listener::v3 as listeners;
use millrace_proto::pb::envoy::config::route::v3 as routes;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as secrets;
use millrace_proto::pb::envoy::service::health::v3::HealthCheckSpecifier;
use millrace_proto::pb::envoy::service::runtime::v3 as runtimes;
use millrace_proto::{Message, Path, schema, set_apart, validate};

use crate::context::{Context, Source};
use crate::error::{Rejection, Unsupported};
use crate::runtime::RuntimeValue;
use crate::secrets::{LoadedSecret, SecretKind};
use crate::source::Subscription;
use crate::{
    cluster as cluster_, fields, health_discovery, listener as listener_, route, runtime as runtime_,
    transport_socket,
};

pub use crate::cluster::{
    AssignmentRecords, ChangedAssignment, EarlierAssignment, LoadAssignment, SentAssignment, retired_scopes,
};
pub use crate::health_discovery::HealthAssignment;
pub use crate::route::RouteTable;

/// Type URL of listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type URL of clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type URL of route tables.
pub const ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Type URL of virtual hosts.
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
/// Type URL of scopes.
pub const SCOPED_ROUTE_CONFIGURATION: &str =
    "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// Type URL of load assignments.
pub const CLUSTER_LOAD_ASSIGNMENT: &str =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Type URL of runtime layers.
pub const RUNTIME: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";

/// Type URL of what a control plane wants checked. It is no resource, and comes on a stream of its own.
pub const HEALTH_CHECK_SPECIFIER: &str = "type.googleapis.com/envoy.service.health.v3.HealthCheckSpecifier";

/// Type URL of secrets.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The number of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;

/// A resource that can be served.
#[derive(Clone, Debug)]
pub struct Translated<T> {
    /// What it became.
    pub value: T,
    /// Fields without effect that no earlier resource had.
    pub unsupported: Vec<Unsupported>,
}

/// `envoy.service.runtime.v3.Runtime`: what one RTDS layer says. [`Runtime::set_rtds`](crate::Runtime::set_rtds)
/// puts it in force.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeValues {
    /// `name`.
    pub name: Arc<str>,
    /// `layer`, by dotted key.
    pub values: BTreeMap<String, RuntimeValue>,
}

/// The three gates in a row.
fn translated<M: Message + Default, T>(
    type_url: &str,
    bytes: &[u8],
    cx: &mut Context,
    translate: impl FnOnce(&M, &mut Context) -> Result<T, Rejection>,
) -> Result<Translated<T>, Rejection> {
    guarded(type_url, bytes, cx, |cx| translate(&decoded::<M>(type_url, bytes)?, cx))
}

/// The first two gates, and whatever decodes the message.
fn guarded<T>(
    type_url: &str,
    bytes: &[u8],
    cx: &mut Context,
    translate: impl FnOnce(&mut Context) -> Result<T, Rejection>,
) -> Result<Translated<T>, Rejection> {
    cx.source = Source::Dynamic;
    cx.unsupported.clear();
    match check(type_url, bytes, cx).and_then(|()| translate(cx)) {
        Ok(value) => Ok(Translated { value, unsupported: cx.take_reports() }),
        Err(rejection) => {
            cx.unsupported.clear();
            Err(rejection)
        }
    }
}

fn check(type_url: &str, bytes: &[u8], cx: &mut Context) -> Result<(), Rejection> {
    let root = Path::default();
    let message = schema::Message::by_type_url(type_url)
        .ok_or_else(|| Rejection::new(&root, format!("this build has no schema of {type_url}")))?;
    validate::validate(message, bytes, &root)?;
    fields::check(message, bytes, &root, cx)
}

fn decoded<M: Message + Default>(type_url: &str, bytes: &[u8]) -> Result<M, Rejection> {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    M::decode(bytes).map_err(|error| Rejection::new(&Path::default(), format!("not a {name}: {error}")))
}

/// Checks and translates a listener. Filter chains that are the same in `previous`, the version in force, stay the
/// very same (`Arc::ptr_eq`), so that their connections go on.
///
/// # Errors
/// The first thing that cannot be served as written, with its path inside the resource.
pub fn listener(
    bytes: &[u8],
    previous: Option<&Listener>,
    cx: &mut Context,
) -> Result<Translated<Listener>, Rejection> {
    translated(LISTENER, bytes, cx, |typed: &listeners::Listener, cx| {
        listener_::listener(typed, previous, &Path::default(), cx)
    })
}

/// Checks and translates a cluster. Endpoints whose addresses `previous`, the version in force, has too keep their
/// scopes; [`retired_scopes`] names the others. An EDS cluster has no localities.
///
/// # Errors
/// As [`listener`].
pub fn cluster(
    bytes: &[u8],
    previous: Option<&Cluster>,
    cx: &mut Context,
) -> Result<Translated<Cluster>, Rejection> {
    translated(CLUSTER, bytes, cx, |typed: &clusters::Cluster, cx| {
        cluster_::cluster(typed, previous, &Path::default(), cx)
    })
}

/// Checks and translates a route table that came on its own, so that unknown clusters are no error.
///
/// # Errors
/// As [`listener`].
pub fn route_configuration(bytes: &[u8], cx: &mut Context) -> Result<Translated<RouteTable>, Rejection> {
    guarded(ROUTE_CONFIGURATION, bytes, cx, |cx| {
        // A table may hold tens of thousands of virtual hosts, and a decoded one is many times its bytes: one at a
        // time is decoded.
        let (hosts, rest) = set_apart(bytes, VIRTUAL_HOSTS)
            .map_err(|error| Rejection::new(&Path::default(), error.to_string()))?;
        let typed: routes::RouteConfiguration = decoded(ROUTE_CONFIGURATION, &rest)?;
        let hosts = hosts.into_iter().map(|host| decoded(ROUTE_CONFIGURATION, host).map(Cow::Owned));
        RouteTable::with(&typed, hosts, &Path::default(), cx)
    })
}

/// Checks and translates a virtual host that came on its own, by the rules of its table.
///
/// # Errors
/// As [`listener`].
pub fn virtual_host(
    bytes: &[u8],
    table: &RouteTable,
    cx: &mut Context,
) -> Result<Translated<VirtualHost>, Rejection> {
    translated(VIRTUAL_HOST, bytes, cx, |typed: &routes::VirtualHost, cx| table.host(typed, cx))
}

/// Checks and translates a scope that came over SRDS; `tables` is where the tables come from that scopes name.
///
/// # Errors
/// As [`listener`].
pub fn scoped_route(
    bytes: &[u8],
    tables: Subscription,
    cx: &mut Context,
) -> Result<Translated<Scope>, Rejection> {
    translated(SCOPED_ROUTE_CONFIGURATION, bytes, cx, |typed: &routes::ScopedRouteConfiguration, cx| {
        route::scope(typed, tables, cx)
    })
}

/// Checks and translates the endpoints of an EDS cluster. Endpoints whose addresses the cluster has now keep their
/// scopes.
///
/// # Errors
/// As [`listener`]; also an assignment for another cluster.
pub fn load_assignment(
    bytes: &[u8],
    cluster: &Cluster,
    cx: &mut Context,
) -> Result<Translated<LoadAssignment>, Rejection> {
    load_assignment_after(bytes, cluster, &cluster.localities, cx)
}

/// The same, with the endpoints that keep their scopes named apart.
///
/// # Errors
/// As [`load_assignment`].
pub fn load_assignment_after(
    bytes: &[u8],
    cluster: &Cluster,
    previous: &[LocalityEndpoints],
    cx: &mut Context,
) -> Result<Translated<LoadAssignment>, Rejection> {
    translated(CLUSTER_LOAD_ASSIGNMENT, bytes, cx, |typed: &endpoints::ClusterLoadAssignment, cx| {
        cluster_::load_assignment(typed, cluster, previous, cx)
    })
}

/// The bytes of an assignment without endpoints.
pub fn empty_load_assignment(service: &str) -> Vec<u8> {
    endpoints::ClusterLoadAssignment { cluster_name: service.to_owned(), ..Default::default() }
        .encode_to_vec()
}

/// The same as [`load_assignment`], when it can be made of what an earlier assignment became. Only records that differ
/// are looked at. `None` when there is anything to say about them, or when little is the same: all have to be read then.
pub fn changed_assignment(
    sent: &SentAssignment<'_>,
    earlier: EarlierAssignment<'_>,
    cluster: &Cluster,
    cx: &mut Context,
) -> Option<ChangedAssignment> {
    let changes = cluster_::AssignmentChanges::of(sent, earlier)?;
    let read = load_assignment_after(changes.bytes(), cluster, changes.gone(), cx).ok()?;
    if read.unsupported.is_empty() {
        return changes.merge(earlier.made, read.value, &cx.registry);
    }
    None
}

/// Checks and translates a secret that came over SDS, and reads the files that it names; `kind` is what those who
/// name the secret expect.
///
/// # Errors
/// As [`listener`]; also a secret of another kind, and a pair that does not fit. No reason holds any of a key.
pub fn secret(
    bytes: &[u8],
    kind: SecretKind,
    cx: &mut Context,
) -> Result<Translated<LoadedSecret>, Rejection> {
    translated(SECRET, bytes, cx, |typed: &secrets::Secret, cx| transport_socket::secret(typed, kind, cx))
}

/// Checks and translates what a control plane wants checked (HDS).
///
/// # Errors
/// As [`listener`].
pub fn health_check_specifier(
    bytes: &[u8],
    cx: &mut Context,
) -> Result<Translated<HealthAssignment>, Rejection> {
    translated(HEALTH_CHECK_SPECIFIER, bytes, cx, |typed: &HealthCheckSpecifier, cx| {
        health_discovery::specifier(typed, cx)
    })
}

/// Checks and translates a runtime layer.
///
/// # Errors
/// As [`listener`].
pub fn runtime(bytes: &[u8], cx: &mut Context) -> Result<Translated<RuntimeValues>, Rejection> {
    translated(RUNTIME, bytes, cx, |typed: &runtimes::Runtime, _| {
        let values = typed.layer.as_ref().map(runtime_::flat).unwrap_or_default();
        Ok(RuntimeValues { name: typed.name.as_str().into(), values })
    })
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rejection_tests.rs"]
mod rejections;

#[cfg(test)]
#[path = "assignment_tests.rs"]
mod assignments;
