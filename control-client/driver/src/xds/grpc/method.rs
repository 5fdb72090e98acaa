//! Which call serves a type.

use millrace_ads::ResourceType;
use millrace_ads::source::Variant;

/// A bidirectional stream of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
}

impl Method {
    /// The part behind the service, for messages.
    pub(crate) fn name(self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// The call for one type, or the aggregated one for `None`. VHDS has no state-of-the-world form.
pub(crate) fn method(ty: Option<ResourceType>, variant: Variant) -> Option<Method> {
    let delta = variant == Variant::Delta;
    let of = |sotw: &'static str, incremental: &'static str| {
        Some(Method { path: if delta { incremental } else { sotw } })
    };
    match ty {
        None => of(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        ),
        Some(ResourceType::Cluster) => of(
            "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
            "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
        ),
        Some(ResourceType::Endpoint) => of(
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
        ),
        Some(ResourceType::Listener) => of(
            "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
            "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
        ),
        Some(ResourceType::Route) => of(
            "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
            "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
        ),
        Some(ResourceType::ScopedRoute) => of(
            "/envoy.service.route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes",
            "/envoy.service.route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes",
        ),
        Some(ResourceType::VirtualHost) => {
            let path = "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts";
            delta.then_some(Method { path })
        }
        Some(ResourceType::Secret) => of(
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        ),
        Some(ResourceType::Runtime) => of(
            "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime",
            "/envoy.service.runtime.v3.RuntimeDiscoveryService/DeltaRuntime",
        ),
        Some(ResourceType::ExtensionConfig) => of(
            "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs",
            "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the published services (`envoy/service/*/v3/*.proto`).
    #[test]
    fn every_type_has_its_call() {
        for ty in ResourceType::ALL {
            let sotw = method(Some(ty), Variant::Sotw);
            let delta = method(Some(ty), Variant::Delta);
            assert_eq!(sotw.is_none(), ty == ResourceType::VirtualHost);
            if let Some(sotw) = sotw {
                assert!(sotw.path.contains("/Stream"), "{sotw:?}");
            }
            assert!(delta.is_some_and(|m| m.path.contains("/Delta")), "{ty:?}");
        }
        let ads = method(None, Variant::Sotw).map(Method::name);
        assert_eq!(ads, Some("StreamAggregatedResources"));
    }
}
