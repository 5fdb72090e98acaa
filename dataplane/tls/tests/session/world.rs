//! Certificates, contexts and the two ends of a connection for the tests beside it.

use std::rc::Rc;
use std::sync::Arc;

use millrace_base::WallTime;
use millrace_config::{
    DownstreamTls, PrivateKey, SecretSource, TlsCertificate, TlsVersion, UpstreamTls, ValidationContext,
    ValidationSource,
};
use millrace_tls::{ClientContext, ClientOptions, Event, Local, ServerContext, Session, Shared, TlsError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A second of the year 2027, in which every certificate here is valid.
pub const NOW: u64 = 1_800_000_000;

/// How a leaf signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ecdsa,
    Rsa,
}

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub fn der(&self) -> Arc<[u8]> {
        self.0.der().as_ref().into()
    }

    pub fn leaf(&self, names: &[&str], kind: Kind) -> Arc<TlsCertificate> {
        self.leaf_until(names, kind, 2_100)
    }

    pub fn leaf_until(&self, names: &[&str], kind: Kind, year: i32) -> Arc<TlsCertificate> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2_000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        }
        .expect("a key");
        let leaf = params.signed_by(&key, &self.0).expect("a leaf");
        Arc::new(TlsCertificate {
            chain: vec![leaf.der().as_ref().into()],
            key: PrivateKey::new(key.serialize_der()),
            ocsp_staple: None,
            origin: "<inline>".into(),
        })
    }

    pub fn trust(&self) -> ValidationContext {
        ValidationContext { trusted_ca: Some(Arc::from([self.der()])), ..ValidationContext::default() }
    }
}

pub fn shard(shared: &Arc<Shared>) -> Rc<Local> {
    let local = Local::new(shared);
    local.set_wall(WallTime(NOW * 1_000_000_000));
    local
}

pub fn downstream(certificates: &[Arc<TlsCertificate>]) -> DownstreamTls {
    let mut config = DownstreamTls::default();
    config.common.certificates = certificates.iter().cloned().map(SecretSource::Inline).collect();
    config
}

pub fn mutual(mut config: DownstreamTls, trust: ValidationContext) -> DownstreamTls {
    config.common.validation = ValidationSource::Inline(Arc::new(trust));
    config.require_client_certificate = true;
    config
}

pub fn upstream(trust: Option<ValidationContext>, certificate: Option<Arc<TlsCertificate>>) -> UpstreamTls {
    let mut config = UpstreamTls { max_session_keys: 1, ..UpstreamTls::default() };
    config.common.validation =
        trust.map_or(ValidationSource::None, |trust| ValidationSource::Inline(Arc::new(trust)));
    config.common.certificates = certificate.into_iter().map(SecretSource::Inline).collect();
    config
}

pub fn server_context(config: &DownstreamTls, local: &Rc<Local>) -> Rc<ServerContext> {
    Rc::new(ServerContext::new(config, &|_| None, local).expect("a server's context"))
}

pub fn client_context(config: &UpstreamTls, local: &Rc<Local>) -> Rc<ClientContext> {
    Rc::new(ClientContext::new(config, &|_| None, local).expect("a client's context"))
}

pub fn alpn(names: &[&str]) -> Vec<Arc<[u8]>> {
    names.iter().map(|name| name.as_bytes().into()).collect()
}

/// One authority, a server and a client that know each other, of one version.
pub struct Pair {
    pub server: Rc<ServerContext>,
    pub client: Rc<ClientContext>,
}

pub fn pair(kind: Kind, version: TlsVersion) -> Pair {
    let authority = Authority::new("root");
    let local = shard(&Shared::new([3; 32]));
    let mut down = mutual(downstream(&[authority.leaf(&["server.test"], kind)]), authority.trust());
    down.common.alpn = alpn(&["h2", "http/1.1"]);
    let mut up = upstream(Some(authority.trust()), Some(authority.leaf(&["client.test"], kind)));
    up.common.alpn = alpn(&["http/1.1"]);
    (up.common.params.minimum, up.common.params.maximum) = (version, version);
    Pair { server: server_context(&down, &local), client: client_context(&up, &local) }
}

/// One end of a connection and everything that came of it.
pub struct End {
    pub session: Session,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub data: Vec<u8>,
    pub established: u32,
    pub closed: bool,
    pub error: Option<TlsError>,
}

impl End {
    pub fn server(context: &Rc<ServerContext>) -> Self {
        Self::of(Session::server(context), Vec::new())
    }

    pub fn client(context: &Rc<ClientContext>, options: ClientOptions<'_>) -> Self {
        let mut output = Vec::new();
        let session = Session::client(context, options, &mut output).expect("a ClientHello");
        Self::of(session, output)
    }

    pub fn to(context: &Rc<ClientContext>) -> Self {
        Self::client(context, ClientOptions { server_name: "server.test", ..ClientOptions::default() })
    }

    fn of(session: Session, output: Vec<u8>) -> Self {
        Self {
            session,
            input: Vec::new(),
            output,
            data: Vec::new(),
            established: 0,
            closed: false,
            error: None,
        }
    }

    /// Takes bytes as a shard does: everything that came, again and again until more is needed.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.error.is_none() {
            let step = match self.session.receive(&mut self.input, &mut self.output) {
                Ok(step) => step,
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            };
            match step.event {
                Event::NeedMore { missing } => {
                    assert!(missing > 0 && step.consumed == 0);
                    break;
                }
                Event::Progress => assert!(step.consumed > 0),
                Event::Established => self.established += 1,
                Event::Data(range) => {
                    assert!(!range.is_empty() && range.end <= step.consumed);
                    self.data.extend_from_slice(&self.input[range]);
                }
                Event::CloseNotify => self.closed = true,
            }
            self.input.drain(..step.consumed);
        }
    }

    pub fn send(&mut self, plaintext: &[u8]) {
        self.session.seal([plaintext].into_iter(), &mut self.output).expect("established");
    }

    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

/// Exchanges what both want to send, so many bytes at a time, until nobody wants to say anything.
pub fn exchange(one: &mut End, two: &mut End, at_a_time: usize) {
    while !one.output.is_empty() || !two.output.is_empty() {
        for piece in one.take().chunks(at_a_time) {
            two.feed(piece);
        }
        for piece in two.take().chunks(at_a_time) {
            one.feed(piece);
        }
    }
}

/// A connection that is established on both ends: client, server.
pub fn connect(pair: &Pair) -> (End, End) {
    let (mut client, mut server) = (End::to(&pair.client), End::server(&pair.server));
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!((&client.error, &server.error), (&None, &None));
    assert!(client.session.is_established() && server.session.is_established());
    (client, server)
}
