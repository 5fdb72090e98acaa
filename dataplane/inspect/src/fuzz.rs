//! Entry points for `tests/fuzz` and for the stable replay of its seeds: each takes any bytes and panics when a
//! property of a parser does not hold.
//!
//! The properties: no panic; a verdict never changes with more input, so that it does not matter how the bytes were cut;
//! nothing is consumed that is not there; what was read and is written again reads the same.

use crate::proxy_protocol::{self, Rules, Step, encode_v1, encode_v2, parse, tlvs};
use crate::{CLIENT_HELLO_BYTES_MAX, HttpSniff, client_hello, client_hello_within, http_version};

/// Lengths at which a prefix is looked at: every one of short inputs, some of long ones.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (0..=len).step_by((len / 512).max(1)).chain([len])
}

/// Calls `look` with growing prefixes; `None` means undecided. The last verdict is the one of the whole.
fn one_verdict<T: PartialEq + std::fmt::Debug>(data: &[u8], look: impl Fn(&[u8]) -> Option<T>) {
    let mut verdict: Option<T> = None;
    for end in cuts(data.len()) {
        let now = look(&data[..end]);
        match (verdict, now) {
            (Some(before), now) => {
                assert_eq!(Some(&before), now.as_ref(), "{}", data[..end].escape_ascii());
                verdict = Some(before);
            }
            (None, now) => verdict = now,
        }
    }
}

/// Properties of ClientHellos.
pub fn fuzz_client_hello(data: &[u8]) {
    one_verdict(data, |bytes| client_hello(bytes).transpose());
    one_verdict(data, |bytes| client_hello_within(bytes, 300).transpose());
    if let Ok(Some(hello)) = client_hello(data) {
        assert!(hello.bytes <= data.len() && hello.bytes <= CLIENT_HELLO_BYTES_MAX);
        assert!(hello.alpn().all(|name| !name.is_empty()));
        let name = hello.server_name.unwrap_or_default();
        assert!(name.len() <= 255 && name.bytes().all(|c| c.is_ascii_graphic() && !c.is_ascii_uppercase()));
    }
    assert!(data.len() < CLIENT_HELLO_BYTES_MAX || client_hello(data) != Ok(None));
}

/// Properties of HTTP sniffing.
pub fn fuzz_http_version(data: &[u8]) {
    one_verdict(data, |bytes| Some(http_version(bytes)).filter(|sniff| *sniff != HttpSniff::NeedMore));
}

/// Properties of PROXY protocol headers, with and without one being demanded.
pub fn fuzz_proxy_protocol(data: &[u8]) {
    for allow_without in [false, true] {
        let rules = Rules { allow_without, ..Rules::default() };
        one_verdict(data, |bytes| match parse(bytes, &rules) {
            Ok(Step::NeedMore) => None,
            verdict => Some(verdict),
        });
        if let Ok(Step::Header(header)) = parse(data, &rules) {
            assert!(header.consumed <= data.len() && header.tlvs.end <= header.consumed);
            round_trip(&header, &data[header.tlvs.clone()]);
        }
    }
}

/// What was read reads the same when it is written again; checksums are left out, since lengths may differ.
fn round_trip(header: &proxy_protocol::Header, values: &[u8]) {
    let kept: Vec<(u8, &[u8])> =
        tlvs(values).map(|tlv| (tlv.kind, tlv.value)).filter(|(kind, _)| *kind != 3).collect();
    let (mut v1, mut v2) = (Vec::new(), Vec::new());
    encode_v1(header.addresses, &mut v1);
    assert!(encode_v2(header.addresses, kept.iter().copied(), &mut v2).is_ok(), "it had room before");
    for wire in [v1, v2] {
        let Ok(Step::Header(again)) = parse(&wire, &Rules::default()) else {
            unreachable!("our own header is refused: {}", wire.escape_ascii())
        };
        assert_eq!((again.consumed, again.addresses), (wire.len(), header.addresses));
        let values = &wire[again.tlvs.clone()];
        if again.version == proxy_protocol::Version::V2 && header.addresses.is_some() {
            assert!(tlvs(values).map(|tlv| (tlv.kind, tlv.value)).eq(kept.iter().copied()));
        }
    }
}
