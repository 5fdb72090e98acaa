//! What Envoy 1.40 printed of certificates with two names of each type, operator by operator.

use std::sync::Arc;

use millrace_base::{LocalCertificate, PeerCertificate, TlsFacts};
use millrace_config::format::Template;

use crate::access_log::StreamInfo;
use crate::format::{Missing, render};

fn names(list: &[&str]) -> Vec<Box<str>> {
    list.iter().map(|name| Box::from(*name)).collect()
}

fn facts() -> TlsFacts {
    let peer = PeerCertificate {
        subject: "OU=a,O=Or\\, g,C=DE".into(),
        issuer: "CN=ca".into(),
        uri_sans: names(&["spiffe://td/ns/x/sa/a", "spiffe://td/second"]),
        dns_sans: names(&["a.example", "b.example"]),
        ip_sans: names(&["10.1.2.3"]),
        email_sans: names(&["me@example.com"]),
        serial: "5013".into(),
        fingerprint_256: "fe50".into(),
        fingerprint_1: "e114".into(),
        not_before: 1_795_729_578,
        not_after: 253_402_300_799,
        pem_encoded: "-----BEGIN%20".into(),
        chain: vec![
            ("fe50".into(), "e114".into(), "5013".into()),
            ("941b".into(), "586d".into(), "6f6f".into()),
        ],
        ..PeerCertificate::default()
    };
    let local = LocalCertificate {
        subject: "CN=us".into(),
        uri_sans: names(&["spiffe://td/ns/x/sa/srv", "spiffe://td/srv2"]),
        dns_sans: names(&["srv.example", "localhost"]),
        ip_sans: names(&["127.0.0.1"]),
        ..LocalCertificate::default()
    };
    TlsFacts {
        version: "TLSv1.2",
        cipher: "ECDHE-ECDSA-AES128-GCM-SHA256",
        curve: "X25519",
        session_id: "855f".into(),
        server_name: "srv.example".into(),
        peer_validated: true,
        peer: Some(Arc::new(peer)),
        local: Some(Arc::new(local)),
        ..TlsFacts::default()
    }
}

fn show(format: &str, info: &StreamInfo<'_>) -> String {
    let mut out = Vec::new();
    render(&Template::parse(format).unwrap(), info, Missing::Dash, &mut out);
    String::from_utf8(out).unwrap()
}

/// What stands behind `DOWNSTREAM_` or `UPSTREAM_`, and whether both sides have it.
const CASES: &[(&str, &str, bool)] = &[
    ("TLS_VERSION", "TLSv1.2", true),
    ("TLS_CIPHER", "ECDHE-ECDSA-AES128-GCM-SHA256", true),
    ("TLS_SESSION_ID", "855f", true),
    ("TLS_GROUP", "X25519", true),
    ("PEER_SUBJECT", "OU=a,O=Or\\, g,C=DE", true),
    ("PEER_ISSUER", "CN=ca", true),
    ("PEER_CERT", "-----BEGIN%20", true),
    ("PEER_URI_SAN", "spiffe://td/ns/x/sa/a,spiffe://td/second", true),
    ("PEER_DNS_SAN", "a.example,b.example", true),
    ("PEER_IP_SAN", "10.1.2.3", true),
    ("PEER_CERT_V_START", "2026-11-26T21:46:18.000Z", true),
    ("PEER_CERT_V_END", "9999-12-31T23:59:59.000Z", true),
    ("PEER_CERT_V_START(%Y-%m-%d_%s)", "2026-11-26_1795729578", true),
    ("LOCAL_URI_SAN", "spiffe://td/ns/x/sa/srv,spiffe://td/srv2", true),
    ("LOCAL_DNS_SAN", "srv.example,localhost", true),
    ("LOCAL_IP_SAN", "127.0.0.1", true),
    ("PEER_EMAIL_SAN", "me@example.com", false),
    ("PEER_OTHERNAME_SAN", "-", false),
    ("PEER_SERIAL", "5013", false),
    ("PEER_FINGERPRINT_256", "fe50", false),
    ("PEER_FINGERPRINT_1", "e114", false),
    ("PEER_CHAIN_FINGERPRINTS_256", "fe50,941b", false),
    ("PEER_CHAIN_FINGERPRINTS_1", "e114,586d", false),
    ("PEER_CHAIN_SERIALS", "5013,6f6f", false),
    ("PEER_ISSUER_FINGERPRINT_256", "941b", false),
    ("PEER_ISSUER_SERIAL", "6f6f", false),
    ("LOCAL_SUBJECT", "CN=us", false),
    ("LOCAL_EMAIL_SAN", "-", false),
    ("LOCAL_OTHERNAME_SAN", "-", false),
];

#[test]
fn every_fact_of_either_side() {
    let facts = facts();
    let down = StreamInfo { downstream_tls: Some(&facts), ..StreamInfo::default() };
    let up = StreamInfo { upstream_tls: Some(&facts), ..StreamInfo::default() };
    for (name, expected, both) in CASES {
        let downstream = format!("%DOWNSTREAM_{name}%");
        assert_eq!(show(&downstream, &down), *expected, "{downstream}");
        assert_eq!(show(&downstream, &up), "-", "{downstream} of the other side");
        let upstream = format!("%UPSTREAM_{name}%");
        if *both {
            assert_eq!(show(&upstream, &up), *expected, "{upstream}");
            assert_eq!(show(&upstream, &down), "-", "{upstream} of the other side");
        } else {
            assert!(Template::parse(&upstream).is_err(), "Envoy knows no {upstream}");
        }
    }
    assert_eq!(show("%UPSTREAM_SERVER_NAME% %TLS_JA3_FINGERPRINT%", &up), "srv.example -");
}

#[test]
fn without_a_certificate_only_the_connection_is_told() {
    let bare = TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256", ..TlsFacts::default() };
    let info = StreamInfo { downstream_tls: Some(&bare), ..StreamInfo::default() };
    for (name, _, _) in CASES {
        let expected = match *name {
            "TLS_VERSION" => "TLSv1.3",
            "TLS_CIPHER" => "TLS_AES_128_GCM_SHA256",
            _ => "-",
        };
        assert_eq!(show(&format!("%DOWNSTREAM_{name}%"), &info), expected, "{name}");
    }
}

#[test]
fn a_certificate_from_before_1970_is_no_panic() {
    let peer = PeerCertificate { not_before: -1, not_after: i64::MAX, ..PeerCertificate::default() };
    let facts = TlsFacts { peer: Some(Arc::new(peer)), ..TlsFacts::default() };
    let info = StreamInfo { downstream_tls: Some(&facts), ..StreamInfo::default() };
    assert_eq!(show("%DOWNSTREAM_PEER_CERT_V_START%", &info), "1970-01-01T00:00:00.000Z");
    assert!(show("%DOWNSTREAM_PEER_CERT_V_END%", &info).ends_with('Z'));
}
