//! The policy of an outbound proxy for a service: protocol detection, then one default route to a balancer.

use std::time::Duration;

use linkerd2_proxy_api::http_route as matches;
use linkerd2_proxy_api::outbound::{self, backend, http_route, opaque_route, proxy_protocol as protocol};

use crate::service::{Service, default_metadata};

/// What linkerd answers for a service without resources of its own.
pub(crate) fn policy(service: &Service) -> outbound::OutboundPolicy {
    let backend = balancer(service);
    let http = http(backend.clone());
    outbound::OutboundPolicy {
        metadata: service.metadata(),
        protocol: Some(outbound::ProxyProtocol {
            kind: Some(protocol::Kind::Detect(protocol::Detect {
                timeout: Duration::from_secs(10).try_into().ok(),
                opaque: Some(protocol::Opaque { routes: vec![opaque(backend)] }),
                http1: Some(protocol::Http1 { routes: vec![http.clone()], failure_accrual: None }),
                http2: Some(protocol::Http2 { routes: vec![http], failure_accrual: None }),
            })),
        }),
    }
}

/// Power of two choices by peak EWMA over the endpoints that `Destination.Get` names.
fn balancer(service: &Service) -> outbound::Backend {
    use backend::endpoint_discovery::{DestinationGet, Kind};
    outbound::Backend {
        metadata: service.metadata(),
        queue: Some(outbound::Queue {
            capacity: 100,
            failfast_timeout: Duration::from_secs(3).try_into().ok(),
        }),
        kind: Some(backend::Kind::Balancer(backend::BalanceP2c {
            discovery: Some(backend::EndpointDiscovery {
                kind: Some(Kind::Dst(DestinationGet { path: service.authority() })),
            }),
            load: Some(backend::balance_p2c::Load::PeakEwma(backend::balance_p2c::PeakEwma {
                default_rtt: Duration::from_millis(30).try_into().ok(),
                decay: Duration::from_secs(10).try_into().ok(),
            })),
        })),
    }
}

fn http(backend: outbound::Backend) -> outbound::HttpRoute {
    use http_route::distribution::{FirstAvailable, Kind};
    let backends = vec![http_route::RouteBackend { backend: Some(backend), ..Default::default() }];
    outbound::HttpRoute {
        metadata: default_metadata("http"),
        rules: vec![http_route::Rule {
            matches: vec![every_path()],
            backends: Some(http_route::Distribution {
                kind: Some(Kind::FirstAvailable(FirstAvailable { backends })),
            }),
            timeouts: Some(Default::default()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn opaque(backend: outbound::Backend) -> outbound::OpaqueRoute {
    use opaque_route::distribution::{FirstAvailable, Kind};
    let backends = vec![opaque_route::RouteBackend { backend: Some(backend), filters: vec![] }];
    outbound::OpaqueRoute {
        metadata: default_metadata("opaq"),
        rules: vec![opaque_route::Rule {
            backends: Some(opaque_route::Distribution {
                kind: Some(Kind::FirstAvailable(FirstAvailable { backends })),
            }),
            filters: vec![],
        }],
    }
}

/// Matches any request.
pub(crate) fn every_path() -> matches::HttpRouteMatch {
    matches::HttpRouteMatch {
        path: Some(matches::PathMatch { kind: Some(matches::path_match::Kind::Prefix("/".into())) }),
        ..Default::default()
    }
}
