//! Peers that break rules: tampering, truncation, clear text, floods, renegotiation. The right alert, and an end.

use millrace_base::{Origin, Rng};
use millrace_config::TlsVersion;
use millrace_tls::{RecordError, Session, TlsError};

use crate::world::*;

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

/// Lets the other end read what `from` said last, and tells its error.
fn told(from: &mut End, to: &mut End) -> Option<TlsError> {
    let last = from.take();
    to.feed(&last);
    to.error.clone()
}

#[test]
fn tampered_records_end_with_an_alert() {
    for version in VERSIONS {
        let pair = pair(Kind::Ecdsa, version);
        for at in [0, 1, 5, 13, 20, 30] {
            let (mut client, mut server) = connect(&pair);
            client.send(b"sixteen bytes ..");
            let mut record = client.take();
            record[at] ^= 0x10;
            server.feed(&record);
            let expected = match at {
                0 | 1 => TlsError::Record(RecordError::Malformed),
                _ => TlsError::Record(RecordError::BadMac),
            };
            assert_eq!(server.error, Some(expected), "{version:?} {at}");
            let alert = if at < 2 { 50 } else { 20 };
            assert_eq!(told(&mut server, &mut client), Some(TlsError::Alert(alert)));
            assert!(server.session.receive(&mut [], &mut Vec::new()).is_err(), "it is over");
            assert_eq!(TlsError::Alert(20).blame(Origin::Downstream), Origin::Downstream);
        }
    }
}

#[test]
fn records_that_are_replayed_or_too_long_are_refused() {
    for version in VERSIONS {
        let pair = pair(Kind::Ecdsa, version);
        let (mut client, mut server) = connect(&pair);
        client.send(b"once");
        let record = client.take();
        server.feed(&record);
        server.feed(&record);
        assert_eq!(
            (&server.data[..], &server.error),
            (&b"once"[..], &Some(TlsError::Record(RecordError::BadMac)))
        );
        let (mut client, mut server) = connect(&pair);
        server.feed(&[23, 3, 3, 0x41, 1]);
        assert_eq!(server.error, Some(TlsError::Record(RecordError::Overflow)));
        assert_eq!(told(&mut server, &mut client), Some(TlsError::Alert(22)));
    }
}

#[test]
fn clear_text_behind_a_handshake_is_refused() {
    for version in VERSIONS {
        for record in [
            &[21, 3, 3, 0, 2, 1, 0][..],
            &[20, 3, 3, 0, 1, 1],
            &[22, 3, 3, 0, 4, 0, 0, 0, 0],
            &[23, 3, 3, 0, 0],
        ] {
            let (mut client, mut server) = connect(&pair(Kind::Ecdsa, version));
            server.feed(record);
            assert!(server.error.is_some() && !server.closed, "{version:?} {record:?}");
            assert!(matches!(told(&mut server, &mut client), Some(TlsError::Alert(10 | 20))));
        }
    }
}

#[test]
fn http_on_a_tls_port() {
    let pair = pair(Kind::Ecdsa, TlsVersion::V1_3);
    for (text, error) in [
        (&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], TlsError::PlainHttp),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", TlsError::PlainHttp),
        (b"\x80\x2e\x01\x00\x02", TlsError::NotTls),
        (b"SSH-2.0-x\r\n", TlsError::NotTls),
    ] {
        let mut server = End::server(&pair.server);
        server.feed(text);
        assert_eq!(server.error, Some(error.clone()));
        let alert = if error == TlsError::NotTls { &[21, 3, 3, 0, 2, 2, 70][..] } else { &[] };
        assert_eq!(server.output, alert);
    }
    let details = TlsError::PlainHttp.details();
    assert_eq!(details, "TLS_error:|268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end");
    let mut client = End::to(&pair.client);
    client.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(client.error, Some(TlsError::Record(RecordError::Malformed)));
    assert!(client.error.is_some_and(
        |error| error.details().contains("268435703") && error.details().contains("WRONG_VERSION_NUMBER")
    ));
    assert!(client.output.ends_with(&[21, 3, 3, 0, 2, 2, 50]));
}

#[test]
fn hellos_that_are_too_large_or_nonsense() {
    let pair = pair(Kind::Ecdsa, TlsVersion::V1_3);
    let mut large = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3];
    large.resize(17_000, 0);
    let mut server = End::server(&pair.server);
    server.feed(&large);
    assert!(
        matches!(server.error, Some(TlsError::HelloTooLarge | TlsError::MalformedHello)),
        "{:?}",
        server.error
    );
    assert_eq!(server.output, [21, 3, 3, 0, 2, 2, 50]);
    // A hello whose body is short of everything.
    let mut server = End::server(&pair.server);
    server.feed(&[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3]);
    assert_eq!(server.error, Some(TlsError::MalformedHello));
    assert_eq!(server.output, [21, 3, 3, 0, 2, 2, 50]);
    // Another message than a hello.
    let mut server = End::server(&pair.server);
    server.feed(&[22, 3, 1, 0, 4, 2, 0, 0, 0]);
    assert!(server.error.is_some());
}

/// Two ends that are both established must agree, whatever happened on the way (record versions protect nothing).
fn agree(client: &mut End, server: &mut End) {
    if !client.session.is_established() || !server.session.is_established() {
        return;
    }
    let (ours, theirs) =
        (client.session.facts().expect("there").clone(), server.session.facts().expect("there"));
    assert_eq!((ours.cipher, ours.version, &ours.alpn), (theirs.cipher, theirs.version, &theirs.alpn));
    client.send(b"ping");
    server.send(b"pong");
    exchange(client, server, usize::MAX);
    assert_eq!((&client.data[..], &server.data[..]), (&b"pong"[..], &b"ping"[..]));
}

/// Bits of a ClientHello and of a server's flight: an error or a handshake, never a panic.
#[test]
fn flipped_bits_in_handshakes() {
    for version in VERSIONS {
        let pair = pair(Kind::Ecdsa, version);
        let mut rng = Rng::new(7);
        let mut flip = |bytes: &mut Vec<u8>| {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
            at
        };
        for _ in 0..400 {
            let (mut client, mut server) = (End::to(&pair.client), End::server(&pair.server));
            let mut hello = client.take();
            let at = flip(&mut hello);
            server.feed(&hello);
            exchange(&mut client, &mut server, usize::MAX);
            assert!(at < 5 || !server.session.is_established(), "{at}");
            agree(&mut client, &mut server);
            let (mut client, mut server) = (End::to(&pair.client), End::server(&pair.server));
            let hello = client.take();
            server.feed(&hello);
            let mut flight = server.take();
            flip(&mut flight);
            client.feed(&flight);
            exchange(&mut client, &mut server, usize::MAX);
            agree(&mut client, &mut server);
        }
    }
}

#[test]
fn garbage_never_panics() {
    let pair = pair(Kind::Ecdsa, TlsVersion::V1_3);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut garbage: Vec<u8> = (0..rng.below(400)).map(|_| rng.next_u64() as u8).collect();
        for start in [&[22, 3, 1][..], &[22, 3, 3, 0], &[21, 3, 3, 0, 2], &[20, 3, 3, 0, 1], &[23, 3, 3]] {
            garbage.splice(0..0, start.iter().copied());
            let (mut client, mut server) = (End::to(&pair.client), End::server(&pair.server));
            server.feed(&garbage);
            client.feed(&garbage);
            let (_, mut server) = connect(&pair);
            server.feed(&garbage);
            assert!(server.data.is_empty());
        }
    }
}

#[test]
fn a_handshake_cannot_be_drawn_out_for_ever() {
    let pair = pair(Kind::Ecdsa, TlsVersion::V1_3);
    let mut server = End::server(&pair.server);
    let hello = End::to(&pair.client).take();
    server.feed(&hello);
    server.take();
    // CCS is dropped during a handshake of TLS 1.3; rustls allows one.
    for _ in 0..10 {
        server.feed(&[20, 3, 3, 0, 1, 1]);
    }
    assert!(server.error.is_some());
    assert!(
        matches!(Session::server(&pair.server).receive(&mut [22], &mut Vec::new()), Ok(step) if step.consumed == 0)
    );
}
