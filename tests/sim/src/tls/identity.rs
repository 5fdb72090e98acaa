//! Who everybody is: one authority that both sides believe, a stranger that nobody does, and the proxy's contexts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millrace_config::{
    DownstreamTls, FilterChain, FilterChainCriteria, FilterChainMatch, Listener, ListenerFilter,
    ListenerFilterKind, PrivateKey, SanKind, SanMatcher, Secret, SecretId, SecretSource, Snapshot,
    StringMatcher, TlsCertificate, TlsCommon, TransportMatch, TransportProtocol, UpstreamProtocol,
    UpstreamTls, UpstreamTransport, ValidationContext, ValidationSource,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Tls;

/// Certificates that the proxy has one after the other.
pub const NUMBERS: u64 = 12;
/// The proxy's certificate, towards clients and towards endpoints.
pub const OURS: SecretId = SecretId(0);
/// Whom the proxy believes.
pub const TRUST: SecretId = SecretId(1);
/// The name that clients ask for.
pub(super) const PROXY_NAME: &str = "sim.test";
const PEER_URI: &str = "spiffe://sim.test/peer";
/// How long a handshake may take in these configurations.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// A leaf and its key, as rustls takes them.
#[derive(Debug)]
pub(super) struct Identity {
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone()]
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    fn for_proxy(&self) -> Arc<TlsCertificate> {
        Arc::new(TlsCertificate {
            chain: vec![self.der.to_vec().into()],
            key: PrivateKey::new(self.key.clone()),
            ocsp_staple: None,
            origin: "<inline>".into(),
        })
    }
}

/// Everybody.
#[derive(Debug)]
pub(super) struct Identities {
    /// What peers believe.
    pub(super) roots: Arc<RootCertStore>,
    ours: Vec<Identity>,
    /// Clients and endpoints.
    pub(super) peer: Identity,
    /// Issued by somebody whom the proxy does not know.
    pub(super) stranger: Identity,
    /// Issued by the right authority to somebody else.
    pub(super) neighbour: Identity,
    authority: Arc<[u8]>,
}

/// Made once per process.
pub(super) fn identities() -> &'static Identities {
    static ALL: OnceLock<Identities> = OnceLock::new();
    ALL.get_or_init(|| {
        let (issuer, authority) = authority();
        let (elsewhere, _) = authority_of_strangers();
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).expect("a root");
        Identities {
            roots: Arc::new(roots),
            ours: (0..NUMBERS).map(|_| issue(&issuer, "spiffe://sim.test/proxy")).collect(),
            peer: issue(&issuer, PEER_URI),
            stranger: issue(&elsewhere, PEER_URI),
            neighbour: issue(&issuer, "spiffe://sim.test/neighbour"),
            authority: authority.to_vec().into(),
        }
    })
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn authority() -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
    let (mut params, key) = (CertificateParams::default(), key());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).expect("a root").der().clone();
    (Issuer::new(params, key), certificate)
}

/// Another one with the same name.
fn authority_of_strangers() -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
    authority()
}

fn issue(issuer: &Issuer<'static, KeyPair>, uri: &str) -> Identity {
    let (mut params, key) = (CertificateParams::default(), key());
    params.subject_alt_names = vec![
        SanType::URI(uri.try_into().expect("a URI")),
        SanType::DnsName(PROXY_NAME.try_into().expect("a name")),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).expect("a leaf");
    Identity { der: certificate.der().clone(), key: key.serialize_der() }
}

/// Which of its certificates the proxy has shown.
pub(super) fn number_of(shown: &CertificateDer<'_>) -> Option<u64> {
    let at = identities().ours.iter().position(|identity| identity.der == *shown)?;
    u64::try_from(at).ok()
}

/// One of the proxy's certificates.
pub fn certificate(number: u64) -> Secret {
    Secret::Certificate(identities().ours[number as usize % NUMBERS as usize].for_proxy())
}

/// Whom the proxy believes.
pub fn trust() -> Secret {
    Secret::Validation(Arc::new(validation(true)))
}

fn validation(full: bool) -> ValidationContext {
    let authority = identities().authority.clone();
    let uri = StringMatcher::Exact { value: PEER_URI.as_bytes().into(), ignore_case: false };
    ValidationContext {
        trusted_ca: full.then(|| [authority].into()),
        origin: "<inline>".into(),
        san_matchers: vec![SanMatcher { kind: SanKind::Uri, matcher: uri }],
        ..ValidationContext::default()
    }
}

fn common(tls: &Tls, alpn: &[&[u8]], validates: bool) -> TlsCommon {
    let Secret::Certificate(certificate) = certificate(0) else { return TlsCommon::default() };
    let validation = match (validates, tls.secrets) {
        (false, _) => ValidationSource::None,
        (true, false) => ValidationSource::Inline(Arc::new(validation(true))),
        (true, true) => ValidationSource::Sds { default: Arc::new(validation(false)), secret: TRUST },
    };
    TlsCommon {
        certificates: vec![match tls.secrets {
            true => SecretSource::Sds(OURS),
            false => SecretSource::Inline(certificate),
        }],
        validation,
        alpn: alpn.iter().map(|name| (*name).into()).collect(),
        ..TlsCommon::default()
    }
}

/// A context for a client of the proxy that is not rustls's.
pub fn client_context() -> UpstreamTls {
    let certificates = vec![SecretSource::Inline(identities().peer.for_proxy())];
    let common = TlsCommon { certificates, ..TlsCommon::default() };
    UpstreamTls { common, sni: PROXY_NAME.into(), ..UpstreamTls::default() }
}

/// A context for an endpoint of the proxy that is not rustls's.
pub fn endpoint_context() -> DownstreamTls {
    let certificates = vec![SecretSource::Inline(identities().peer.for_proxy())];
    DownstreamTls { common: TlsCommon { certificates, ..TlsCommon::default() }, ..DownstreamTls::default() }
}

/// Puts TLS where the settings want it. `alpn` is what the endpoints speak, `None` for tunnels.
pub fn configure(snapshot: &mut Snapshot, tls: &Tls, alpn: Option<&[u8]>) {
    if tls.secrets {
        snapshot.secrets = vec![Some(certificate(0)), Some(trust())];
    }
    if tls.downstream {
        let names: &[&[u8]] = if alpn.is_some() { &[b"h2", b"http/1.1"] } else { &[] };
        let context = DownstreamTls {
            common: common(tls, names, tls.mutual),
            require_client_certificate: tls.mutual,
            ..DownstreamTls::default()
        };
        snapshot.listeners = vec![Arc::new(listener(&snapshot.listeners[0], context, tls.inspected))];
    }
    if tls.upstream
        && let Some(cluster) = snapshot.clusters.first_mut().and_then(Option::as_mut)
    {
        let automatic = tls.automatic && alpn.is_some() && !tls.some_endpoints;
        let names: &[&[u8]] = if automatic { &[] } else { alpn.as_slice() };
        let context = UpstreamTls {
            common: common(tls, names, true),
            sni: if automatic { "".into() } else { PROXY_NAME.into() },
            max_session_keys: 1,
            ..UpstreamTls::default()
        };
        let transport = UpstreamTransport { tls: Some(Arc::new(context)), proxy_protocol: None };
        let cluster = Arc::make_mut(cluster);
        if automatic {
            cluster.http.protocol = UpstreamProtocol::Auto;
            (cluster.http.auto_sni, cluster.http.auto_san_validation) = (true, true);
        }
        if !tls.some_endpoints {
            cluster.transport = transport;
            return;
        }
        let secure: (Arc<str>, Arc<str>) = ("tls".into(), "true".into());
        let endpoints = cluster.localities.iter_mut().flat_map(|l| &mut l.endpoints);
        for endpoint in endpoints.step_by(2) {
            endpoint.transport_metadata = Some([secure.clone()].into());
        }
        cluster.transport_matches =
            vec![TransportMatch { name: "tls".into(), criteria: vec![secure], transport }];
    }
}

fn listener(base: &Listener, context: DownstreamTls, inspected: bool) -> Listener {
    let clear = base.filter_chains[0].clone();
    let secure = Arc::new(FilterChain {
        tls: Some(Arc::new(context)),
        transport_socket_connect_timeout: Some(HANDSHAKE_TIME),
        ..FilterChain::clone(&clear)
    });
    if !inspected {
        return Listener { filter_chains: vec![secure], ..base.clone() };
    }
    let filter = |kind| ListenerFilter { kind, disabled: None };
    let over = |protocol| FilterChainCriteria {
        transport_protocol: Some(protocol),
        ..FilterChainCriteria::default()
    };
    let criteria = vec![over(TransportProtocol::Tls), over(TransportProtocol::RawBuffer)];
    Listener {
        listener_filters: vec![
            filter(ListenerFilterKind::TlsInspector {
                close_on_error: false,
                client_hello_bytes_max: 16 * 1024,
            }),
            filter(ListenerFilterKind::HttpInspector),
        ],
        listener_filters_timeout: Some(HANDSHAKE_TIME),
        filter_chains: vec![secure, clear],
        chain_match: FilterChainMatch::compile(criteria).unwrap_or_default(),
        ..base.clone()
    }
}
