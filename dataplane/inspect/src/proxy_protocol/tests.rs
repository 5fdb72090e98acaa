//! Headers of both versions as the specification and Envoy 1.40 take them, what rules change, and what is written.

use super::*;

const STRICT: Rules = Rules { allow_without: false, refuse_v1: false, refuse_v2: false };
const LAX: Rules = Rules { allow_without: true, refuse_v1: false, refuse_v2: false };

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

fn header(bytes: &[u8]) -> Header {
    match parse(bytes, &STRICT) {
        Ok(Step::Header(header)) => header,
        other => unreachable!("{other:?}"),
    }
}

/// Version 2, PROXY, this family, this block.
fn v2(family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[v2::PROXY, family], &length, block].concat()
}

const INET: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

#[test]
fn what_the_rules_change() {
    let (one, two): (&[u8], _) = (b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\n", v2(0x11, &INET));
    let no_v1 = Rules { refuse_v1: true, ..STRICT };
    assert_eq!(parse(one, &no_v1), Err(Error::Disallowed(Version::V1)));
    assert!(matches!(parse(&two, &no_v1), Ok(Step::Header(_))));
    assert_eq!(parse(one, &Rules { allow_without: true, ..no_v1 }), Ok(Step::Absent));
    let no_v2 = Rules { refuse_v2: true, ..STRICT };
    assert_eq!(parse(&two, &no_v2), Err(Error::Disallowed(Version::V2)));
    assert!(matches!(parse(one, &no_v2), Ok(Step::Header(_))));
    for other in [&b"hello"[..], b"PROXX", b"PROhello", b"\r\nGET", b"proxy TCP4 1.2.3.4 1.2.3.5 1 2\r\n"] {
        assert_eq!(parse(other, &STRICT), Err(Error::Missing), "{}", other.escape_ascii());
        assert_eq!(parse(other, &LAX), Ok(Step::Absent), "{}", other.escape_ascii());
    }
    for start in [&b""[..], b"P", b"PROXY", b"\r", b"\r\n\r\n\0"] {
        assert_eq!(parse(start, &STRICT), Ok(Step::NeedMore), "{}", start.escape_ascii());
        assert_eq!(parse(start, &LAX), Ok(Step::NeedMore), "{}", start.escape_ascii());
    }
    // What starts as a header must end as one, whatever is allowed.
    assert_eq!(parse(b"PROXY TCP4 x\r\n", &LAX), Err(Error::Line));
}

#[test]
fn addresses_that_no_connection_has_are_refused() {
    let line = |source: &str| parse(format!("PROXY {source} 1.2.3.4 1 2\r\n").as_bytes(), &STRICT);
    for source in ["TCP4 224.0.0.1", "TCP4 0.0.0.0", "TCP4 255.255.255.255"] {
        assert_eq!(line(source), Err(Error::Address(Version::V1)), "{source}");
    }
    let mut block = [0; 36];
    block[0] = 0xff;
    block[31] = 1;
    assert_eq!(parse(&v2(0x21, &block), &STRICT), Err(Error::Address(Version::V2)));
    let zero_ports = header(b"PROXY TCP4 1.1.1.1 1.2.3.4 0 0\r\n");
    assert_eq!(zero_ports.addresses, addresses("1.1.1.1:0", "1.2.3.4:0"));
    let mapped = header(b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n");
    assert_eq!(mapped.addresses, addresses("[::ffff:1.2.3.4]:1", "[::1]:2"));
}

#[test]
fn lines_that_are_none() {
    for line in [
        "TCP4 1.2.3.4 1.2.3.5 1 2\n",
        "TCP4  1.2.3.4 1.2.3.5 1 2\r\n",
        "TCP4 01.2.3.4 1.2.3.5 1 2\r\n",
        "TCP4 1.2.3.4 1.2.3.5 65536 2\r\n",
        "TCP4 1.2.3.4 1.2.3.5 +1 2\r\n",
        "TCP4 1.2.3.4 1.2.3.5 01 2\r\n",
        "TCP4 1.2.3.4 1.2.3.5 1\r\n",
        "TCP4 1.2.3.4 1.2.3.5 1 2 \r\n",
        "TCP4 1.2.3.4 1.2.3.5 1 2\r\r\n",
        "TCP6 1.2.3.4 1.2.3.5 1 2\r\n",
        "TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "UNKNOWNX\r\n",
        "\r\n",
        "TCP4 1.2.3.4 1.2.3.\u{665} 1 2\r\n",
    ] {
        assert_eq!(parse(format!("PROXY {line}").as_bytes(), &STRICT), Err(Error::Line), "{line:?}");
    }
    assert_eq!(parse(b"PROXY \xff\r\n", &STRICT), Err(Error::Line));
    let padded = |len: usize| [b"PROXY UNKNOWN ", vec![b'x'; len - 14].as_slice()].concat();
    assert_eq!(parse(&padded(V1_BYTES_MAX - 1), &STRICT), Ok(Step::NeedMore));
    assert_eq!(parse(&padded(V1_BYTES_MAX), &STRICT), Err(Error::Line));
}

#[test]
fn what_has_no_address_keeps_those_of_the_socket() {
    let local = [v2::SIGNATURE, &[v2::LOCAL, 0x11, 0, 3, 1, 0xff, 0xff], b"rest"].concat();
    for (bytes, consumed) in [
        (&b"PROXY UNKNOWN\r\nrest"[..], 15),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2 3 4\r\nrest", 39),
        (&local, 19),
        (&[v2(0, b"what is this"), b"rest".to_vec()].concat(), 28),
        (&v2(0x31, &[0; 216]), 232),
    ] {
        let header = header(bytes);
        assert_eq!((header.addresses, header.consumed), (None, consumed));
        assert!(header.tlvs.is_empty());
    }
}

#[test]
fn version_2_says_what_is_wrong_at_once() {
    let mut bytes = v2(0x11, &INET);
    let start = bytes.clone();
    for (at, octet, error) in [
        (12, 0x31, Error::Unsupported),
        (12, 0x22, Error::Unsupported),
        (13, 0x41, Error::Unsupported),
        (13, 0x13, Error::Unsupported),
        (13, 0x10, Error::Unsupported),
        (15, 11, Error::Length),
    ] {
        bytes[at] = octet;
        let seen = if at == 12 { 13 } else { 16 };
        assert_eq!(parse(&bytes[..seen], &STRICT), Err(error), "{at} {octet}");
        bytes.clone_from(&start);
    }
    bytes[13] = 0x12;
    assert_eq!(header(&bytes).addresses, addresses("192.0.2.1:56324", "198.51.100.1:443"));
}

/// TLVs behind the addresses, with the right checksum in a TLV that stands where `checksum` is.
fn with_tlvs(list: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let addresses = addresses("192.0.2.1:56324", "198.51.100.1:443");
    encode_v2(addresses, list.iter().copied(), &mut out).unwrap();
    out
}

#[test]
fn tlvs_are_walked_and_checked() {
    let bytes = with_tlvs(&[(1, b"h2"), (4, b""), (0xea, b"x\0y")]);
    let found = header(&bytes);
    let all: Vec<_> = tlvs(&bytes[found.tlvs.clone()]).map(|tlv| (tlv.kind, tlv.value)).collect();
    assert_eq!(all, [(1, &b"h2"[..]), (4, b""), (0xea, b"x\0y")]);
    assert_eq!(found.consumed, bytes.len());
    for short in 1..3 {
        let mut bytes = with_tlvs(&[(1, b"h2")]);
        bytes.truncate(bytes.len() - short);
        bytes[15] -= short as u8;
        assert_eq!(parse(&bytes, &STRICT), Err(Error::Length), "{short}");
    }
}

#[test]
fn a_checksum_must_agree() {
    let mut bytes = with_tlvs(&[(3, &[0; 4]), (4, b"pad")]);
    // The CRC32c of 32 zero octets, RFC 3720 B.4.
    assert_eq!(tlv::crc32c_without(&[0; 32], 0..0), 0x8a91_36aa);
    let at = 16 + 12 + 3;
    let sum = tlv::crc32c_without(&bytes, at..at + 4);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(header(&bytes).consumed, bytes.len());
    // All but the type of the checksum itself.
    for at in (16..bytes.len()).filter(|at| *at != 28) {
        bytes[at] ^= 0x10;
        assert!(parse(&bytes, &STRICT).is_err(), "octet {at}");
        bytes[at] ^= 0x10;
    }
    assert_eq!(parse(&with_tlvs(&[(3, &[0; 5])]), &STRICT), Err(Error::Length));
    let twice = with_tlvs(&[(3, &[0; 4]), (3, &[0; 4])]);
    assert_eq!(parse(&twice, &STRICT), Err(Error::Checksum));
}

#[test]
fn what_is_written() {
    let wire = |of: Option<Addresses>| {
        let mut out = Vec::new();
        encode_v1(of, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(wire(None), "PROXY UNKNOWN\r\n");
    assert_eq!(wire(addresses("1.2.3.4:5", "6.7.8.9:10")), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    assert_eq!(wire(addresses("[::1]:5", "[::2]:10")), "PROXY TCP6 ::1 ::2 5 10\r\n");
    assert_eq!(wire(addresses("1.2.3.4:5", "[::2]:10")), "PROXY TCP6 ::ffff:1.2.3.4 ::2 5 10\r\n");
    assert_eq!(with_tlvs(&[]), v2(0x11, &INET));
    let mut local = Vec::new();
    encode_v2(None, [(1, &b"x"[..])].into_iter(), &mut local).unwrap();
    assert_eq!(local, [v2::SIGNATURE, &[0x20, 0, 0, 0]].concat());
    let (mut out, long) = (Vec::new(), vec![0; 65_536]);
    let some = addresses("1.2.3.4:5", "6.7.8.9:10");
    assert_eq!(encode_v2(some, [(1, &long[..])].into_iter(), &mut out), Err(EncodeError::TooLong));
    assert_eq!(encode_v2(some, [(1, &long[..65_521])].into_iter(), &mut out), Err(EncodeError::TooLong));
    assert!(out.is_empty());
    encode_v2(some, [(1, &long[..65_520])].into_iter(), &mut out).unwrap();
    assert_eq!((header(&out).consumed, out.len()), (V2_BYTES_MAX, V2_BYTES_MAX));
}
