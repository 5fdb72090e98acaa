//! What needs a peer that holds the keys: keys that wear out, and messages that no honest peer sends.

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

/// RFC 8446 4.6.3: whoever is silent answers many requests with one update, before what it says next.
#[test]
fn requests_for_new_keys_are_answered_once_and_with_data() {
    const UPDATE: usize = 5 + 5 + 1 + 16;
    let (mut client, mut server) = established(TlsVersion::V1_3);
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let ask = |session: &mut Session, out: &mut Vec<u8>| {
        let State::Established(established) = &mut session.0 else { panic!("it is established") };
        established.ask_for_keys(out);
    };
    for round in 0..5 {
        for _ in 0..32 {
            ask(&mut client, &mut to_server);
        }
        feed(&mut server, &mut to_server, &mut to_client);
        assert!(to_client.is_empty(), "it has nothing to say");
        server.seal([].into_iter(), &mut to_client).expect("nothing");
        assert!(to_client.is_empty(), "still nothing");
        for update in [UPDATE, 0] {
            server.seal([&[2; 10][..]].into_iter(), &mut to_client).expect("established");
            assert_eq!(to_client.len(), update + 10 + 22, "{round}");
            assert_eq!(feed(&mut client, &mut to_client, &mut to_server), 10);
        }
        client.seal([&[1; 10][..]].into_iter(), &mut to_server).expect("established");
        assert_eq!(feed(&mut server, &mut to_server, &mut to_client), 10);
    }
    // Keys that are worn out at the same time: still one update.
    ask(&mut client, &mut to_server);
    feed(&mut server, &mut to_server, &mut to_client);
    wear_out(&mut server);
    server.seal([&[2; 100][..]].into_iter(), &mut to_client).expect("new keys");
    assert_eq!(to_client.len(), UPDATE + 100 + 22);
    assert_eq!(feed(&mut client, &mut to_client, &mut to_server), 100);
    // Nothing is owed behind our end.
    ask(&mut client, &mut to_server);
    feed(&mut server, &mut to_server, &mut to_client);
    server.close_notify(&mut to_client);
    assert_eq!(to_client.len(), 2 + 22);
    feed(&mut client, &mut to_client, &mut to_server);
    assert!(matches!(&client.0, State::Established(established) if established.is_closed_by_peer()));
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

/// Sends records, each `(type, bytes)`, so many times: what the other end makes of the last, and the alert it sends.
fn provoke(
    version: TlsVersion,
    from_client: bool,
    records: &[(u8, &[u8])],
    times: usize,
) -> (Result<Event, TlsError>, Option<u8>) {
    let (mut client, mut server) = established(version);
    let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
    let mut last = Ok(Event::Progress);
    let mut answers = Vec::new();
    for _ in 0..times {
        for (kind, bytes) in records {
            let (State::Established(sender), Ok(_)) = (&mut from.0, &last) else { continue };
            let mut record = Vec::new();
            sender.send(*kind, bytes, &mut record);
            last = to.receive(&mut record, &mut answers).map(|step| step.event);
        }
    }
    let mut none = Vec::new();
    let alert = match from.receive(&mut answers, &mut none) {
        Err(TlsError::Alert(alert)) => Some(alert),
        _ => None,
    };
    (last, alert)
}

const V12: TlsVersion = TlsVersion::V1_2;
const V13: TlsVersion = TlsVersion::V1_3;

#[test]
fn fruitless_records_are_bounded() {
    let flood = (Err(TlsError::Flood), Some(10));
    let key_update: &[(u8, &[u8])] = &[(22, &[24, 0, 0, 1, 0])];
    assert_eq!(provoke(V13, true, key_update, 1).0, Ok(Event::Progress));
    for version in [V12, V13] {
        let empty: &[(u8, &[u8])] = &[(23, &[])];
        assert_eq!(provoke(version, true, empty, 32), (Ok(Event::Progress), None));
        assert_eq!(provoke(version, true, empty, 33), flood);
        assert_eq!(
            provoke(version, true, &[(23, &[]), (23, b"x")], 40).0,
            Ok(Event::Data(if version == V13 { 5..6 } else { 13..14 }))
        );
        let canceled: &[(u8, &[u8])] = &[(21, &[1, 90])];
        assert_eq!(provoke(version, true, canceled, 4), (Ok(Event::Progress), None));
        assert_eq!(provoke(version, true, canceled, 5), flood);
    }
    assert_eq!(provoke(V12, false, &[(21, &[1, 112])], 5), flood, "warnings of TLS 1.2");
    assert_eq!(provoke(V13, false, &[(21, &[1, 112])], 1), (Err(TlsError::Alert(112)), None));
    // lifetime, age_add, nonce, ticket, extensions
    let ticket: &[(u8, &[u8])] = &[(22, &[4, 0, 0, 15, 0, 0, 0, 9, 0, 0, 0, 1, 1, 7, 0, 1, 8, 0, 0])];
    assert_eq!(provoke(V13, false, ticket, 20), (Ok(Event::Progress), None));
    assert_eq!(provoke(V13, false, ticket, 33), flood);
}

#[test]
fn messages_that_have_no_place() {
    let unexpected = (Err(TlsError::UnexpectedMessage), Some(10));
    for (from_client, records) in [
        (true, &[(22, &[4, 0, 0, 0][..])][..]),
        (true, &[(22, &[1, 0, 0, 0])]),
        (false, &[(22, &[13, 0, 0, 0])]),
        (true, &[(22, &[24, 0, 0, 1, 0, 24])]),
        (true, &[(22, &[24, 0, 0]), (23, b"between")]),
        (true, &[(22, &[24, 0, 0]), (21, &[1, 0])]),
        (true, &[(22, &[])]),
        (true, &[(20, &[1])]),
        (true, &[(99, &[1])]),
    ] {
        assert_eq!(provoke(V13, from_client, records, 1), unexpected, "{records:?}");
    }
    assert_eq!(provoke(V13, true, &[(22, &[24, 0, 0]), (22, &[1, 0])], 1), (Ok(Event::Progress), None));
    assert_eq!(provoke(V13, true, &[(22, &[24, 0, 0, 1, 9])], 1), (Err(TlsError::Decode), Some(50)));
    assert_eq!(provoke(V13, true, &[(21, &[1])], 1), (Err(TlsError::Decode), Some(50)));
    assert_eq!(provoke(V12, true, &[(22, &[24, 0, 0, 1, 0])], 1), unexpected);
    assert_eq!(provoke(V12, true, &[(20, &[1])], 1), unexpected);
    let renegotiation = (Err(TlsError::Renegotiation), Some(100));
    assert_eq!(provoke(V12, true, &[(22, &[1, 0, 0, 0])], 1), renegotiation);
    assert_eq!(provoke(V12, false, &[(22, &[0, 0, 0, 0])], 1), renegotiation);
}

/// A peer that asks and never reads costs one answer, however often it asks.
#[test]
fn one_answer_waits_for_all_key_updates() {
    let (mut client, mut server) = established(TlsVersion::V1_3);
    let (mut to_server, mut waiting) = (Vec::new(), Vec::new());
    let mut client_answers = Vec::new();
    for round in 0..100 {
        let State::Established(established) = &mut client.0 else { panic!("established") };
        established.ask_for_keys(&mut to_server);
        client.seal([&b"x"[..]].into_iter(), &mut to_server).expect("new keys");
        assert_eq!(feed(&mut server, &mut to_server, &mut waiting), 1);
        assert!(waiting.is_empty(), "round {round}");
    }
    server.seal([&b"answer"[..]].into_iter(), &mut waiting).expect("new keys");
    assert_eq!(feed(&mut client, &mut waiting, &mut client_answers), 6);
}
