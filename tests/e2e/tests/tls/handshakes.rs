//! What handshakes agree upon: versions, suites, groups, ALPN, and resumption.

use millrace_e2e::{Case, case};
use millrace_support::subject::Subject;
use millrace_support::tls::{AlertDescription, Algorithm, Client, Context, Ending, Leaf, Version};

use crate::common::{hello, mutual_client, mutual_tls, plain_tls, root, terminate};

pub(crate) const CASES: &[Case] = &[
    case!(a_lowest_version),
    case!(a_highest_version),
    case!(cipher_suites),
    case!(groups),
    case!(post_quantum_key_exchange),
    case!(alpn_in_the_order_of_the_server),
    case!(alpn_without_overlap_goes_on),
    case!(no_alpn_is_http1),
    case!(resumption_by_ticket),
    case!(resumption_keeps_the_identity_of_the_client),
    case!(resumption_turned_off),
    case!(a_key_of_rsa),
    case!(handshake_statistics),
];

fn a_lowest_version(subject: &Subject) {
    let upstream = hello();
    let context = plain_tls().common("tls_params: {tls_minimum_protocol_version: TLSv1_3}");
    let proxy = terminate(subject, &context, upstream.address());
    let old = Client::new().versions(&[Version::V12]);
    assert_eq!(old.refusal(proxy.listener("main")), Ending::Alert(AlertDescription::ProtocolVersion));
    assert_eq!(Client::new().connect(proxy.listener("main")).facts.version, "TLSv1_3");
    proxy.wait_stat("listener.main.ssl.connection_error", 1);
}

fn a_highest_version(subject: &Subject) {
    let upstream = hello();
    let context = plain_tls().common("tls_params: {tls_maximum_protocol_version: TLSv1_2}");
    let proxy = terminate(subject, &context, upstream.address());
    let new = Client::new().versions(&[Version::V13]);
    assert_eq!(new.refusal(proxy.listener("main")), Ending::Alert(AlertDescription::ProtocolVersion));
    assert_eq!(Client::new().connect(proxy.listener("main")).facts.version, "TLSv1_2");
}

fn cipher_suites(subject: &Subject) {
    let upstream = hello();
    let list = "tls_params: {cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-ECDSA-CHACHA20-POLY1305]}";
    let proxy = terminate(subject, &plain_tls().common(list), upstream.address());
    let client = Client::new().versions(&[Version::V12]);
    let link = client.connect(proxy.listener("main"));
    assert_eq!(link.facts.cipher, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    let link = client
        .clone()
        .suites(&["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"])
        .connect(proxy.listener("main"));
    assert_eq!(link.facts.cipher, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    let none = client.suites(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(none.refusal(proxy.listener("main")), Ending::Alert(AlertDescription::HandshakeFailure));
    // The list is about TLS 1.2 only.
    let link = Client::new().suites(&["TLS13_AES_128_GCM_SHA256"]).versions(&[Version::V13]);
    assert_eq!(link.connect(proxy.listener("main")).raw().get("/").status, 200);
}

fn groups(subject: &Subject) {
    let upstream = hello();
    let context = plain_tls().common("tls_params: {ecdh_curves: [P-256]}");
    let proxy = terminate(subject, &context, upstream.address());
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
        assert_eq!(link.facts.group, "secp256r1", "{version:?}");
        let other = Client::new().versions(&[version]).groups(&["X25519"]);
        let refused = other.refusal(proxy.listener("main"));
        assert_eq!(refused, Ending::Alert(AlertDescription::HandshakeFailure), "{version:?}");
    }
    // A list of one curve is what Envoy is told for the whole handshake.
    proxy.wait_stat("listener.main.ssl.curves.P-256", 2);
}

fn post_quantum_key_exchange(subject: &Subject) {
    let upstream = hello();
    let list = "tls_params: {ecdh_curves: [X25519MLKEM768, X25519]}";
    let proxy = terminate(subject, &plain_tls().common(list), upstream.address());
    let hybrid = Client::new().versions(&[Version::V13]).groups(&["X25519MLKEM768", "X25519"]);
    let link = hybrid.connect(proxy.listener("main"));
    assert_eq!((&*link.facts.group, link.raw().get("/").status), ("X25519MLKEM768", 200));
    let classic = Client::new().versions(&[Version::V13]).groups(&["X25519"]);
    assert_eq!(classic.connect(proxy.listener("main")).facts.group, "X25519");
}

fn alpn_in_the_order_of_the_server(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls().alpn(&["h2", "http/1.1"]), upstream.address());
    let link = Client::new().alpn(&["http/1.1", "h2"]).connect(proxy.listener("main"));
    assert_eq!(link.facts.alpn.as_deref(), Some("h2"));
    assert_eq!(link.h2().get("/").status, 200);
}

fn alpn_without_overlap_goes_on(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls().alpn(&["h2"]), upstream.address());
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).alpn(&["other/1"]).connect(proxy.listener("main"));
        assert_eq!(link.facts.alpn, None);
        assert_eq!(link.raw().get("/").status, 200, "{version:?}");
    }
}

/// Without ALPN the connection manager looks at the first bytes.
fn no_alpn_is_http1(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls().alpn(&["h2", "http/1.1"]), upstream.address());
    assert_eq!(Client::new().connect(proxy.listener("main")).raw().get("/").status, 200);
    assert_eq!(Client::new().connect(proxy.listener("main")).h2().get("/").status, 200);
}

fn resumption_by_ticket(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    for version in Version::BOTH {
        let client = Client::new().versions(&[version]).name("proxy.test");
        for round in 0..4 {
            let link = client.connect(proxy.listener("main"));
            assert_eq!(link.raw().get("/").status, 200);
            assert_eq!(link.facts.resumed, round > 0, "{version:?} {round}");
        }
    }
    proxy.wait_stat("listener.main.ssl.session_reused", 6);
    proxy.wait_stat("listener.main.ssl.handshake", 8);
}

fn resumption_keeps_the_identity_of_the_client(subject: &Subject) {
    let upstream = hello();
    let http = millrace_support::bootstrap::Http::to("up")
        .hcm("forward_client_cert_details: SANITIZE_SET\nset_current_client_cert_details: {uri: true}");
    let proxy = crate::common::terminate_http(subject, http, &mutual_tls(), upstream.address());
    for version in Version::BOTH {
        let client = mutual_client().versions(&[version]).name("proxy.test");
        for round in 0..3 {
            let link = client.connect(proxy.listener("main"));
            assert_eq!(link.raw().get("/").status, 200);
            assert_eq!(link.facts.resumed, round > 0, "{version:?} {round}");
        }
    }
    let xfcc: Vec<String> = upstream
        .requests()
        .iter()
        .map(|r| r.fields.get("x-forwarded-client-cert").unwrap_or_default().to_owned())
        .collect();
    assert!(xfcc[0].ends_with("URI=spiffe://test/ns/default/sa/client"), "{xfcc:?}");
    assert!(xfcc.iter().all(|value| *value == xfcc[0]), "{xfcc:?}");
}

fn resumption_turned_off(subject: &Subject) {
    let upstream = hello();
    let off = "disable_stateless_session_resumption: true, disable_stateful_session_resumption: true";
    let proxy = terminate(subject, &plain_tls().field(off), upstream.address());
    for version in Version::BOTH {
        let client = Client::new().versions(&[version]).name("proxy.test");
        for _ in 0..3 {
            let link = client.connect(proxy.listener("main"));
            assert_eq!(link.raw().get("/").status, 200);
            assert!(!link.facts.resumed, "{version:?}");
        }
    }
}

fn a_key_of_rsa(subject: &Subject) {
    let upstream = hello();
    let identity = root().issue(&Leaf::dns("rsa.test").algorithm(Algorithm::Rsa2048));
    let proxy = terminate(subject, &Context::new().certificate(&identity), upstream.address());
    for version in Version::BOTH {
        let link = Client::new().versions(&[version]).connect(proxy.listener("main"));
        assert_eq!(link.raw().get("/").status, 200);
        assert!(link.facts.peer[0].as_slice() == &*identity.chain[0]);
    }
}

fn handshake_statistics(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let client = |version| Client::new().versions(&[version]).groups(&["X25519", "secp256r1"]);
    for _ in 0..2 {
        assert_eq!(client(Version::V13).connect(proxy.listener("main")).raw().get("/").status, 200);
    }
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let old = client(Version::V12).suites(&[suite]);
    assert_eq!(old.connect(proxy.listener("main")).raw().get("/").status, 200);
    proxy.wait_stat("listener.main.ssl.handshake", 3);
    assert_eq!(proxy.stat("listener.main.ssl.sigalgs.ecdsa_secp256r1_sha256").unwrap_or(0), 0);
    for (name, value) in [
        ("versions.TLSv1.3", 2),
        ("versions.TLSv1.2", 1),
        ("curves.X25519", 3),
        ("ciphers.ECDHE-ECDSA-AES128-GCM-SHA256", 1),
        ("no_certificate", 3),
        ("connection_error", 0),
        ("fail_verify_error", 0),
        ("session_reused", 0),
    ] {
        proxy.wait_stat(&format!("listener.main.ssl.{name}"), value);
    }
    // The algorithm that is counted is the client's.
    let proxy = terminate(subject, &mutual_tls(), upstream.address());
    assert_eq!(mutual_client().connect(proxy.listener("main")).raw().get("/").status, 200);
    proxy.wait_stat("listener.main.ssl.sigalgs.ecdsa_secp256r1_sha256", 1);
}
