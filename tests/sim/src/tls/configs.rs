//! rustls configurations of the peers: both versions, several key exchanges, small fragments, resumption.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::Tls;
use super::identity::{Identity, identities};

/// What one configuration is made of.
struct Kind {
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: Arc<CryptoProvider>,
    fragment: Option<usize>,
}

/// The last one begins with a share that the proxy does not take, or asks for another one than it sends.
fn kinds() -> [Kind; 4] {
    let with = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| {
        Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..default_provider() })
    };
    [
        Kind { versions: vec![&TLS13, &TLS12], provider: Arc::new(default_provider()), fragment: None },
        Kind { versions: vec![&TLS12], provider: Arc::new(default_provider()), fragment: None },
        Kind {
            versions: vec![&TLS13],
            provider: with(&[kx_group::X25519MLKEM768, kx_group::SECP256R1]),
            fragment: Some(200),
        },
        Kind {
            versions: vec![&TLS13],
            provider: with(&[kx_group::SECP384R1, kx_group::SECP256R1]),
            fragment: Some(64),
        },
    ]
}

/// Configurations of clients, all with the same ALPN.
#[derive(Debug)]
pub(super) struct Clients {
    /// Those that must be served.
    pub(super) good: Vec<Arc<ClientConfig>>,
    /// Those that must not be.
    pub(super) strangers: Vec<Arc<ClientConfig>>,
}

/// Configurations of endpoints.
#[derive(Debug)]
pub(super) struct Servers {
    /// Those that the proxy must believe.
    pub(super) good: Vec<Arc<ServerConfig>>,
    /// Those that it must not.
    pub(super) strangers: Vec<Arc<ServerConfig>>,
}

/// `alpn`: what the clients speak, `None` for tunnels.
pub(super) fn clients(tls: &Tls, alpn: Option<&[u8]>) -> Clients {
    let all = identities();
    let make = |kind: &Kind, names: &[&[u8]], who: Option<&Identity>| {
        let builder = ClientConfig::builder_with_provider(kind.provider.clone())
            .with_protocol_versions(&kind.versions)
            .expect("versions of the provider")
            .with_root_certificates(all.roots.clone());
        let mut config = match who {
            Some(who) => builder.with_client_auth_cert(who.chain(), who.key()).expect("a pair"),
            None => builder.with_no_client_auth(),
        };
        config.max_fragment_size = kind.fragment;
        config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    // HTTP/1.1 is spoken as well where no name is agreed upon.
    let lists: [&[&[u8]]; 4] = match alpn {
        Some(b"h2") => [&[b"h2"], &[b"h2", b"http/1.1"], &[b"foo", b"h2"], &[b"h2"]],
        Some(_) => [&[b"http/1.1"], &[], &[b"foo"], &[b"http/1.0", b"http/1.1"]],
        None => [&[]; 4],
    };
    let who = tls.mutual.then_some(&all.peer);
    let kinds = kinds();
    let good = kinds.iter().zip(lists).map(|(kind, names)| make(kind, names, who)).collect();
    let strangers = match tls.mutual {
        true => [Some(&all.stranger), Some(&all.neighbour), None],
        false => return Clients { good, strangers: Vec::new() },
    };
    let strangers = strangers.into_iter().zip(&kinds).map(|(who, kind)| make(kind, lists[0], who));
    Clients { good, strangers: strangers.collect() }
}

/// `alpn`: what the endpoints speak, `None` for tunnels.
pub(super) fn servers(tls: &Tls, alpn: Option<&[u8]>) -> Servers {
    let all = identities();
    let make = |kind: &Kind, who: &Identity| {
        let builder = ServerConfig::builder_with_provider(kind.provider.clone())
            .with_protocol_versions(&kind.versions)
            .expect("versions of the provider");
        let verifier = || {
            WebPkiClientVerifier::builder_with_provider(all.roots.clone(), kind.provider.clone())
                .build()
                .expect("a verifier")
        };
        let builder = match tls.mutual {
            true => builder.with_client_cert_verifier(verifier()),
            false => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(who.chain(), who.key()).expect("a pair");
        config.max_fragment_size = kind.fragment;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    let kinds = kinds();
    Servers {
        good: kinds.iter().map(|kind| make(kind, &all.peer)).collect(),
        strangers: [&all.stranger, &all.neighbour].iter().zip(&kinds).map(|(w, k)| make(k, w)).collect(),
    }
}
