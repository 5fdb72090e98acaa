//! The kinds of resources that an xDS server sends.

/// In the order in which changes are applied so that nothing refers to what is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// RTDS.
    Runtime,
    /// SDS.
    Secret,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoint,
    /// ECDS.
    ExtensionConfig,
    /// LDS.
    Listener,
    /// SRDS.
    ScopedRoute,
    /// RDS.
    Route,
    /// VHDS.
    VirtualHost,
}

impl ResourceType {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Runtime,
        Self::Secret,
        Self::Cluster,
        Self::Endpoint,
        Self::ExtensionConfig,
        Self::Listener,
        Self::ScopedRoute,
        Self::Route,
        Self::VirtualHost,
    ];

    /// The full name of the message behind `type.googleapis.com/`.
    pub fn message_name(self) -> &'static str {
        match self {
            Self::Runtime => "envoy.service.runtime.v3.Runtime",
            Self::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::ExtensionConfig => "envoy.config.core.v3.TypedExtensionConfig",
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::ScopedRoute => "envoy.config.route.v3.ScopedRouteConfiguration",
            Self::Route => "envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "envoy.config.route.v3.VirtualHost",
        }
    }

    /// `type_url` of requests and resources.
    pub fn type_url(self) -> String {
        format!("type.googleapis.com/{}", self.message_name())
    }

    /// The type of this URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        let name = url.rsplit('/').next()?;
        Self::ALL.into_iter().find(|ty| ty.message_name() == name)
    }

    /// True where a state-of-the-world response is complete: what it does not name is removed.
    pub fn is_full_state(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::ScopedRoute)
    }

    /// True where a first request without names asks for everything: types with a complete state, and virtual hosts,
    /// which Envoy tells apart by their names once they are here (`<route table>/<host>`).
    pub(crate) fn is_asked_by_silence(self) -> bool {
        self.is_full_state() || self == Self::VirtualHost
    }
}
