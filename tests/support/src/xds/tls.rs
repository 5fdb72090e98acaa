//! Certificates of the control plane: throw-away ones, made by `certificates/make.sh`.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// PEM of the authority that signed both certificates.
pub const CA: &str = include_str!("certificates/ca.pem");
/// PEM of the server: `control.test`, `localhost`, 127.0.0.1, `spiffe://test/control`.
pub const SERVER: &str = include_str!("certificates/server.pem");
/// PEM of the server's key.
pub const SERVER_KEY: &str = include_str!("certificates/server.key.pem");
/// PEM of a client: `sidecar.test`, `spiffe://test/sidecar`.
pub const CLIENT: &str = include_str!("certificates/client.pem");
/// PEM of the client's key.
pub const CLIENT_KEY: &str = include_str!("certificates/client.key.pem");

/// How connections are secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Clear text.
    #[default]
    None,
    /// TLS with [`SERVER`].
    Tls,
    /// TLS that also demands a certificate signed by [`CA`].
    Mutual,
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|c| c.expect("a certificate of ours")).collect()
}

pub(super) fn acceptor(security: Security) -> Option<TlsAcceptor> {
    let builder = match security {
        Security::None => return None,
        Security::Tls => ServerConfig::builder().with_no_client_auth(),
        Security::Mutual => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(chain(CA));
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).expect("a key of ours");
    let mut config = builder.with_single_cert(chain(SERVER), key).expect("certificate and key fit");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Some(TlsAcceptor::from(Arc::new(config)))
}
