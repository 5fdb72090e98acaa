//! What the ends of a turn prove themselves with: an authority and a certificate for the client, the proxy and the
//! origin, made anew for each turn, and the rustls configurations of the lab's own client and origin.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, RsaKeySize, SanType,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use serde::{Deserialize, Serialize};

/// What all certificates of a turn are signed with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyType {
    /// P-256.
    Ecdsa,
    /// 2048 bits.
    Rsa,
}

/// `proxy.perf.test` and the like are the names in the certificates.
const DOMAIN: &str = "perf.test";
const ENDS: [&str; 3] = ["client", "proxy", "origin"];

/// The files of a turn: `ca.pem`, and of each end `<end>.pem`, `<end>.key` and both in `<end>-bundle.pem`.
#[derive(Debug)]
pub(crate) struct Credentials {
    directory: PathBuf,
}

impl Credentials {
    /// Makes all of them in a directory that is removed with the value.
    pub(crate) fn create(kind: KeyType) -> Result<Self, String> {
        let directory = std::env::temp_dir().join(format!("millrace-perf-{}-tls", std::process::id()));
        fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        let made = Self { directory };
        let failed = |e: rcgen::Error| format!("certificates: {e}");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, key(kind)?).map_err(failed)?;
        made.write("ca.pem", &issuer.pem())?;
        for end in ENDS {
            let mut params = CertificateParams::new([name(end)]).map_err(failed)?;
            let uri = format!("spiffe://{DOMAIN}/ns/bench/sa/{end}").try_into().map_err(failed)?;
            params.subject_alt_names.push(SanType::URI(uri));
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = key(kind)?;
            let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
            let (certificate, key) = (certificate.pem(), key.serialize_pem());
            made.write(&format!("{end}.pem"), &certificate)?;
            made.write(&format!("{end}.key"), &key)?;
            made.write(&format!("{end}-bundle.pem"), &format!("{certificate}{key}"))?;
        }
        Ok(made)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.directory.join(name), text).map_err(|e| format!("{name}: {e}"))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The client's, towards the end that is named.
    pub(crate) fn client(&self, towards: &str, alpn: &str) -> Caller {
        Caller {
            ca: self.directory.join("ca.pem"),
            certificate: self.directory.join("client.pem"),
            key: self.directory.join("client.key"),
            name: name(towards),
            alpn: alpn.to_owned(),
        }
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        // A leftover in /tmp is harmless.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn name(end: &str) -> String {
    format!("{end}.{DOMAIN}")
}

fn key(kind: KeyType) -> Result<KeyPair, String> {
    let made = match kind {
        KeyType::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
    };
    made.map_err(|e| format!("certificates: {e}"))
}

/// How the lab's client calls: whom it trusts, what it proves itself with, whom it expects.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Caller {
    #[arg(long)]
    pub(crate) ca: PathBuf,
    #[arg(long)]
    pub(crate) certificate: PathBuf,
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Server name that is asked for and verified.
    #[arg(long)]
    pub(crate) name: String,
    /// Offered protocol; empty: none.
    #[arg(long)]
    pub(crate) alpn: String,
}

impl Caller {
    /// Arguments from which a process of the lab reads the same.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let pairs = [
            ("ca", text(&self.ca)),
            ("certificate", text(&self.certificate)),
            ("key", text(&self.key)),
            ("name", self.name.clone()),
            ("alpn", self.alpn.clone()),
        ];
        pairs.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    /// TLS 1.3 with a certificate; the same work with every peer: X25519 and AES-128-GCM, nothing else offered.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let told = |e: rustls::Error| format!("client: {e}");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(told)?
            .with_root_certificates(roots(&self.ca)?)
            .with_client_auth_cert(chain(&self.certificate)?, private_key(&self.key)?)
            .map_err(told)?;
        if !self.alpn.is_empty() {
            config.alpn_protocols = vec![self.alpn.clone().into_bytes()];
        }
        Ok(Arc::new(config))
    }
}

/// The origin's side, from the directory of a turn; clients must prove themselves.
pub(crate) fn origin(directory: &Path, alpn: &str) -> Result<Arc<ServerConfig>, String> {
    let roots = Arc::new(roots(&directory.join("ca.pem"))?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| format!("origin: {e}"))?;
    let told = |e: rustls::Error| format!("origin: {e}");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(told)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&directory.join("origin.pem"))?, private_key(&directory.join("origin.key"))?)
        .map_err(told)?;
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in chain(path)? {
        store.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(store)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| format!("{}: {e}", path.display()))?;
    all.collect::<Result<_, _>>().map_err(|e| format!("{}: {e}", path.display()))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ServerConnection};

    #[test]
    fn both_ends_accept_each_other() {
        let made = Credentials::create(KeyType::Ecdsa).unwrap();
        let caller = made.client("origin", "h2");
        let name = ServerName::try_from(caller.name.clone()).unwrap();
        let mut client = ClientConnection::new(caller.config().unwrap(), name).unwrap();
        let mut server = ServerConnection::new(origin(made.directory(), "h2").unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(server.peer_certificates().map(<[_]>::len), Some(1), "the client proved itself");
        assert!(caller.arguments().contains(&"--name=origin.perf.test".to_owned()));
    }
}
