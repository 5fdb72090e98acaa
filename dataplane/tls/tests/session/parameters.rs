//! `tls_params` and the choice of a server's certificate.

use millrace_config::{Curve, DownstreamTls, SignatureScheme, TlsVersion};
use millrace_tls::{ClientOptions, Shared, TlsError};

use crate::world::*;

/// The first DNS name of the certificate that a server shows, or its error.
fn shown(down: &DownstreamTls, name: &str, schemes: &[u16], version: TlsVersion) -> Result<String, TlsError> {
    let local = shard(&Shared::new([1; 32]));
    let mut up = upstream(None, None);
    (up.common.params.minimum, up.common.params.maximum) = (version, version);
    up.common.params.signature_schemes = schemes.iter().map(|scheme| SignatureScheme(*scheme)).collect();
    let options = ClientOptions { server_name: name, ..ClientOptions::default() };
    let mut client = End::client(&client_context(&up, &local), options);
    let mut server = End::server(&server_context(down, &local));
    exchange(&mut client, &mut server, usize::MAX);
    match server.session.facts() {
        Some(facts) => {
            let shown = client.session.facts().and_then(|facts| facts.peer.clone()).expect("a certificate");
            assert_eq!(shown.dns_sans, facts.local.as_ref().expect("shown").dns_sans);
            Ok(shown.dns_sans[0].to_string())
        }
        None => Err(server.error.expect("refused")),
    }
}

const ECDSA_P256: u16 = 0x0403;
const PSS_256: u16 = 0x0804;

#[test]
fn certificates_are_chosen_by_name_and_by_what_clients_verify() {
    let ca = Authority::new("ca");
    let leaf = |names: &[&str], kind| ca.leaf(names, kind);
    let down = downstream(&[
        leaf(&["default.test"], Kind::Rsa),
        leaf(&["a.test", "rsa.a"], Kind::Rsa),
        leaf(&["ecdsa.a", "a.test"], Kind::Ecdsa),
        leaf(&["*.wild.test"], Kind::Ecdsa),
        leaf(&["exact.wild.test"], Kind::Ecdsa),
    ]);
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for (name, schemes, expected) in [
            ("a.test", &[][..], "ecdsa.a"),
            ("A.Test", &[], "ecdsa.a"),
            ("a.test", &[ECDSA_P256], "ecdsa.a"),
            ("a.test", &[PSS_256], "a.test"),
            ("x.wild.test", &[], "*.wild.test"),
            ("exact.wild.test", &[], "exact.wild.test"),
            ("x.y.wild.test", &[], "default.test"),
            ("unknown", &[], "default.test"),
            ("", &[PSS_256], "default.test"),
            ("", &[ECDSA_P256], "ecdsa.a"),
        ] {
            assert_eq!(
                shown(&down, name, schemes, version).as_deref(),
                Ok(expected),
                "{version:?} {name} {schemes:?}"
            );
        }
    }
    // The first certificate is for nobody who cannot verify it, and a full scan finds one that can be.
    assert!(shown(&down, "unknown", &[ECDSA_P256], TlsVersion::V1_3).is_err());
    let scanning = DownstreamTls { full_scan_certs_on_sni_mismatch: true, ..down.clone() };
    assert_eq!(shown(&scanning, "unknown", &[ECDSA_P256], TlsVersion::V1_3).as_deref(), Ok("ecdsa.a"));
    let one = downstream(&[leaf(&["e"], Kind::Ecdsa)]);
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let error = shown(&one, "e", &[PSS_256], version).expect_err("nothing in common");
        assert!(matches!(error, TlsError::Handshake(_)));
    }
}

#[test]
fn signature_algorithms_hold_for_both_directions() {
    let ca = Authority::new("ca");
    let mut down = downstream(&[ca.leaf(&["r"], Kind::Rsa)]);
    down.common.params.signature_schemes = vec![SignatureScheme(0x0806)];
    assert!(shown(&down, "r", &[PSS_256], TlsVersion::V1_3).is_err());
    assert!(shown(&down, "r", &[PSS_256, 0x0806], TlsVersion::V1_3).is_ok());
    assert!(shown(&down, "r", &[], TlsVersion::V1_2).is_ok());
}

/// What both offer, and the group that they agree upon.
#[test]
fn groups() {
    use Curve::{P256, P384, X25519, X25519MlKem768};
    let ca = Authority::new("ca");
    let local = shard(&Shared::new([1; 32]));
    for (server, client, expected) in [
        (&[][..], &[][..], Some("X25519")),
        (&[], &[X25519MlKem768, X25519], Some("X25519MLKEM768")),
        // The client's order decides, so nobody has to greet twice.
        (&[], &[X25519, X25519MlKem768], Some("X25519")),
        (&[X25519], &[X25519MlKem768, X25519], Some("X25519")),
        (&[P384, P256], &[P384, P256], Some("P-384")),
        (&[P256], &[], Some("P-256")),
        (&[P384], &[], None),
    ] {
        let mut down = downstream(&[ca.leaf(&["server.test"], Kind::Ecdsa)]);
        down.common.params.curves = server.to_vec();
        let mut up = upstream(None, None);
        up.common.params.curves = client.to_vec();
        let mut server = End::server(&server_context(&down, &local));
        let mut client = End::to(&client_context(&up, &local));
        exchange(&mut client, &mut server, usize::MAX);
        for end in [&client, &server] {
            assert_eq!(
                end.session.facts().map(|facts| facts.curve),
                expected,
                "{:?}",
                down.common.params.curves
            );
        }
        if expected.is_none() {
            assert_eq!(client.error, Some(TlsError::Alert(40)));
        }
    }
}
