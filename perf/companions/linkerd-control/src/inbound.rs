//! The policy of an inbound proxy: the `all-unauthenticated` default on every port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use linkerd2_proxy_api::inbound::{self, authn, proxy_protocol as protocol};
use linkerd2_proxy_api::net;

use crate::outbound::every_path;
use crate::service::{default_metadata, labels};

const POLICY: &str = "all-unauthenticated";

/// What linkerd answers for a port that no Server resource selects.
pub(crate) fn policy() -> inbound::Server {
    let labelled = labels([("group", ""), ("kind", "default"), ("name", POLICY)]);
    inbound::Server {
        protocol: Some(inbound::ProxyProtocol {
            kind: Some(protocol::Kind::Detect(protocol::Detect {
                timeout: Duration::from_secs(10).try_into().ok(),
                http_routes: vec![route()],
                http_local_rate_limit: None,
            })),
        }),
        authorizations: vec![inbound::Authz {
            networks: [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].map(whole).into(),
            authentication: Some(inbound::Authn {
                permit: Some(authn::Permit::Unauthenticated(authn::PermitUnauthenticated {})),
            }),
            labels: labelled.clone(),
            metadata: default_metadata(POLICY),
        }],
        labels: labelled,
        ..Default::default()
    }
}

fn route() -> inbound::HttpRoute {
    inbound::HttpRoute {
        metadata: default_metadata("default"),
        rules: vec![inbound::http_route::Rule { matches: vec![every_path()], filters: vec![] }],
        ..Default::default()
    }
}

/// Every address of a family.
fn whole(address: IpAddr) -> inbound::Network {
    inbound::Network { net: Some(net::IpNetwork { ip: Some(address.into()), prefix_len: 0 }), except: vec![] }
}
