//! TLS for tests: an authority whose certificates are right or wrong on purpose, a client and a server on rustls that hand
//! out plain sockets and record every handshake, sealed records and ClientHellos of any shape, and the YAML of contexts.
//!
//! A relay decrypts between two sockets, so that every other client and upstream of this crate works over TLS unchanged.

pub mod authority;
pub mod client;
pub mod context;
pub mod hello;
pub mod record;
pub mod relay;
pub mod sealed;
pub mod server;
pub mod updating;

pub use authority::{Algorithm, Authority, Identity, Leaf};
pub use client::{Client, Link};
pub use context::Context;
pub use relay::{Ending, Facts, Finish};
pub use server::{Seen, Server};

pub use tokio_rustls::rustls::AlertDescription;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

/// A version of TLS that our peers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl Version {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V12, Self::V13];

    /// As access logs print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V12 => "TLSv1.2",
            Self::V13 => "TLSv1.3",
        }
    }

    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::V12 => &version::TLS12,
            Self::V13 => &version::TLS13,
        }
    }
}

/// Our cryptography, reduced to suites and groups whose names (`TLS13_AES_128_GCM_SHA256`, `X25519`) are listed; an empty
/// list reduces nothing.
fn provider(suites: &[&str], groups: &[&str]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let named = |suite: &SupportedCipherSuite| suites.contains(&&*format!("{:?}", suite.suite()));
    provider.cipher_suites.retain(|suite| suites.is_empty() || named(suite));
    provider.kx_groups = aws_lc_rs::ALL_KX_GROUPS.to_vec();
    provider.kx_groups.retain(|group| groups.is_empty() || groups.contains(&&*format!("{:?}", group.name())));
    // In the order that was asked for.
    let place = |name: &str| groups.iter().position(|group| *group == name);
    provider.kx_groups.sort_by_key(|group| place(&format!("{:?}", group.name())));
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use super::record::{alert, kind};
    use super::relay::Finish;
    use super::sealed::Sealed;
    use super::server::Options;
    use super::*;
    use crate::upstream::Upstream;

    fn server(options: impl FnOnce(Options) -> Options) -> (Server, Upstream, Identity) {
        let identity = authority::shared().issue(&Leaf::dns("server.test"));
        let upstream = Upstream::fixed("hello");
        (Server::start(options(Options::new(&identity, upstream.address()))), upstream, identity)
    }

    #[test]
    fn handshakes_are_recorded_on_both_sides_and_sessions_resume() {
        let (server, _upstream, identity) = server(|o| o.alpn(&["h2", "http/1.1"]));
        let own = authority::shared().issue(&Leaf::spiffe("spiffe://test/client"));
        for version in Version::BOTH {
            let client = Client::new().identity(&own).name("server.test").alpn(&["x", "http/1.1"]);
            let client = client.versions(&[version]);
            for round in 0..2 {
                let link = client.connect(server.address());
                assert_eq!(link.raw().get("/").text(), "hello");
                assert_eq!(link.facts.alpn.as_deref(), Some("http/1.1"));
                assert_eq!(
                    (link.facts.resumed, link.facts.peer[0].as_slice()),
                    (round == 1, &*identity.chain[0])
                );
            }
        }
        let seen = server.wait_seen(3);
        assert_eq!((seen.name.as_deref(), seen.offered.len()), (Some("server.test"), 2));
        assert_eq!(seen.facts.map(|f| f.peer[0].clone()), Some(own.chain[0].to_vec()));
    }

    #[test]
    fn ends_and_refusals_show() {
        let (clean, _upstream, _) = server(|o| o);
        let link = Client::new().connect(clean.address());
        assert_eq!(link.raw().get_with("/", &[("connection", "close")]).status, 200);
        drop(link);
        crate::wait::for_true("the end at the server", || clean.wait_seen(0).ending() == Some(Ending::Clean));
        let (strict, _upstream, _) = server(|o| o.refuses());
        assert!(matches!(Client::new().refusal(strict.address()), Ending::Alert(_)));
        let closing = Upstream::start(|_| crate::upstream::Reply::until_close(b"part"));
        let identity = authority::shared().issue(&Leaf::dns("server.test"));
        let rude = Server::start(Options::new(&identity, closing.address()).finish(Finish::Truncate));
        let link = Client::new().connect(rude.address());
        link.raw().request("GET", "/", &[("host", "a")], b"");
        assert_eq!(link.wait_ending(), Ending::Truncated);
    }

    #[test]
    fn sealed_records_are_real() {
        let (server, _upstream, _) = server(|o| o);
        for version in Version::BOTH {
            let mut sealed = Sealed::connect(&Client::new(), version, server.address());
            sealed.send(kind::APPLICATION_DATA, b"");
            sealed.send(kind::APPLICATION_DATA, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            assert!(sealed.data_until("hello").unwrap().starts_with("HTTP/1.1 200"));
            let mut spoiled = sealed.seal(kind::APPLICATION_DATA, b"x");
            spoiled[7] ^= 1;
            sealed.send_bytes(&spoiled);
            assert_eq!(sealed.refusal(), Ok(alert::BAD_RECORD_MAC));
        }
    }

    #[test]
    fn hellos_are_well_formed() {
        let (server, _upstream, _) = server(|o| o);
        for hello in [hello::Hello::v13(), hello::Hello::v12().name(b"a.test").alpn(&[b"h2"])] {
            let mut raw = crate::raw::Client::connect(server.address());
            raw.send(&record::fragments(&hello.message(), 1));
            assert_eq!(record::read(&mut raw).map(|r| r.kind), Ok(kind::HANDSHAKE));
        }
        assert_eq!(hello::Hello::v13().padded_to(9000).message().len(), 9000);
    }
}
