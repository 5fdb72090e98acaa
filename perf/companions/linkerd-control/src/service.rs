//! A service as the command line names it, its endpoint and its profile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use linkerd2_proxy_api::destination::{
    self, http2_client_params as http2, protocol_hint as hint, tls_identity as tls,
};
use linkerd2_proxy_api::meta;

/// The Kubernetes namespace in which everything seems to be.
pub(crate) const NAMESPACE: &str = "bench";

/// The port on which a meshed pod's inbound proxy takes TLS.
const INBOUND_PORT: u32 = 4143;

/// A ClusterIP service with one pod.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) vip: SocketAddr,
    endpoint: SocketAddr,
    /// The id of the proxy in front of the endpoint, when there is one.
    pub(crate) identity: Option<String>,
}

impl Service {
    /// Reads `NAME=VIP:PORT=ENDPOINT:PORT[=PROXY_ID]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('=').collect();
        let (name, vip, endpoint, identity) = match parts[..] {
            [name, vip, endpoint] => (name, vip, endpoint, None),
            [name, vip, endpoint, id] => (name, vip, endpoint, Some(id.to_owned())),
            _ => return Err(format!("SERVICE {text:?}: not NAME=VIP:PORT=ENDPOINT:PORT[=PROXY_ID]")),
        };
        if name.is_empty() {
            return Err(format!("SERVICE {text:?}: the name is empty"));
        }
        let address = |part: &str| part.parse().map_err(|e| format!("SERVICE {text:?}: {part:?}: {e}"));
        Ok(Self { name: name.to_owned(), vip: address(vip)?, endpoint: address(endpoint)?, identity })
    }

    fn fqdn(&self) -> String {
        format!("{}.{NAMESPACE}.svc.cluster.local", self.name)
    }

    /// The name under which `Destination.Get` resolves it.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.fqdn(), self.vip.port())
    }

    pub(crate) fn metadata(&self) -> Option<meta::Metadata> {
        Some(meta::Metadata {
            kind: Some(meta::metadata::Kind::Resource(meta::Resource {
                group: "core".into(),
                kind: "Service".into(),
                name: self.name.clone(),
                namespace: NAMESPACE.into(),
                port: self.vip.port().into(),
                ..Default::default()
            })),
        })
    }

    /// The one endpoint; a meshed one takes HTTP/2 over mTLS.
    pub(crate) fn endpoints(&self) -> destination::Update {
        let mut address = destination::WeightedAddr {
            addr: Some(self.endpoint.into()),
            weight: 10_000,
            metric_labels: labels([("pod", "origin-0"), ("serviceaccount", "default")]),
            ..Default::default()
        };
        if let Some(id) = &self.identity {
            let id = tls::DnsLikeIdentity { name: id.clone() };
            address.tls_identity = Some(destination::TlsIdentity {
                server_name: Some(id.clone()),
                strategy: Some(tls::Strategy::DnsLikeIdentity(id)),
            });
            address.protocol_hint = Some(destination::ProtocolHint {
                protocol: Some(hint::Protocol::H2(hint::H2 {})),
                opaque_transport: Some(hint::OpaqueTransport { inbound_port: INBOUND_PORT }),
            });
            address.http2 = Some(destination::Http2ClientParams {
                keep_alive: Some(http2::KeepAlive {
                    interval: Duration::from_secs(10).try_into().ok(),
                    timeout: Duration::from_secs(3).try_into().ok(),
                    while_idle: true,
                }),
                ..Default::default()
            });
        }
        destination::Update {
            update: Some(destination::update::Update::Add(destination::WeightedAddrSet {
                addrs: vec![address],
                metric_labels: labels([("namespace", NAMESPACE), ("service", &self.name)]),
            })),
        }
    }

    pub(crate) fn profile(&self) -> destination::DestinationProfile {
        destination::DestinationProfile {
            fully_qualified_name: self.fqdn(),
            retry_budget: Some(destination::RetryBudget {
                retry_ratio: 0.2,
                min_retries_per_second: 10,
                ttl: Duration::from_secs(10).try_into().ok(),
            }),
            parent_ref: self.metadata(),
            ..Default::default()
        }
    }
}

/// The metadata of what linkerd makes up when no resource says otherwise.
pub(crate) fn default_metadata(name: &str) -> Option<meta::Metadata> {
    Some(meta::Metadata { kind: Some(meta::metadata::Kind::Default(name.into())) })
}

/// Labels as the API wants them.
pub(crate) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.map(|(key, value)| (key.into(), value.into())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read() {
        let service = Service::parse("http=127.0.0.2:8085=0.0.0.0:8080=a.b").map_err(|e| panic!("{e}"));
        let service = service.unwrap_or_else(|never| never);
        assert_eq!(service.authority(), "http.bench.svc.cluster.local:8085");
        assert_eq!(service.identity.as_deref(), Some("a.b"));
        for wrong in ["", "a", "a=127.0.0.2:1", "=127.0.0.2:1=0.0.0.0:2", "a=b=0.0.0.0:2", "a=b=c=d=e"] {
            assert!(Service::parse(wrong).is_err_and(|e| e.contains("SERVICE")), "{wrong}");
        }
    }
}
