//! The kinds of xDS resources and the resources themselves, read from YAML.

use std::time::Duration;

use millrace_proto::pb::google::protobuf::Any;
use millrace_proto::schema::Message;
use millrace_proto::{message_from_json, yaml};

/// A kind of xDS resource; the order is the one in which changes are sent unless a script says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// RTDS.
    Runtime,
    /// SDS.
    Secret,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoint,
    /// ECDS.
    Extension,
    /// LDS.
    Listener,
    /// SRDS.
    ScopedRoute,
    /// RDS.
    Route,
    /// VHDS.
    VirtualHost,
}

impl Type {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Runtime,
        Self::Secret,
        Self::Cluster,
        Self::Endpoint,
        Self::Extension,
        Self::Listener,
        Self::ScopedRoute,
        Self::Route,
        Self::VirtualHost,
    ];

    /// The full name of the message.
    pub fn message(self) -> &'static str {
        match self {
            Self::Runtime => "envoy.service.runtime.v3.Runtime",
            Self::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Extension => "envoy.config.core.v3.TypedExtensionConfig",
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::ScopedRoute => "envoy.config.route.v3.ScopedRouteConfiguration",
            Self::Route => "envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "envoy.config.route.v3.VirtualHost",
        }
    }

    /// The type URL on the wire.
    pub fn url(self) -> String {
        format!("type.googleapis.com/{}", self.message())
    }

    /// The kind that a type URL names.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.url() == url)
    }

    /// True where a state-of-the-world response is complete, so that an absent resource is removed.
    pub fn is_full_state(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::ScopedRoute)
    }

    /// The field that holds the name, which all kinds have as number 1.
    fn name_field(self) -> &'static str {
        if self == Self::Endpoint { "cluster_name" } else { "name" }
    }
}

/// One resource to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its kind.
    pub ty: Type,
    /// Its name.
    pub name: String,
    /// The message.
    pub body: Any,
    /// `Resource.version`; the control plane counts when there is none.
    pub version: Option<String>,
    /// `Resource.ttl`.
    pub ttl: Option<Duration>,
}

impl Resource {
    /// These bytes as a resource, whatever they are.
    pub fn from_bytes(ty: Type, name: &str, bytes: Vec<u8>) -> Self {
        let body = Any { type_url: ty.url(), value: bytes };
        Self { ty, name: name.into(), body, version: None, ttl: None }
    }

    /// With this version instead of a counted one.
    #[must_use]
    pub fn at_version(mut self, version: &str) -> Self {
        self.version = Some(version.into());
        self
    }

    /// With a time to live.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// A resource from YAML, a map or a list with one map in it.
///
/// # Panics
/// When the text is not YAML or does not fit the message: the test is wrong.
#[track_caller]
pub fn from_yaml(ty: Type, text: &str) -> Resource {
    match try_from_yaml(ty, text) {
        Ok(resource) => resource,
        Err(reason) => unreachable!("{} in a test: {reason}\n{text}", ty.message()),
    }
}

/// As [`from_yaml`], with the reason instead of a panic.
pub fn try_from_yaml(ty: Type, text: &str) -> Result<Resource, String> {
    let mut tree = yaml::parse(text).map_err(|e| e.to_string())?;
    if let Some(list) = tree.as_array_mut() {
        tree = list.pop().ok_or("an empty list")?;
    }
    let name = tree.get(ty.name_field()).and_then(|n| n.as_str()).unwrap_or_default().to_owned();
    let schema = Message::by_name(ty.message()).ok_or("a type without schema")?;
    let bytes = message_from_json(schema, &tree).map_err(|e| e.to_string())?;
    Ok(Resource::from_bytes(ty, &name, bytes))
}
