//! Records that are wrong on an established connection: floods, handshake messages out of place, tampering.

use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tls::hello::Hello;
use millrace_support::tls::record::{alert, kind};
use millrace_support::tls::sealed::Sealed;
use millrace_support::tls::updating::Updating;
use millrace_support::tls::{Client, Version};
use millrace_support::wire::Fault;

use crate::common::{Neighbour, hello, plain_tls, terminate};

pub(crate) const CASES: &[Case] = &[
    case!(tampered_records),
    case!(renegotiation),
    case!(a_flood_of_key_updates),
    case!(key_updates_with_data_are_fine),
    case!(empty_records),
    case!(a_flood_of_empty_records),
    case!(a_flood_of_warnings),
    case!(handshake_messages_out_of_place),
    case!(records_of_one_byte),
    case!(padded_records),
    case!(data_behind_close_notify),
];

const GET: &[u8] = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n";

/// A neighbour, and a connection that is about to misbehave.
#[track_caller]
fn pair(proxy: &Proxy, version: Version) -> (Neighbour, Sealed) {
    let neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let mut sealed = Sealed::connect(&Client::new(), version, proxy.listener("main"));
    sealed.send(kind::APPLICATION_DATA, GET);
    assert!(sealed.data_until("hello").is_ok());
    (neighbour, sealed)
}

/// The connection ends with one of these alerts; 255 stands for no alert.
#[track_caller]
fn refused(sealed: &mut Sealed, what: &str, alerts: &[u8]) {
    let said = match sealed.refusal() {
        Ok(said) => said,
        Err(Fault::Closed | Fault::Reset) => 255,
        Err(other) => unreachable!("{what}: {other}"),
    };
    assert!(alerts.contains(&said), "{what}: alert {said}, not {alerts:?}");
}

fn tampered_records(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        for at in [5, 8, 20, usize::MAX] {
            let (mut neighbour, mut sealed) = pair(&proxy, version);
            let mut bytes = sealed.seal(kind::APPLICATION_DATA, GET);
            let last = bytes.len() - 1;
            bytes[at.min(last)] ^= 0x10;
            sealed.send_bytes(&bytes);
            refused(&mut sealed, "a changed octet", &[alert::BAD_RECORD_MAC]);
            neighbour.is_served();
        }
        let (mut neighbour, mut sealed) = pair(&proxy, version);
        let bytes = sealed.seal(kind::APPLICATION_DATA, GET);
        sealed.send_bytes(&bytes);
        assert!(sealed.data_until("hello").is_ok());
        sealed.send_bytes(&bytes);
        refused(&mut sealed, "a record twice", &[alert::BAD_RECORD_MAC]);
        neighbour.is_served();
    }
    assert!(proxy.stat("listener.main.ssl.connection_error").is_some_and(|n| n >= 10));
}

fn renegotiation(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let (mut neighbour, mut sealed) = pair(&proxy, Version::V12);
    sealed.send(kind::HANDSHAKE, &Hello::v12().message());
    refused(&mut sealed, "a hello", &[alert::NO_RENEGOTIATION, alert::UNEXPECTED_MESSAGE]);
    neighbour.is_served();
    let (mut neighbour, mut sealed) = pair(&proxy, Version::V13);
    sealed.send(kind::HANDSHAKE, &Hello::v13().message());
    refused(&mut sealed, "a hello", &[alert::UNEXPECTED_MESSAGE]);
    neighbour.is_served();
}

/// KeyUpdate needs new keys for every record, so the flood is one record with many messages in it.
fn a_flood_of_key_updates(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let (mut neighbour, mut sealed) = pair(&proxy, Version::V13);
    sealed.send(kind::HANDSHAKE, &[24, 0, 0, 1, 1].repeat(200));
    let alerts = [alert::UNEXPECTED_MESSAGE, alert::DECODE_ERROR, 255];
    refused(&mut sealed, "key updates", &alerts);
    neighbour.is_served();
}

fn key_updates_with_data_are_fine(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut client = Updating::connect(&Client::new(), proxy.listener("main"));
    for _ in 0..100 {
        client.update_keys();
        client.send(GET);
        assert!(client.read_until(b"hello"));
    }
}

/// Empty records of application data are legal, and a few of them are nothing.
fn empty_records(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let (mut neighbour, mut sealed) = pair(&proxy, version);
        for piece in GET.chunks(5) {
            sealed.send(kind::APPLICATION_DATA, b"");
            sealed.send(kind::APPLICATION_DATA, piece);
        }
        assert!(sealed.data_until("hello").is_ok(), "{version:?}");
        neighbour.is_served();
    }
}

fn a_flood_of_empty_records(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let (mut neighbour, mut sealed) = pair(&proxy, version);
        let flood: Vec<u8> = (0..2000).flat_map(|_| sealed.seal(kind::APPLICATION_DATA, b"")).collect();
        sealed.send_bytes(&flood);
        let alerts = [alert::UNEXPECTED_MESSAGE, alert::DECODE_ERROR, alert::INTERNAL_ERROR, 255];
        refused(&mut sealed, "empty records", &alerts);
        neighbour.is_served();
    }
}

fn a_flood_of_warnings(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let (mut neighbour, mut sealed) = pair(&proxy, version);
        // user_canceled is the one warning that TLS 1.3 has left.
        let flood: Vec<u8> = (0..200).flat_map(|_| sealed.seal(kind::ALERT, &[1, 90])).collect();
        sealed.send_bytes(&flood);
        let alerts = [alert::UNEXPECTED_MESSAGE, alert::DECODE_ERROR, 255];
        refused(&mut sealed, "warnings", &alerts);
        neighbour.is_served();
    }
}

fn handshake_messages_out_of_place(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for (what, version, kind, content) in [
        ("a finished message", Version::V13, kind::HANDSHAKE, &[20, 0, 0, 1, 0][..]),
        ("a ticket from a client", Version::V13, kind::HANDSHAKE, &[4, 0, 0, 1, 0]),
        ("an unknown message", Version::V13, kind::HANDSHAKE, &[99, 0, 0, 0]),
        ("a key update of three octets", Version::V13, kind::HANDSHAKE, &[24, 0, 0, 3, 0, 0, 0]),
        ("an unknown request to update", Version::V13, kind::HANDSHAKE, &[24, 0, 0, 1, 7]),
        ("change_cipher_spec inside", Version::V13, kind::CHANGE_CIPHER_SPEC, &[1]),
        ("an unknown content type", Version::V13, 99, b"x"),
        ("no content at all", Version::V13, 0, b""),
        (
            "a finished message",
            Version::V12,
            kind::HANDSHAKE,
            &[20, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("an unknown content type", Version::V12, 99, b"x"),
        ("an alert of one octet", Version::V12, kind::ALERT, &[2]),
    ] {
        let (mut neighbour, mut sealed) = pair(&proxy, version);
        sealed.send(kind, content);
        let alerts = [
            alert::UNEXPECTED_MESSAGE,
            alert::DECODE_ERROR,
            alert::ILLEGAL_PARAMETER,
            alert::BAD_RECORD_MAC,
            alert::NO_RENEGOTIATION,
            alert::DECRYPT_ERROR,
        ];
        refused(&mut sealed, what, &alerts);
        neighbour.is_served();
    }
}

fn records_of_one_byte(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let (mut neighbour, mut sealed) = pair(&proxy, version);
        let all: Vec<u8> =
            GET.iter().flat_map(|byte| sealed.seal(kind::APPLICATION_DATA, &[*byte])).collect();
        sealed.send_bytes(&all);
        assert!(sealed.data_until("hello").is_ok(), "{version:?}");
        neighbour.is_served();
    }
}

/// TLS 1.3 lets every record be padded with zeros.
fn padded_records(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let (_neighbour, mut sealed) = pair(&proxy, Version::V13);
    for padding in [1, 100, 16_000] {
        let bytes = sealed.seal_padded(kind::APPLICATION_DATA, GET, padding);
        sealed.send_bytes(&bytes);
        assert!(sealed.data_until("hello").is_ok(), "{padding}");
    }
}

/// It is ignored (RFC 8446 6.1), and the connection ends.
fn data_behind_close_notify(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let (mut neighbour, mut sealed) = pair(&proxy, version);
        let before = upstream.requests().len();
        let goodbye = sealed.seal(kind::ALERT, &[1, 0]);
        let more = sealed.seal(kind::APPLICATION_DATA, GET);
        sealed.send_bytes(&[goodbye, more].concat());
        refused(&mut sealed, "data", &[alert::CLOSE_NOTIFY, 255]);
        neighbour.is_served();
        assert_eq!(upstream.requests().len(), before + 1, "{version:?}");
    }
}
