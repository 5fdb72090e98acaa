//! TLS: who is trusted, who we are, and certificates that are rotated, from files, inline and from files of SDS.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use millrace_ads::source::{DataSource, PathSource, SanKind, SanMatcher, SanPattern, Tls, Variant};
use millrace_ads::{Interest, ResourceType};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    SanType,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::server::{Played, over_tls};
use super::*;

const SPIFFE: &str = "spiffe://cluster.local/ns/istio-system/sa/istiod";

struct Authority(CertifiedIssuer<'static, KeyPair>);

#[derive(Clone)]
struct Leaf {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn sign(&self, names: Vec<SanType>) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn server(&self) -> Leaf {
        let text = |text: &str| Ia5String::try_from(text.to_owned()).unwrap();
        self.sign(vec![
            SanType::DnsName(text("istiod.istio-system.svc")),
            SanType::DnsName(text("*.example.com")),
            SanType::URI(text(SPIFFE)),
            SanType::Rfc822Name(text("ops@example.com")),
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
        ])
    }
}

impl Leaf {
    fn config(
        &self,
        clients: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).map(|c| c.unwrap()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

fn trusting(authority: &Authority) -> Tls {
    Tls { trusted_ca: Some(DataSource::Inline(authority.pem())), ..Tls::default() }
}

fn start(address: SocketAddr, tls: Tls) -> Sources {
    let mut service = service(tcp(address));
    service.target.tls = Some(tls);
    let mut sources = sources();
    sources.add(SOURCE, grpc(service, Variant::Sotw), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    sources
}

async fn connects(address: SocketAddr, server: &mut Played, tls: Tls) {
    let mut sources = start(address, tls);
    let mut stream = while_driving(&mut sources, server.sotw()).await;
    assert!(while_driving(&mut sources, stream.request()).await.is_some());
}

async fn refused(address: SocketAddr, tls: Tls) -> String {
    disconnected(&mut start(address, tls)).await
}

#[tokio::test]
async fn the_chain_must_lead_to_the_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    for version in [&version::TLS12, &version::TLS13] {
        let config = authority.server().config(None, &[version]);
        let (address, mut server, _) = over_tls(move || Arc::clone(&config)).await;
        connects(address, &mut server, trusting(&authority)).await;
        let reason = refused(address, trusting(&other)).await;
        assert!(reason.contains("TLS handshake failed: invalid peer certificate: UnknownIssuer"), "{reason}");
        // As Envoy without a validation context; but it says so.
        let mut sources = start(address, Tls::default());
        let Event::Warning(text) = event(&mut sources).await else { panic!("a warning") };
        assert!(text.starts_with("xds-grpc: any certificate is accepted"), "{text}");
        while_driving(&mut sources, server.sotw()).await;
    }
}

#[tokio::test]
async fn any_matching_name_suffices_and_none_does_not() {
    let authority = Authority::new();
    let config = authority.server().config(None, &[&version::TLS13]);
    let (address, mut server, _) = over_tls(move || Arc::clone(&config)).await;
    let exact = |kind, text: &str| SanMatcher { kind, pattern: SanPattern::Exact(text.to_owned()) };
    let wrong = exact(SanKind::Uri, "spiffe://cluster.local/ns/default/sa/thief");
    for right in [
        exact(SanKind::Dns, "ISTIOD.istio-system.svc"),
        exact(SanKind::Dns, "cp.example.com"),
        exact(SanKind::Uri, SPIFFE),
        exact(SanKind::Email, "ops@example.com"),
        exact(SanKind::IpAddress, "127.0.0.1"),
        SanMatcher {
            kind: SanKind::Uri,
            pattern: SanPattern::Regex("spiffe://[^/]*/ns/istio-.*".to_owned()),
        },
    ] {
        let tls = Tls { san_matchers: vec![wrong.clone(), right], ..trusting(&authority) };
        connects(address, &mut server, tls).await;
    }
    let reason = refused(address, Tls { san_matchers: vec![wrong.clone()], ..trusting(&authority) }).await;
    assert!(reason.contains("no subject alternative name matches"), "{reason}");
    // Names in a certificate that anybody can make prove nothing.
    let reason = refused_setup(address, Tls { san_matchers: vec![wrong], ..Tls::default() }).await;
    assert!(reason.contains("trusted_ca: names are checked only with a trusted authority"), "{reason}");
}

/// As `refused`, after the warning about an authority that is missing.
async fn refused_setup(address: SocketAddr, tls: Tls) -> String {
    let mut sources = start(address, tls);
    assert!(matches!(event(&mut sources).await, Event::Warning(_)));
    disconnected(&mut sources).await
}

#[tokio::test]
async fn the_host_is_checked_only_if_asked_for() {
    let authority = Authority::new();
    let config = authority.server().config(None, &[&version::TLS13]);
    let (address, mut server, _) = over_tls(move || Arc::clone(&config)).await;
    let named = |sni: &str, verify_host| Tls { sni: sni.to_owned(), verify_host, ..trusting(&authority) };
    connects(address, &mut server, named("elsewhere.test", false)).await;
    connects(address, &mut server, named("istiod.istio-system.svc", true)).await;
    // The host of the endpoint where no name is configured.
    connects(address, &mut server, named("", true)).await;
    let reason = refused(address, named("elsewhere.test", true)).await;
    assert!(reason.contains("certificate not valid for name"), "{reason}");
}

#[tokio::test]
async fn a_certificate_that_is_trusted_itself_is_accepted() {
    let authority = Authority::new();
    let own = Leaf { chain: authority.0.pem(), key: authority.0.key().serialize_pem() };
    let config = own.config(None, &[&version::TLS13]);
    let (address, mut server, _) = over_tls(move || Arc::clone(&config)).await;
    connects(address, &mut server, trusting(&authority)).await;
}

#[tokio::test]
async fn our_certificate_is_read_for_every_connection() {
    let (authority, other) = (Authority::new(), Authority::new());
    let directory = Directory::new("mtls");
    let leaf = authority.server();
    // The server takes clients of one authority, later of the other.
    let clients = Arc::new(Mutex::new(leaf.config(Some(&authority), &[&version::TLS13])));
    let current = Arc::clone(&clients);
    let (address, mut server, mut failures) = over_tls(move || Arc::clone(&current.lock().unwrap())).await;
    let client = authority.sign(Vec::new());
    let chain = directory.replace("chain.pem", client.chain.as_bytes());
    let key = directory.replace("key.pem", client.key.as_bytes());
    let identity = Some((DataSource::File(chain), DataSource::File(key)));
    let mut sources = start(address, Tls { identity, ..trusting(&authority) });
    let stream = while_driving(&mut sources, server.sotw()).await;
    *clients.lock().unwrap() = leaf.config(Some(&other), &[&version::TLS13]);
    drop(stream);
    // The old certificate is refused until the new one is in place.
    while_driving(&mut sources, failures.recv()).await.unwrap();
    let client = other.sign(Vec::new());
    directory.replace("key.pem", client.key.as_bytes());
    directory.replace("chain.pem", client.chain.as_bytes());
    while_driving(&mut sources, server.sotw()).await;
    drop(sources);
    let mut sources = start(address, trusting(&authority));
    let failure = while_driving(&mut sources, failures.recv()).await.unwrap();
    assert!(failure.to_string().contains("certificate"), "{failure}");
}

#[test]
fn keys_come_in_every_usual_form() {
    // PKCS#8, and what is inside of it: PKCS#1 for RSA, SEC1 for elliptic curves.
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    for (key, inner, label) in [
        (&rsa, pkcs8_content(rsa.serialized_der()), "RSA PRIVATE KEY"),
        (&ec, pkcs8_content(ec.serialized_der()), "EC PRIVATE KEY"),
    ] {
        let pkcs8 = key.serialize_pem();
        let traditional = pem(label, inner);
        for text in [pkcs8, traditional] {
            let read = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap();
            assert!(aws_lc_rs::sign::any_supported_type(&read).is_ok(), "{label}");
        }
    }
}

/// The OCTET STRING of a `PrivateKeyInfo`: the key in its traditional form.
fn pkcs8_content(der: &[u8]) -> &[u8] {
    let octets = der.iter().enumerate().filter(|(_, byte)| **byte == 0x04);
    for (at, _) in octets {
        let (header, length) = match der.get(at + 1..at + 4) {
            Some([0x82, high, low]) => (4, usize::from(*high) << 8 | usize::from(*low)),
            Some([0x81, length, _]) => (3, usize::from(*length)),
            Some([length, ..]) => (2, usize::from(*length)),
            _ => continue,
        };
        let end = at + header + length;
        if der.get(at + header) == Some(&0x30) && end <= der.len() {
            return &der[at + header..end];
        }
    }
    panic!("no key in it");
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(der))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { DIGITS[index] as char } else { '=' });
        }
    }
    text
}

fn secret_file(directory: &Directory, name: &str, body: serde_json::Value) -> (PathSource, String) {
    let mut secret = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
    });
    for (key, value) in body.as_object().unwrap() {
        secret[key] = value.clone();
    }
    let text = serde_json::json!({ "resources": [secret] }).to_string();
    let path = directory.replace(&format!("{name}.json"), text.as_bytes());
    (PathSource { path, watched_directory: None }, name.to_owned())
}

/// As Contour writes it: two files of SDS that name further files, and a name that must be there.
#[tokio::test]
async fn secrets_may_be_files_of_sds() {
    let authority = Authority::new();
    let directory = Directory::new("sds");
    let config = authority.server().config(Some(&authority), &[&version::TLS13]);
    let (address, mut server, _) = over_tls(move || Arc::clone(&config)).await;
    let client = authority.sign(Vec::new());
    let identity = serde_json::json!({ "tls_certificate": {
        "certificate_chain": { "filename": directory.replace("tls.crt", client.chain.as_bytes()) },
        "private_key": { "inline_string": client.key },
    }});
    let validation = |wanted: &str| {
        serde_json::json!({ "validation_context": {
            "trusted_ca": { "filename": directory.replace("ca.crt", &authority.pem()) },
            "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": wanted, "ignore_case": true } }],
        }})
    };
    let tls = |wanted: &str| Tls {
        identity_sds: Some(secret_file(&directory, "contour_xds_tls_certificate", identity.clone())),
        validation_sds: Some(secret_file(
            &directory,
            "contour_xds_tls_validation_context",
            validation(wanted),
        )),
        ..Tls::default()
    };
    connects(address, &mut server, tls("Istiod.istio-system.svc")).await;
    let reason = refused(address, tls("contour")).await;
    assert!(reason.contains("no subject alternative name matches"), "{reason}");
    // What would weaken or sharpen the check is not passed over.
    let body = serde_json::json!({ "validation_context": { "crl": { "inline_string": "x" } } });
    let broken = Tls { validation_sds: Some(secret_file(&directory, "v", body)), ..Tls::default() };
    let reason = refused(address, broken).await;
    assert!(reason.contains("TLS cannot be set up: secret v: crl is not supported"), "{reason}");
}

#[tokio::test]
async fn files_that_are_missing_or_wrong_are_named() {
    let authority = Authority::new();
    let directory = Directory::new("broken");
    let address = "127.0.0.1:1".parse().unwrap();
    let missing = Tls { trusted_ca: Some(DataSource::File(directory.path("ca.pem"))), ..Tls::default() };
    let reason = refused(address, missing).await;
    assert!(reason.contains("ca.pem: No such file or directory"), "{reason}");
    let empty = Tls { trusted_ca: Some(DataSource::Inline(b"hello".to_vec())), ..Tls::default() };
    let reason = refused(address, empty).await;
    assert!(reason.contains("trusted_ca: no PEM certificate in it"), "{reason}");
    let chain = DataSource::Inline(authority.pem());
    let no_key = Tls { identity: Some((chain.clone(), chain)), ..trusting(&authority) };
    let reason = refused(address, no_key).await;
    assert!(reason.contains("private_key: "), "{reason}");
}
