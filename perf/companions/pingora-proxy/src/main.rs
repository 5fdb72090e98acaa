//! A reverse proxy on the pingora framework: one worker thread, one origin, upstream keep-alive, no access log.
//!
//! usage: `pingora-proxy LISTEN_PORT ORIGIN_PORT`, both on 127.0.0.1; `pingora-proxy --version`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session};

/// The versions that were built are those of the lock file.
const LOCK: &str = include_str!("../../Cargo.lock");

struct ToOrigin {
    origin: SocketAddr,
}

#[async_trait]
impl ProxyHttp for ToOrigin {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _context: &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version"] => {
            println!("pingora {}", version());
            ExitCode::SUCCESS
        }
        [listen, origin] => match (loopback(listen), loopback(origin)) {
            (Ok(listen), Ok(origin)) => {
                serve(listen, origin);
                ExitCode::SUCCESS
            }
            (Err(reason), _) | (_, Err(reason)) => complain(&reason),
        },
        _ => complain("usage: pingora-proxy LISTEN_PORT ORIGIN_PORT | --version"),
    }
}

fn complain(reason: &str) -> ExitCode {
    eprintln!("pingora-proxy: {reason}");
    ExitCode::FAILURE
}

fn loopback(port: &str) -> Result<SocketAddr, String> {
    let port: u16 = port.parse().map_err(|_| format!("not a port: {port:?}"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

fn version() -> &'static str {
    let entry = LOCK.split_once("name = \"pingora-proxy\"\nversion = \"");
    entry.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown")
}

/// Until SIGTERM or SIGINT.
fn serve(listen: SocketAddr, origin: SocketAddr) {
    let configuration = ServerConf {
        threads: 1,
        // As many as the largest scenario has connections; the default of 128 would reconnect above it.
        upstream_keepalive_pool_size: 16_384,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let mut service = pingora_proxy::http_proxy_service(&server.configuration, ToOrigin { origin });
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run(RunArgs::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_versions_are_read() {
        assert_eq!(loopback("80").map(|a| a.to_string()), Ok("127.0.0.1:80".to_owned()));
        assert!(loopback("65536").is_err());
        assert!(version().split('.').count() == 3, "{}", version());
    }
}
