//! First bytes that are wrong: hostile ClientHellos, old protocols, clear text on a TLS port and TLS on a port for clear
//! text. Each is answered with an alert or a close, and a neighbour is served all the while.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client as Raw, End};
use millrace_support::subject::Subject;
use millrace_support::tls::hello::{Hello, extension};
use millrace_support::tls::record::{self, alert, fragments, kind, record};
use millrace_support::tls::{Client, Version};
use millrace_support::upstream::Upstream;
use millrace_support::wire::Fault;

use crate::common::{Neighbour, STAT_PREFIX, hello, plain_tls, terminate};

pub(crate) const CASES: &[Case] = &[
    case!(a_hello_in_records_of_one_byte),
    case!(hostile_hellos),
    case!(hostile_hellos_before_an_inspector),
    case!(server_names_that_are_odd),
    case!(oversized_hellos),
    case!(old_versions),
    case!(clear_text_on_a_tls_port),
    case!(tls_on_a_port_for_clear_text),
    case!(half_handshakes_end_with_the_timeout),
    case!(records_that_are_no_handshake),
];

const INSPECTOR: &str = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";

/// What a server may do about bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    /// It goes on with the handshake.
    Goes,
    /// One of these alerts, then the end; or, where the list has 255, the end alone.
    Refuses(&'static [u8]),
}

const CLOSE: u8 = 255;

#[track_caller]
fn judge(proxy: &Proxy, what: &str, bytes: &[u8], due: &Due) {
    let mut client = proxy.client();
    client.send(bytes);
    match due {
        Due::Goes => {
            let first = record::read(&mut client);
            assert_eq!(first.as_ref().map(|r| r.kind), Ok(kind::HANDSHAKE), "{what}: {first:?}");
        }
        Due::Refuses(alerts) => {
            let said = match record::refusal(&mut client) {
                Ok(alert) => alert,
                Err(Fault::Closed | Fault::Reset) => CLOSE,
                Err(other) => unreachable!("{what}: {other}"),
            };
            assert!(alerts.contains(&said), "{what}: alert {said}, not {alerts:?}");
            if said != CLOSE {
                assert!(client.end() != End::Open, "{what}: still open");
            }
        }
    }
}

fn a_hello_in_records_of_one_byte(subject: &Subject) {
    let upstream = hello();
    for inspector in [false, true] {
        let proxy = start(subject, &upstream, inspector);
        let bytes = fragments(&Hello::v13().name(b"a.test").message(), 1);
        judge(&proxy, "records of one byte", &bytes, &Due::Goes);
    }
}

/// A listener with TLS, and a tls_inspector before it or not.
#[track_caller]
fn start(subject: &Subject, upstream: &Upstream, inspector: bool) -> Proxy {
    let filters = if inspector {
        format!(
            "listener_filters: [{{name: envoy.filters.listener.tls_inspector, typed_config: {{\"@type\": {INSPECTOR}}}}}]\n"
        )
    } else {
        String::new()
    };
    let http = Http::to("up")
        .listener(&(STAT_PREFIX.to_owned() + &filters))
        .chain(&plain_tls().alpn(&["http/1.1"]).downstream());
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

/// A message whose length field says `more` octets more than there are.
fn with_length(message: &[u8], more: i32) -> Vec<u8> {
    let length = i32::try_from(message.len() - 4).unwrap_or(0) + more;
    let length = length.to_be_bytes();
    [&[message[0], length[1], length[2], length[3]][..], &message[4..]].concat()
}

fn hostile() -> Vec<(&'static str, Vec<u8>, Due)> {
    const DECODE: Due = Due::Refuses(&[alert::DECODE_ERROR]);
    const DECODE_OR_ILLEGAL: Due = Due::Refuses(&[alert::DECODE_ERROR, alert::ILLEGAL_PARAMETER]);
    let good = Hello::v13();
    let whole = good.message();
    let message = |hello: Hello| fragments(&hello.message(), 1 << 14);
    let garbled = |number: u16, body: &[u8]| message(Hello::v13().extension(number, body));
    vec![
        ("good", good.bytes(), Due::Goes),
        (
            "the same extension twice",
            message(good.clone().name(b"a.test").name(b"b.test")),
            DECODE_OR_ILLEGAL,
        ),
        ("an unknown extension twice", garbled(0xfafa, b"").repeat(1), Due::Goes),
        (
            "two unknown extensions of one number",
            message(good.clone().extension(0xfafa, b"").extension(0xfafa, b"")),
            DECODE_OR_ILLEGAL,
        ),
        ("a length below the message", record(kind::HANDSHAKE, 0x0301, &with_length(&whole, -1)), DECODE),
        ("extensions that overrun", garbled(extension::ALPN, &[0, 9, 8, 1]), DECODE),
        ("an empty list of protocols", garbled(extension::ALPN, &[0, 0]), DECODE),
        ("an empty protocol", garbled(extension::ALPN, &[0, 1, 0]), DECODE),
        (
            "an empty server name",
            message(good.clone().name(b"")),
            Due::Refuses(&[alert::DECODE_ERROR, alert::ILLEGAL_PARAMETER, alert::UNRECOGNIZED_NAME]),
        ),
        ("an empty list of server names", garbled(extension::SERVER_NAME, &[0, 0]), DECODE),
        (
            "no suites",
            message(Hello { suites: Vec::new(), ..good.clone() }),
            Due::Refuses(&[alert::DECODE_ERROR, alert::ILLEGAL_PARAMETER, alert::HANDSHAKE_FAILURE]),
        ),
        (
            "a session id of 33 octets",
            message(Hello { session: vec![1; 33], ..good.clone() }),
            DECODE_OR_ILLEGAL,
        ),
        (
            "no suite in common",
            message(Hello { suites: vec![0xfafa], ..good.clone() }),
            Due::Refuses(&[alert::HANDSHAKE_FAILURE]),
        ),
        (
            "a finished message first",
            record(kind::HANDSHAKE, 0x0301, &[20, 0, 0, 1, 0]),
            Due::Refuses(&[alert::UNEXPECTED_MESSAGE]),
        ),
    ]
}

#[track_caller]
fn all_hostile(subject: &Subject, inspector: bool) {
    let upstream = hello();
    let proxy = start(subject, &upstream, inspector);
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    for (what, bytes, due) in hostile() {
        judge(&proxy, what, &bytes, &due);
        neighbour.is_served();
    }
    assert!(proxy.stat("listener.main.ssl.connection_error").is_some_and(|n| n >= 10));
}

fn hostile_hellos(subject: &Subject) {
    all_hostile(subject, false);
}

fn hostile_hellos_before_an_inspector(subject: &Subject) {
    all_hostile(subject, true);
}

/// Whatever is asked for, the connection goes on or ends with an alert; nothing reaches a log as it is.
fn server_names_that_are_odd(subject: &Subject) {
    let upstream = hello();
    let long = vec![b'a'; 256];
    let longest = vec![b'a'; 9000];
    for inspector in [false, true] {
        let proxy = start(subject, &upstream, inspector);
        let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
        for (what, name) in [
            ("NUL", &b"a\0b.test"[..]),
            ("a leading NUL", b"\0"),
            ("256 octets", &long),
            ("9000 octets", &longest),
        ] {
            let bytes = Hello::v13().name(name).bytes();
            let refused =
                Due::Refuses(&[alert::DECODE_ERROR, alert::UNRECOGNIZED_NAME, alert::ILLEGAL_PARAMETER]);
            judge(&proxy, what, &bytes, &refused);
            neighbour.is_served();
        }
        for (what, name) in [
            ("an address", &b"10.0.0.1"[..]),
            ("an address of version 6", b"::1"),
            ("a dot at the end", b"a.test."),
            ("control octets", b"a\r\nb.test"),
            ("octets above ASCII", b"\xff\xfe.test"),
            ("255 octets", &long[..255]),
        ] {
            let mut client = proxy.client();
            client.send(&Hello::v13().name(name).bytes());
            let first = record::read(&mut client);
            assert!(
                matches!(&first, Ok(r) if r.kind == kind::HANDSHAKE || r.alert().is_some()),
                "{what}: {first:?}"
            );
            neighbour.is_served();
        }
    }
}

/// 16 KiB is what an inspector and BoringSSL read at most.
fn oversized_hellos(subject: &Subject) {
    let upstream = hello();
    for inspector in [false, true] {
        let proxy = start(subject, &upstream, inspector);
        let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
        judge(&proxy, "15 KiB", &Hello::v13().padded_to(15 << 10).bytes(), &Due::Goes);
        for size in [17 << 10, 40 << 10, 60 << 10] {
            let mut client = proxy.client();
            client.send(&Hello::v13().padded_to(size).bytes());
            let end = client.end();
            assert!(end != End::Open, "{size} octets, inspector {inspector}");
            neighbour.is_served();
        }
        // An announced 16 MiB of which nothing comes.
        let mut client = proxy.client();
        client.send(&record(kind::HANDSHAKE, 0x0301, &[1, 0xff, 0xff, 0xff]));
        assert!(client.end_within(Duration::from_secs(3)) != End::Open, "inspector {inspector}");
        neighbour.is_served();
    }
}

fn old_versions(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    for version in [0x0300, 0x0301, 0x0302] {
        let bytes = Hello { version, ..Hello::v12() }.bytes();
        judge(&proxy, &format!("{version:x}"), &bytes, &Due::Refuses(&[alert::PROTOCOL_VERSION]));
        neighbour.is_served();
    }
    // SSLv2 with two octets of length.
    let mut old = vec![0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10];
    old.extend([7; 37]);
    judge(&proxy, "SSLv2", &old, &Due::Refuses(&[CLOSE, alert::PROTOCOL_VERSION, alert::DECODE_ERROR]));
    let unknown = Hello::v13();
    let listed = Hello { extensions: Vec::new(), ..unknown }
        .extension(extension::VERSIONS, &[2, 3, 2])
        .extension(extension::GROUPS, &[0, 2, 0, 29]);
    let refused = Due::Refuses(&[alert::PROTOCOL_VERSION]);
    judge(&proxy, "TLS 1.1 in the list", &listed.bytes(), &refused);
    neighbour.is_served();
}

fn clear_text_on_a_tls_port(subject: &Subject) {
    let upstream = hello();
    for inspector in [false, true] {
        let proxy = start(subject, &upstream, inspector);
        let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.0\r\n",
            &[0; 64],
            &[0xff; 64],
        ] {
            let mut client = proxy.client();
            client.send(bytes);
            assert!(client.end() != End::Open, "{bytes:?}, inspector {inspector}");
            neighbour.is_served();
        }
        proxy.wait_stat("listener.main.ssl.connection_error", 5);
    }
    assert!(upstream.requests().iter().all(|r| r.target != "/"));
}

fn tls_on_a_port_for_clear_text(subject: &Subject) {
    let upstream = hello();
    let proxy = Proxy::start(subject, &Bootstrap::forward(upstream.address()));
    let mut neighbour = Neighbour::in_the_clear(proxy.listener("main"));
    let mut client = proxy.client();
    client.send(&Hello::v13().name(b"a.test").bytes());
    let End::Closed(bytes) = client.end() else { unreachable!("the connection ends with FIN") };
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 400 "), "{bytes:?}");
    neighbour.is_served();
    for version in Version::BOTH {
        assert!(Client::new().versions(&[version]).try_connect(proxy.listener("main")).is_err());
    }
}

fn half_handshakes_end_with_the_timeout(subject: &Subject) {
    let upstream = hello();
    let chain = format!("transport_socket_connect_timeout: 0.5s\n{}", plain_tls().downstream());
    let http = Http::to("up").listener(STAT_PREFIX).chain(&chain);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    let hello = Hello::v13().bytes();
    let mut stuck: Vec<Raw> = Vec::new();
    for part in [&hello[..0], &hello[..3], &hello[..hello.len() / 2], &hello] {
        for _ in 0..5 {
            let mut client = proxy.client();
            client.send(part);
            stuck.push(client);
        }
    }
    for client in &mut stuck {
        assert!(client.end() != End::Open);
    }
    proxy.wait_stat("listener.main.downstream_cx_transport_socket_connect_timeout", 20);
    neighbour.is_served();
}

fn records_that_are_no_handshake(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&Client::new(), proxy.listener("main"));
    for (what, bytes) in [
        ("application data", record(kind::APPLICATION_DATA, 0x0303, b"hello")),
        ("an unknown content type", record(99, 0x0303, b"hello")),
        ("change_cipher_spec", record(kind::CHANGE_CIPHER_SPEC, 0x0303, &[1])),
        ("a fatal alert", record(kind::ALERT, 0x0303, &[2, 40])),
        ("an empty handshake record", record(kind::HANDSHAKE, 0x0303, &[]).repeat(64)),
        ("a record too long", record(kind::HANDSHAKE, 0x0303, &vec![0; 17_000])),
    ] {
        let mut client = proxy.client();
        client.send(&bytes);
        assert!(client.end() != End::Open, "{what}");
        neighbour.is_served();
    }
}
