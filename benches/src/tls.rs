//! TLS: records sealed and opened, handshakes between our client and our server.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::WallTime;
use millrace_config::{
    DownstreamTls, PrivateKey, SecretSource, TlsCertificate, UpstreamTls, ValidationContext, ValidationSource,
};
use millrace_tls::{ClientContext, ClientOptions, Event, Local, ServerContext, Session, Shared};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{Bench, Routine, repeat};

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new("tls/record_128", "seal 128 bytes (AES-128-GCM, TLS 1.3) and open them", || records(128)),
    Bench::new("tls/record_16k", "seal 16 KiB and open them", || records(1 << 14)),
    Bench::new(
        "tls/handshake_full",
        "both ends of a mutual handshake, ECDSA P-256, X25519, chains known",
        || handshakes(0),
    ),
    Bench::new("tls/handshake_resumed", "both ends of a resumed handshake", || handshakes(1)),
];

fn leaf(authority: &CertifiedIssuer<'_, KeyPair>, name: &str) -> Arc<TlsCertificate> {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let leaf = params.signed_by(&key, authority).expect("a leaf");
    Arc::new(TlsCertificate {
        chain: vec![leaf.der().as_ref().into()],
        key: PrivateKey::new(key.serialize_der()),
        ocsp_staple: None,
        origin: "<inline>".into(),
    })
}

/// A client and a server that verify each other.
fn contexts(max_session_keys: u32) -> (Rc<ClientContext>, Rc<ServerContext>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let trust = Arc::new(ValidationContext {
        trusted_ca: Some(Arc::from([Arc::from(authority.der().as_ref())])),
        ..ValidationContext::default()
    });
    let local = Local::new(&Shared::new([1; 32]));
    local.set_wall(WallTime(1_800_000_000 * 1_000_000_000));
    let mut down = DownstreamTls { require_client_certificate: true, ..DownstreamTls::default() };
    down.common.certificates = vec![SecretSource::Inline(leaf(&authority, "server.test"))];
    down.common.validation = ValidationSource::Inline(trust.clone());
    let mut up = UpstreamTls { max_session_keys, ..UpstreamTls::default() };
    up.common.certificates = vec![SecretSource::Inline(leaf(&authority, "client.test"))];
    up.common.validation = ValidationSource::Inline(trust);
    let client = ClientContext::new(&up, &|_| None, &local).expect("a client's context");
    let server = ServerContext::new(&down, &|_| None, &local).expect("a server's context");
    (Rc::new(client), Rc::new(server))
}

/// Gives a session everything in `from`, and what it answers to `to`.
fn feed(session: &mut Session, from: &mut Vec<u8>, to: &mut Vec<u8>) {
    let mut start = 0;
    while start < from.len() {
        let step = session.receive(&mut from[start..], to).expect("a good peer");
        start += step.consumed;
        if matches!(step.event, Event::NeedMore { .. }) {
            break;
        }
    }
    from.clear();
}

fn connect(client: &Rc<ClientContext>, server: &Rc<ServerContext>) -> (Session, Session) {
    let (mut to_server, mut to_client) = (Vec::with_capacity(4_096), Vec::with_capacity(4_096));
    let options = ClientOptions { server_name: "server.test", ..ClientOptions::default() };
    let mut client = Session::client(client, options, &mut to_server).expect("a ClientHello");
    let mut server = Session::server(server);
    while !to_server.is_empty() || !to_client.is_empty() {
        feed(&mut server, &mut to_server, &mut to_client);
        feed(&mut client, &mut to_client, &mut to_server);
    }
    assert!(client.is_established() && server.is_established());
    (client, server)
}

fn records(length: usize) -> Routine {
    let (client, server) = contexts(0);
    let (mut client, mut server) = connect(&client, &server);
    let plaintext = vec![7; length];
    let (mut record, mut answer) = (Vec::with_capacity(1 << 15), Vec::new());
    repeat(move || {
        record.clear();
        client.seal([plaintext.as_slice()].into_iter(), &mut record).expect("established");
        let step = server.receive(&mut record, &mut answer).expect("a good record");
        assert!(matches!(black_box(step).event, Event::Data(_)));
    })
}

fn handshakes(max_session_keys: u32) -> Routine {
    let (client, server) = contexts(max_session_keys);
    connect(&client, &server);
    repeat(move || {
        let (client, server) = connect(&client, &server);
        let resumed = client.facts().is_some_and(|facts| facts.resumed);
        assert_eq!(resumed, max_session_keys > 0);
        black_box((client, server));
    })
}
