//! Our client with our server: segmentation, sizes, key updates, ends.

use millrace_base::Rng;
use millrace_config::TlsVersion;
use millrace_tls::{ClientOptions, Session, TlsError};

use crate::world::*;

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

#[test]
fn facts_of_both_ends() {
    for (kind, version, name, cipher) in [
        (Kind::Ecdsa, TlsVersion::V1_3, "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        (Kind::Rsa, TlsVersion::V1_3, "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        (Kind::Ecdsa, TlsVersion::V1_2, "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (Kind::Rsa, TlsVersion::V1_2, "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
    ] {
        let (client, server) = connect(&pair(kind, version));
        for end in [&client, &server] {
            let facts = end.session.facts().expect("established");
            assert_eq!((facts.version, facts.cipher, &*facts.server_name), (name, cipher, "server.test"));
            assert_eq!((&*facts.alpn, facts.curve), (&b"http/1.1"[..], "X25519"));
            assert!(facts.peer_validated && !facts.resumed);
        }
        let of_server = server.session.facts().expect("established");
        assert_eq!(&*of_server.peer.as_ref().expect("shown").dns_sans[0], "client.test");
        assert_eq!(&*of_server.local.as_ref().expect("ours").dns_sans[0], "server.test");
        let of_client = client.session.facts().expect("established");
        assert_eq!(&*of_client.peer.as_ref().expect("shown").dns_sans[0], "server.test");
        assert_eq!(format!("{:?}", client.session), "Session(established)");
    }
}

#[test]
fn one_byte_at_a_time() {
    for version in VERSIONS {
        let pair = pair(Kind::Ecdsa, version);
        let (mut client, mut server) = (End::to(&pair.client), End::server(&pair.server));
        exchange(&mut client, &mut server, 1);
        client.send(b"ping");
        exchange(&mut client, &mut server, 1);
        server.send(b"pong");
        server.session.close_notify(&mut server.output);
        exchange(&mut client, &mut server, 1);
        assert_eq!((&server.data[..], &client.data[..], client.closed), (&b"ping"[..], &b"pong"[..], true));
        assert_eq!((client.established, server.established), (1, 1));
    }
}

/// The bytes of a handshake and the data behind it, cut in two at every offset.
#[test]
fn a_seam_at_every_offset() {
    for version in VERSIONS {
        let pair = pair(Kind::Ecdsa, version);
        let mut offset = 0;
        loop {
            let (mut client, mut server) = (End::to(&pair.client), End::server(&pair.server));
            let mut longest = 0;
            for _ in 0..8 {
                let bytes = client.take();
                longest = longest.max(bytes.len());
                let (head, tail) = bytes.split_at(offset.min(bytes.len()));
                server.feed(head);
                server.feed(tail);
                if server.session.is_established()
                    && client.session.is_established()
                    && client.data.is_empty()
                {
                    server.send(b"data behind the handshake");
                }
                let bytes = server.take();
                longest = longest.max(bytes.len());
                let (head, tail) = bytes.split_at(offset.min(bytes.len()));
                client.feed(head);
                client.feed(tail);
            }
            assert_eq!((&client.error, &server.error), (&None, &None), "{version:?} at {offset}");
            assert!(client.data.starts_with(b"data behind the handshake"), "{version:?} at {offset}");
            offset += 1;
            if offset > longest {
                break;
            }
        }
    }
}

#[test]
fn random_sizes_both_ways() {
    for version in VERSIONS {
        let pair = pair(Kind::Ecdsa, version);
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let (mut client, mut server) = connect(&pair);
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            for _ in 0..30 {
                for (end, sent) in [(&mut client, &mut to_server), (&mut server, &mut to_client)] {
                    let slices: Vec<Vec<u8>> = (0..rng.below(5))
                        .map(|_| {
                            let bound = if rng.chance(1, 4) { 40_000 } else { 200 };
                            (0..rng.below(bound)).map(|i| i as u8 ^ seed as u8).collect()
                        })
                        .collect();
                    let total: usize = slices.iter().map(Vec::len).sum();
                    let before = end.output.len();
                    let slices_of = slices.iter().map(Vec::as_slice);
                    end.session.seal(slices_of, &mut end.output).expect("established");
                    let records = total.div_ceil(1 << 14);
                    assert_eq!(
                        end.output.len() - before,
                        total + records * if version == TlsVersion::V1_3 { 22 } else { 29 }
                    );
                    slices.iter().for_each(|slice| sent.extend_from_slice(slice));
                }
                let at_a_time = 1 + rng.below(20_000) as usize;
                exchange(&mut client, &mut server, at_a_time);
            }
            assert!(client.data == to_client && server.data == to_server, "{version:?}, seed {seed}");
        }
    }
}

#[test]
fn ends_are_clean_and_half_closed() {
    for version in VERSIONS {
        let (mut client, mut server) = connect(&pair(Kind::Ecdsa, version));
        client.session.close_notify(&mut client.output);
        client.session.close_notify(&mut client.output);
        assert_eq!(client.session.seal([&b"x"[..]].into_iter(), &mut Vec::new()), Err(TlsError::Closed));
        let mut last = client.take();
        last.extend_from_slice(b"garbage that nobody reads");
        server.feed(&last);
        assert!(server.closed && server.error.is_none() && server.output.is_empty());
        // The other direction is still open.
        server.send(b"late answer");
        exchange(&mut server, &mut client, usize::MAX);
        assert_eq!(client.data, b"late answer");
        server.session.close_notify(&mut server.output);
        exchange(&mut server, &mut client, usize::MAX);
        assert!(client.closed);
    }
}

#[test]
fn nothing_is_sealed_before_and_nothing_said_twice() {
    let pair = pair(Kind::Ecdsa, TlsVersion::V1_3);
    let mut out = Vec::new();
    let mut server = Session::server(&pair.server);
    assert_eq!(server.seal([&b"x"[..]].into_iter(), &mut out), Err(TlsError::Closed));
    assert!(server.facts().is_none() && !server.is_established());
    server.close_notify(&mut out);
    assert!(out.is_empty());
    assert_eq!(server.receive(&mut [22, 3, 1], &mut out), Err(TlsError::Closed));
}

#[test]
fn names_that_are_sent_and_names_that_are_not() {
    let pair = pair(Kind::Ecdsa, TlsVersion::V1_3);
    for (asked, told) in [
        ("", ""),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("server.test", "server.test"),
        (
            "outbound_.80_._.reviews.default.svc.cluster.local",
            "outbound_.80_._.reviews.default.svc.cluster.local",
        ),
    ] {
        let options = ClientOptions { server_name: asked, ..ClientOptions::default() };
        let (mut client, mut server) = (End::client(&pair.client, options), End::server(&pair.server));
        exchange(&mut client, &mut server, usize::MAX);
        assert_eq!(&*server.session.facts().expect("established").server_name, told);
    }
    for bad in ["a b", "-", &"a.".repeat(200)] {
        let options = ClientOptions { server_name: bad, ..ClientOptions::default() };
        let refused = Session::client(&pair.client, options, &mut Vec::new()).err();
        assert_eq!(refused, Some(TlsError::ServerName), "{bad}");
    }
}

#[test]
fn alpn_with_and_without_overlap() {
    let pair = pair(Kind::Ecdsa, TlsVersion::V1_3);
    for (offered, agreed) in
        [(&["http/1.1", "h2"][..], &b"h2"[..]), (&["http/1.1"], b"http/1.1"), (&["spdy/3"], b""), (&[], b"")]
    {
        let offered = alpn(offered);
        let options =
            ClientOptions { server_name: "server.test", alpn: Some(&offered), ..ClientOptions::default() };
        let (mut client, mut server) = (End::client(&pair.client, options), End::server(&pair.server));
        exchange(&mut client, &mut server, usize::MAX);
        for end in [&client, &server] {
            assert_eq!(&*end.session.facts().expect("established").alpn, agreed);
        }
    }
}
