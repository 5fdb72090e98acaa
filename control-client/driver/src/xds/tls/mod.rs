//! TLS to a control plane. Every file is read for every connection, so that a rotated certificate counts from the next
//! one on; `verify` judges the peer, `san` matches its names, `sds_file` reads secrets that are files.

mod san;
mod sds_file;
mod verify;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use millrace_ads::source::{DataSource, SanMatcher, Tls};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::read_file::{FileError, read_file};
use verify::Verifier;

/// Largest certificate, key or secret file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a TLS client cannot be set up.
#[derive(Debug)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    File(FileError),
    /// Not what it should be; which input, and why.
    Invalid { what: &'static str, reason: String },
    /// A secret that the file of SDS does not hold in the form that is needed.
    Secret { name: String, reason: String },
    /// The name of the peer is no name.
    PeerName(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Invalid { what, reason } => write!(f, "{what}: {reason}"),
            Self::Secret { name, reason } => write!(f, "secret {name}: {reason}"),
            Self::PeerName(name) => write!(f, "{name:?} is no host name"),
        }
    }
}

impl From<FileError> for TlsError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

fn invalid(what: &'static str, reason: impl fmt::Display) -> TlsError {
    TlsError::Invalid { what, reason: reason.to_string() }
}

/// The name that is sent as SNI and, if asked for, checked.
pub(super) struct PeerName(String);

impl PeerName {
    /// `sni`, or the host of the endpoint.
    pub(super) fn resolve(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = if self.0.is_empty() { host } else { &self.0 };
        let name = name.trim_matches(['[', ']']);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::PeerName(name.to_owned()))
    }
}

/// True when the configuration accepts any certificate, which an operator should know.
pub(super) fn accepts_anybody(tls: &Tls) -> bool {
    tls.trusted_ca.is_none() && !tls.system_roots && tls.validation_sds.is_none()
}

/// Reads the files and builds a client that offers `alpn`.
pub(super) async fn connector(tls: &Tls, alpn: &[u8]) -> Result<(TlsConnector, PeerName), TlsError> {
    let (tls, alpn) = (tls.clone(), alpn.to_vec());
    let name = PeerName(tls.sni.clone());
    // Files may lie on a slow disk, and the system's roots are many.
    let built = tokio::task::spawn_blocking(move || client_config(&tls, alpn)).await;
    let config = built.map_err(|error| invalid("TLS", error))??;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// What the peer's certificate must satisfy.
#[derive(Debug, Default)]
struct Validation {
    /// `None` accepts any chain.
    authorities: Option<Vec<CertificateDer<'static>>>,
    /// Any of them, if there are some.
    matchers: Vec<SanMatcher>,
}

fn client_config(tls: &Tls, alpn: Vec<u8>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid("TLS", error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity(tls)? {
        Some((chain, key)) => {
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| invalid("client certificate", error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = !tls.sni.is_empty();
    config.alpn_protocols = vec![alpn];
    Ok(config)
}

fn verifier(tls: &Tls, provider: &CryptoProvider) -> Result<Verifier, TlsError> {
    let mut validation = match &tls.validation_sds {
        Some((file, name)) => sds_file::validation(&file.path, name)?,
        None => Validation::default(),
    };
    if let Some(source) = &tls.trusted_ca {
        validation.authorities = Some(certificates("trusted_ca", &read(source)?)?);
    }
    validation.matchers.extend(tls.san_matchers.iter().cloned());
    let roots = if tls.system_roots { Some(system_roots()?) } else { None };
    let store = match (roots, &validation.authorities) {
        (Some(roots), _) => Some(roots),
        (None, Some(authorities)) => Some(store(authorities)?),
        (None, None) => None,
    };
    if store.is_none() && (tls.verify_host || !validation.matchers.is_empty()) {
        // Names in a certificate that anybody may have signed prove nothing; Envoy refuses the same.
        return Err(invalid("trusted_ca", "names are checked only with a trusted authority"));
    }
    Verifier::new(store, validation, tls.verify_host, provider)
}

fn store(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for authority in authorities {
        store.add(authority.clone()).map_err(|error| invalid("trusted_ca", error))?;
    }
    Ok(store)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Systems ship a few that are too old to be read; the others count.
    let (added, _) = store.add_parsable_certificates(found.certs);
    match (added, found.errors.first()) {
        (0, Some(error)) => Err(invalid("system roots", error)),
        (0, None) => Err(invalid("system roots", "none found")),
        _ => Ok(store),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(tls: &Tls) -> Result<Option<Identity>, TlsError> {
    let (chain, key) = match (&tls.identity_sds, &tls.identity) {
        (Some((file, name)), _) => sds_file::identity(&file.path, name)?,
        (None, Some(sources)) => sources.clone(),
        (None, None) => return Ok(None),
    };
    let chain = certificates("certificate_chain", &read(&chain)?)?;
    // PKCS#8, PKCS#1 and SEC1.
    let key = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|error| invalid("private_key", error))?;
    Ok(Some((chain, key)))
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let list = list.map_err(|error| invalid(what, error))?;
    if list.is_empty() { Err(invalid(what, "no PEM certificate in it")) } else { Ok(list) }
}

fn read(source: &DataSource) -> Result<Vec<u8>, TlsError> {
    match source {
        DataSource::Inline(bytes) => Ok(bytes.clone()),
        DataSource::File(path) => read_path(path),
    }
}

fn read_path(path: &Path) -> Result<Vec<u8>, TlsError> {
    Ok(read_file(path, FILE_BYTES_MAX)?)
}
