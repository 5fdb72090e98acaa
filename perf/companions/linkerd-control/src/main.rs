//! A stand-alone control plane for linkerd2-proxy: identity, destination and policy on one plain h2c listener.
//!
//! It answers what linkerd's own control plane would for ClusterIP services with one pod each and no
//! ServiceProfile, Server or HTTPRoute resource. Every answer is logged once; nothing is asked in the steady
//! state, so it costs a measurement nothing.
//!
//! usage: `linkerd-control LISTEN DIR PROXY_ID[,PROXY_ID..] SERVICE..`
//! - `LISTEN`: address to serve gRPC on; must be loopback, or proxies demand TLS of it
//! - `DIR`: written before `LISTEN` opens: `ca.pem`, and `<n>/{key.p8,csr.der,token}` for the n-th id, with
//!   `<n>/{cert.pem,key.pem}` for a client that has no proxy
//! - `PROXY_ID`: DNS-like name that a proxy runs as (`LINKERD2_PROXY_IDENTITY_LOCAL_NAME`)
//! - `SERVICE`: `NAME=VIP:PORT=ENDPOINT:PORT[=PROXY_ID]`; with an id, the endpoint is meshed

mod identity;
mod inbound;
mod outbound;
mod server;
mod service;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use linkerd2_proxy_api::destination::destination_server::DestinationServer;
use linkerd2_proxy_api::identity::identity_server::IdentityServer;
use linkerd2_proxy_api::inbound::inbound_server_policies_server::InboundServerPoliciesServer;
use linkerd2_proxy_api::outbound::outbound_policies_server::OutboundPoliciesServer;
use tonic::transport::server::TcpIncoming;

use identity::Authority;
use server::Directory;
use service::Service;

const USAGE: &str = "usage: linkerd-control LISTEN DIR PROXY_ID[,PROXY_ID..] SERVICE..";

/// What the command line says.
struct Plan<'a> {
    listen: SocketAddr,
    directory: &'a Path,
    identities: Vec<&'a str>,
    services: Vec<Service>,
}

impl<'a> Plan<'a> {
    fn parse(arguments: &'a [String]) -> Result<Self, String> {
        let [listen, directory, identities, services @ ..] = arguments else {
            return Err(USAGE.into());
        };
        let listen: SocketAddr = listen.parse().map_err(|e| format!("LISTEN {listen:?}: {e}"))?;
        if !listen.ip().is_loopback() {
            return Err(format!(
                "LISTEN {listen}: proxies would demand TLS of an address that is not loopback"
            ));
        }
        let identities: Vec<&str> = identities.split(',').collect();
        if identities.contains(&"") {
            return Err("PROXY_ID: an id is empty".into());
        }
        let services = services.iter().map(|text| Service::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if services.is_empty() {
            return Err(format!("no SERVICE; {USAGE}"));
        }
        for service in &services {
            if let Some(id) = service.identity.as_deref().filter(|id| !identities.contains(id)) {
                return Err(format!("SERVICE {}: {id:?} is none of the PROXY_IDs", service.name));
            }
        }
        Ok(Self { listen, directory: Path::new(directory), identities, services })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match serve(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("linkerd-control: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &[String]) -> Result<(), String> {
    let plan = Plan::parse(arguments)?;
    let authority = Authority::create(plan.directory)?;
    for (index, id) in plan.identities.iter().enumerate() {
        authority.prepare_proxy(&plan.directory.join(index.to_string()), id)?;
    }
    let listener =
        TcpIncoming::bind(plan.listen).map_err(|e| format!("cannot listen on {}: {e}", plan.listen))?;
    let listen = listener.local_addr().map_err(|e| e.to_string())?;
    eprintln!("serving on {listen}");
    let directory = Directory::new(plan.services);
    tonic::transport::Server::builder()
        .add_service(DestinationServer::from_arc(directory.clone()))
        .add_service(OutboundPoliciesServer::from_arc(directory.clone()))
        .add_service(InboundServerPoliciesServer::from_arc(directory))
        .add_service(IdentityServer::new(authority))
        .serve_with_incoming(listener.with_nodelay(Some(true)))
        .await
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(line: &str) -> Option<String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Plan::parse(&arguments).err()
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(reason("127.0.0.1:1 d a,b s=127.0.0.2:2=0.0.0.0:3 t=127.0.0.2:3=0.0.0.0:3=b"), None);
        for (line, said) in [
            ("127.0.0.1:1", "usage"),
            ("127.0.0.1 d a s=127.0.0.2:2=0.0.0.0:3", "LISTEN"),
            ("10.0.0.1:1 d a s=127.0.0.2:2=0.0.0.0:3", "loopback"),
            ("127.0.0.1:1 d a, s=127.0.0.2:2=0.0.0.0:3", "empty"),
            ("127.0.0.1:1 d a", "no SERVICE"),
            ("127.0.0.1:1 d a s=127.0.0.2:2=0.0.0.0:3=b", "none of the PROXY_IDs"),
        ] {
            assert!(reason(line).is_some_and(|reason| reason.contains(said)), "{line}");
        }
    }
}
