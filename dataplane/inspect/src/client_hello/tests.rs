//! ClientHellos in one record and in many, every truncation, and what is refused.

use super::*;

/// A body with these extensions; `None` leaves the whole block out.
fn body(extensions: Option<&[(u16, Vec<u8>)]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x13, 1, 0xc0, 0x2b, 1, 0]);
    if let Some(list) = extensions {
        let block: Vec<u8> =
            list.iter().flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &vector(data)].concat()).collect();
        body.extend(vector(&block));
    }
    body
}

/// With two octets of length.
fn vector(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).unwrap().to_be_bytes()[..], data].concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], body].concat()
}

/// A message in records of at most so many bytes.
fn records(message: &[u8], most: usize) -> Vec<u8> {
    message.chunks(most).flat_map(|part| [&[22, 3, 1][..], &vector(part)].concat()).collect()
}

fn wire(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    records(&message(&body(Some(extensions))), 1 << 14)
}

fn name(kind: u8, host: &[u8]) -> (u16, Vec<u8>) {
    (0, vector(&[&[kind][..], &vector(host)].concat()))
}

fn alpn(list: &[&[u8]]) -> (u16, Vec<u8>) {
    (16, vector(&list.iter().flat_map(|p| [&[p.len() as u8][..], p].concat()).collect::<Vec<_>>()))
}

fn versions(list: &[u16]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = list.iter().flat_map(|v| v.to_be_bytes()).collect();
    (43, [&[list.len() as u8][..], &list].concat())
}

fn all() -> Vec<(u16, Vec<u8>)> {
    vec![
        (0x0a0a, vec![]),
        name(0, b"Some.Example"),
        versions(&[0x2a2a, 0x304, 0x303]),
        alpn(&[b"h2", b"http/1.1"]),
        (65_000, vec![9; 300]),
    ]
}

fn read(bytes: &[u8]) -> ClientHello {
    client_hello(bytes).unwrap().unwrap()
}

#[test]
fn everything_of_interest_is_read() {
    let bytes = wire(&all());
    let hello = read(&[&bytes[..], b"more"].concat());
    assert_eq!(hello.server_name.as_deref(), Some("some.example"));
    assert_eq!(hello.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_eq!((hello.legacy_version, hello.bytes), (0x303, bytes.len()));
    assert_eq!(hello.supported_versions, [0x2a2a, 0x304, 0x303]);
    assert!(!hello.offers_psk && read(&wire(&[versions(&[0x304]), (41, vec![])])).offers_psk);
}

#[test]
fn extensions_may_be_missing() {
    for bytes in [records(&message(&body(None)), 1 << 14), wire(&[])] {
        let hello = read(&bytes);
        assert_eq!(
            hello,
            ClientHello { legacy_version: 0x303, bytes: bytes.len(), ..ClientHello::default() }
        );
        assert_eq!(hello.alpn().count(), 0);
    }
}

#[test]
fn records_of_every_size_give_the_same() {
    let message = message(&body(Some(&all())));
    let expected = read(&records(&message, 1 << 14));
    for most in (1..=40).chain([100, message.len() - 1, message.len()]) {
        let bytes = records(&message, most);
        assert_eq!(read(&bytes), ClientHello { bytes: bytes.len(), ..expected.clone() }, "{most}");
        for end in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..end]), Ok(None), "{most} {end}");
        }
        crate::fuzz::fuzz_client_hello(&bytes);
    }
}

#[test]
fn what_is_no_tls_is_told_at_the_first_octet() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x80\x2e\x01\x03\x01",
        b"\x15",
        b"\x17",
        b"\0",
        b"\x16\x02",
        b"\x16GET",
    ] {
        let wrong = bytes.iter().zip([22, 3]).position(|(a, b)| *a != b).unwrap() + 1;
        assert_eq!(client_hello(&bytes[..wrong - 1]), Ok(None));
        assert_eq!(client_hello(&bytes[..wrong]), Err(HelloError::NotTls), "{}", bytes.escape_ascii());
    }
    assert_eq!(client_hello(&[22, 3, 1, 0x40, 1]), Err(HelloError::NotTls), "no record is as long");
    assert_eq!(client_hello(&[22, 3, 1, 0, 0]), Err(HelloError::NotTls), "nor empty");
    assert_eq!(client_hello(&[22, 3, 1, 0, 9, 2]), Err(HelloError::Malformed), "a ServerHello");
    let mut bytes = records(&message(&body(None)), 20);
    bytes[25] = 21;
    assert_eq!(client_hello(&bytes), Err(HelloError::Malformed), "an alert in the middle");
}

#[test]
fn the_bound_counts_what_came_over_the_wire() {
    let padded = |len: usize| records(&message(&body(Some(&[(65_000, vec![0; len])]))), 1 << 14);
    let overhead = padded(0).len();
    let largest = padded(CLIENT_HELLO_BYTES_MAX - overhead);
    assert_eq!(read(&largest).bytes, CLIENT_HELLO_BYTES_MAX);
    let bytes = padded(CLIENT_HELLO_BYTES_MAX - overhead + 1);
    assert_eq!(client_hello(&bytes[..9]), Err(HelloError::TooLarge), "its own length tells");
    assert_eq!(client_hello(&bytes), Err(HelloError::TooLarge));
    // Records of one byte make six of it.
    let small = records(&message(&body(Some(&[(65_000, vec![0; 3000])]))), 1);
    assert_eq!(client_hello(&small), Err(HelloError::TooLarge));
    assert_eq!(client_hello(&small[..1000]), Ok(None));
    assert_eq!(client_hello_within(&wire(&all()), 200), Err(HelloError::TooLarge));
    assert_eq!(client_hello_within(&padded(200), usize::MAX).unwrap().unwrap().bytes, padded(200).len());
}

#[test]
fn server_names() {
    let named = |host: &[u8]| client_hello(&wire(&[name(0, host)]));
    for host in ["a", "1.2.3.4", "trailing.dot.", "under_score", "::1", &"x".repeat(255)] {
        assert_eq!(named(host.as_bytes()).unwrap().unwrap().server_name.as_deref(), Some(host));
    }
    for host in [&b""[..], b"a\0b", b"a b", b"\xc3\xa4.example", b"a\nb", &[b'x'; 256]] {
        assert_eq!(named(host), Err(HelloError::Malformed), "{}", host.escape_ascii());
    }
    let two = (0, vector(&[name(0, b"a").1[2..].to_vec(), name(0, b"b").1[2..].to_vec()].concat()));
    for extension in [name(1, b"a"), two, (0, vec![]), (0, vec![0, 0]), (0, vec![0, 9, 0])] {
        assert_eq!(client_hello(&wire(&[extension])), Err(HelloError::Malformed));
    }
}

#[test]
fn broken_bodies_are_refused() {
    let refused = |body: &[u8]| client_hello(&records(&message(body), 1 << 14)) == Err(HelloError::Malformed);
    let twice = [name(0, b"a"), (5, vec![]), (5, vec![])];
    assert!(refused(&body(Some(&twice))), "an extension twice");
    let many: Vec<_> = (1000..4000).map(|kind| (kind, vec![])).collect();
    assert!(!refused(&body(Some(&many))));
    let good = body(None);
    let trailing = [message(&good), vec![0]].concat();
    assert_eq!(client_hello(&records(&trailing, 1 << 14)), Err(HelloError::Malformed), "in its record");
    // Envoy leaves these to the handshake.
    for extension in [
        alpn(&[]),
        alpn(&[b""]),
        alpn(&[b"h2", b""]),
        (16, vec![0, 3, 9, b'h', b'2']),
        (16, vec![0, 3, 2, b'h', b'2', 0]),
        versions(&[]),
        (43, vec![3, 3, 4, 3]),
        (43, vec![2, 3, 4, 0]),
    ] {
        let hello = read(&wire(&[extension]));
        assert!(hello.alpn().next().is_none() && hello.supported_versions.is_empty());
    }
    for (at, octet, what) in
        [(34, 33, "session id"), (36, 0, "cipher suites"), (36, 3, "odd"), (42, 1, "compression")]
    {
        let mut body = good.clone();
        body[at] = octet;
        assert!(refused(&body), "{what}");
    }
    assert!(
        refused(&[&good[..], &[0]].concat()) && refused(&[&good[..], &[0, 0, 0]].concat()),
        "trailing octets"
    );
    for end in 0..good.len() {
        assert!(refused(&good[..end]) || end == 0, "{end}");
    }
    assert!(refused(&[]));
}

#[test]
fn what_is_missing_is_never_more_than_what_comes_and_few_looks_suffice() {
    let mut long = all();
    long.push((65_001, vec![1; 2000]));
    let message = message(&body(Some(&long)));
    for most in [1, 2, 3, 7, 100, 1 << 14] {
        let bytes = records(&message, most);
        for have in 0..bytes.len() {
            let missing = client_hello_missing(&bytes[..have]);
            assert!((1..=bytes.len() - have).contains(&missing), "{have} of {} in {most}", bytes.len());
        }
        let (mut have, mut looks) = (0, 0);
        while client_hello(&bytes[..have]).unwrap().is_none() {
            have += client_hello_missing(&bytes[..have]);
            looks += 1;
        }
        assert_eq!(have, bytes.len());
        assert!(looks < 80, "{looks} looks at records of {most}");
    }
}
