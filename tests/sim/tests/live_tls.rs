//! TLS one step after the other: certificates that come, change and go, and what open connections see of it.

use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Secret, SecretId, Update};
use millrace_ring::sim::PeerRead;
use millrace_sim::bed::{Bed, SOON};
use millrace_sim::fixture::Mode;
use millrace_sim::tls::Tls;
use millrace_sim::tls::identity::{OURS, TRUST, certificate, trust};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
const SECRETS: Tls = Tls { secrets: true, ..Tls::BOTH };

fn secret(id: SecretId, secret: Option<Secret>) -> Update {
    Update { secrets: vec![(id, secret)], ..Update::default() }
}

fn is_answered(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

#[test]
fn a_new_certificate_serves_new_handshakes_and_live_connections_stay() {
    let mut bed = Bed::secure(Mode::Http, 2, SECRETS, |_| {});
    let old = bed.connect();
    assert!(is_answered(&bed.ask(old, REQUEST)));
    assert_eq!(bed.net.certificate(old), Some(0));
    bed.rotate(1);
    let young = bed.connect();
    for _ in 0..3 {
        assert!(is_answered(&bed.ask(old, REQUEST)) && is_answered(&bed.ask(young, REQUEST)));
    }
    assert_eq!((bed.net.certificate(old), bed.net.certificate(young)), (Some(0), Some(1)));
    [old, young].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}

#[test]
fn every_one_of_many_rotations_is_seen_at_once() {
    let mut bed = Bed::secure(Mode::Http, 1, SECRETS, |_| {});
    let old = bed.connect();
    for number in 1..12 {
        bed.rotate(number);
        let young = bed.connect();
        assert!(is_answered(&bed.ask(young, REQUEST)) && is_answered(&bed.ask(old, REQUEST)));
        assert_eq!(bed.net.certificate(young), Some(number));
        bed.net.close(young);
    }
    bed.net.close(old);
    bed.asserts_nothing_left();
}

#[test]
fn a_missing_secret_fails_closed_until_it_comes() {
    for missing in [OURS, TRUST] {
        let tls = Tls { upstream: false, ..SECRETS };
        let mut bed = Bed::secure(Mode::Http, 1, tls, |snapshot| {
            snapshot.secrets[missing.0 as usize] = None;
        });
        let early = bed.net.connect(&bed.listen).expect("a listener");
        bed.run(SOON);
        assert_eq!(bed.read(early), "RST", "no handshake begins");
        bed.net.close(early);
        bed.update(secret(missing, Some(if missing == OURS { certificate(0) } else { trust() })));
        let peer = bed.connect();
        assert!(is_answered(&bed.ask(peer, REQUEST)));
        bed.update(secret(missing, None));
        assert!(is_answered(&bed.ask(peer, REQUEST)), "it was there when the connection began");
        let late = bed.connect();
        assert_eq!(bed.read(late), "RST");
        [peer, late].into_iter().for_each(|peer| bed.net.close(peer));
        bed.asserts_nothing_left();
    }
}

#[test]
fn without_its_secret_no_request_goes_to_an_endpoint() {
    for missing in [OURS, TRUST] {
        let tls = Tls { downstream: false, ..SECRETS };
        let mut bed = Bed::secure(Mode::Http, 1, tls, |snapshot| {
            snapshot.secrets[missing.0 as usize] = None;
        });
        let peer = bed.connect();
        assert!(bed.ask(peer, REQUEST).starts_with("HTTP/1.1 503"));
        bed.update(secret(missing, Some(if missing == OURS { certificate(0) } else { trust() })));
        assert!(is_answered(&bed.ask(peer, REQUEST)));
        bed.net.close(peer);
        bed.asserts_nothing_left();
    }
}

#[test]
fn a_client_that_says_nothing_is_cut_off() {
    let mut bed = Bed::secure(Mode::Http, 1, Tls::DOWNSTREAM, |_| {});
    let silent = bed.net.connect_in_clear(&bed.listen).expect("a listener");
    bed.run(Duration::from_secs(4));
    assert_eq!(bed.net.read(silent, 9), PeerRead::Nothing);
    bed.run(Duration::from_secs(2));
    assert!(
        matches!(bed.net.read(silent, 9), PeerRead::Eof | PeerRead::Reset),
        "the handshake's time is over"
    );
    bed.net.close(silent);
    bed.asserts_nothing_left();
}

#[test]
fn clear_text_on_a_tls_port_is_refused_as_boringssl_does() {
    let mut bed = Bed::secure(Mode::Http, 1, Tls::DOWNSTREAM, |_| {});
    // Protocol version to what could be anything, nothing to HTTP.
    let first = [(&b"SSH-2.0-OpenSSH\r\n"[..], Some(70)), (REQUEST, None)];
    for (bytes, alert) in first {
        let clear = bed.net.connect_in_clear(&bed.listen).expect("a listener");
        bed.net.write(clear, bytes).expect("room");
        bed.run(SOON);
        let mut news = bed.net.read(clear, 99);
        if let Some(alert) = alert {
            assert!(
                matches!(&news, PeerRead::Bytes(record) if record[0] == 21 && record[5..] == [2, alert]),
                "{news:?}"
            );
            bed.run(Duration::from_millis(500));
            news = bed.net.read(clear, 99);
        }
        assert_eq!(news, PeerRead::Eof);
        bed.net.close(clear);
    }
    bed.asserts_nothing_left();
}

#[test]
fn an_inspected_listener_serves_both_on_one_port() {
    let mut bed = Bed::secure(Mode::Http, 1, Tls { inspected: true, ..Tls::DOWNSTREAM }, |_| {});
    let clear = bed.net.connect_in_clear(&bed.listen).expect("a listener");
    let silent = bed.net.connect_in_clear(&bed.listen).expect("a listener");
    for byte in REQUEST {
        bed.net.write(clear, &[*byte]).expect("room");
        bed.run(Duration::from_micros(600));
    }
    bed.run(SOON);
    assert!(is_answered(&bed.read(clear)));
    let secure = loop {
        let peer = bed.connect();
        if bed.net.is_secure(peer) {
            break peer;
        }
        bed.net.close(peer);
    };
    assert!(is_answered(&bed.ask(secure, REQUEST)));
    let start: Time = bed.net.now();
    bed.run(Duration::from_secs(6));
    assert!(bed.net.now() > start);
    assert_eq!(bed.read(silent), "FIN", "listener_filters_timeout");
    [clear, secure, silent].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}
