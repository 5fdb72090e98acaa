//! Keys that wear out: TLS 1.3 changes them, TLS 1.2 ends.

use std::rc::Rc;
use std::sync::Arc;

use millrace_base::WallTime;
use millrace_config::{DownstreamTls, PrivateKey, SecretSource, TlsCertificate, TlsVersion, UpstreamTls};
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::local::Local;
use crate::tickets::Shared;

fn established(version: TlsVersion) -> (Session, Session) {
    let local = Local::new(&Shared::new([1; 32]));
    local.set_wall(WallTime(1_800_000_000 * 1_000_000_000));
    let key = KeyPair::generate().expect("a key");
    let leaf =
        CertificateParams::new(vec!["server.test".to_owned()]).and_then(|params| params.self_signed(&key));
    let mut down = DownstreamTls::default();
    down.common.certificates = vec![SecretSource::Inline(Arc::new(TlsCertificate {
        chain: vec![leaf.expect("a leaf").der().as_ref().into()],
        key: PrivateKey::new(key.serialize_der()),
        ocsp_staple: None,
        origin: "<inline>".into(),
    }))];
    let mut up = UpstreamTls::default();
    (up.common.params.minimum, up.common.params.maximum) = (version, version);
    let server = Rc::new(ServerContext::new(&down, &|_| None, &local).expect("a server's context"));
    let client = Rc::new(ClientContext::new(&up, &|_| None, &local).expect("a client's context"));
    let mut to_server = Vec::new();
    let mut client = Session::client(&client, ClientOptions::default(), &mut to_server).expect("a hello");
    let (mut server, mut to_client) = (Session::server(&server), Vec::new());
    while !to_server.is_empty() || !to_client.is_empty() {
        feed(&mut server, &mut to_server, &mut to_client);
        feed(&mut client, &mut to_client, &mut to_server);
    }
    assert!(client.is_established() && server.is_established());
    (client, server)
}

/// Gives `from` to a session; how much data was in it.
fn feed(session: &mut Session, from: &mut Vec<u8>, answers: &mut Vec<u8>) -> usize {
    let (mut start, mut data) = (0, 0);
    while start < from.len() {
        let step = session.receive(&mut from[start..], answers).expect("a good peer");
        start += step.consumed;
        match step.event {
            Event::Data(range) => data += range.len(),
            Event::NeedMore { .. } => break,
            _ => {}
        }
    }
    from.clear();
    data
}

fn wear_out(session: &mut Session) {
    if let State::Established(established) = &mut session.0 {
        established.wear_out();
    }
}

#[test]
fn tls_1_3_changes_keys_before_they_are_worn_out() {
    let (mut client, mut server) = established(TlsVersion::V1_3);
    let (mut out, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        wear_out(&mut client);
        client.seal([&[1; 50_000][..]].into_iter(), &mut out).expect("new keys");
        assert_eq!(feed(&mut server, &mut out, &mut answers), 50_000);
        wear_out(&mut server);
        server.seal([&[2; 10][..]].into_iter(), &mut out).expect("the last of the old keys");
        server.seal([&[2; 100][..]].into_iter(), &mut out).expect("new keys");
        assert_eq!(feed(&mut client, &mut out, &mut answers), 110);
    }
    assert!(answers.is_empty(), "nobody was asked to follow");
}

#[test]
fn tls_1_2_ends_with_its_keys() {
    let (mut client, mut server) = established(TlsVersion::V1_2);
    wear_out(&mut client);
    let (mut out, mut answers) = (Vec::new(), Vec::new());
    assert_eq!(client.seal([&[1; 100][..]].into_iter(), &mut out), Err(TlsError::Exhausted));
    client.close_notify(&mut out);
    assert_eq!(feed(&mut server, &mut out, &mut answers), 0);
    assert!(matches!(&server.0, State::Established(established) if established.is_closed_by_peer()));
}
