//! Chains, keys, bundles and lists as configuration brings them. What is refused was measured with Envoy 1.40
//! (`--mode validate`), and its words are ours.

use millrace_config::TlsCertificate;
use millrace_tls::certificate::{
    CertificateError, KeyKind, MAX_CHAIN, MAX_PEM_BYTES, check, parse_bundle, parse_chain, parse_crls,
    parse_key, peer, summary,
};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use crate::authority::{Authority, dns, leaf, uri};

const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn pair(params: &rcgen::CertificateParams, key: &KeyPair) -> (String, String) {
    (params.self_signed(key).expect("a certificate").pem(), key.serialize_pem())
}

fn secret(chain: &str, key: &str) -> TlsCertificate {
    TlsCertificate {
        chain: parse_chain(chain.as_bytes()).expect("a chain"),
        key: parse_key(key.as_bytes(), None).expect("a key"),
        ocsp_staple: None,
        origin: "<inline>".into(),
    }
}

#[test]
fn a_pair_that_fits_is_told_and_one_that_does_not_is_refused() {
    let key = KeyPair::generate().unwrap();
    let (chain, own) = pair(&leaf("a", &[uri("spiffe://td/a"), dns("a.example")]), &key);
    let told = check(&secret(&chain, &own)).unwrap();
    assert_eq!((told.key, &*told.common_name, told.is_ca), (KeyKind::Ecdsa, "a", false));
    assert_eq!((&*told.uri_sans[0], &*told.dns_sans[0]), ("spiffe://td/a", "a.example"));
    assert_eq!(told.not_before, 1_735_689_600);
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let other = KeyPair::generate_for(algorithm).unwrap();
        let refused = check(&secret(&chain, &other.serialize_pem())).unwrap_err();
        assert_eq!(refused, CertificateError::KeyMismatch);
        let (chain, own) = pair(&leaf("b", &[]), &other);
        assert!(check(&secret(&chain, &own)).is_ok());
    }
    assert!(CertificateError::KeyMismatch.message("/etc/x").contains("/etc/x, Cause:"));
    assert!(CertificateError::KeyMismatch.to_string().ends_with("KEY_VALUES_MISMATCH"));
}

#[test]
fn an_ecdsa_leaf_must_be_allowed_to_sign() {
    let key = KeyPair::generate().unwrap();
    let mut params = leaf("a", &[]);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let (chain, own) = pair(&params, &key);
    assert_eq!(check(&secret(&chain, &own)), Err(CertificateError::LeafCannotSign));
}

#[test]
fn chains_are_read_whole_or_not_at_all() {
    let (chain, key) = pair(&leaf("a", &[]), &KeyPair::generate().unwrap());
    let read = |text: &str| parse_chain(text.as_bytes()).map(|chain| chain.len());
    assert_eq!(read(&format!("{key}words\n{chain}# more\n{}", chain.replace('\n', "\r\n"))), Ok(2));
    assert_eq!(read(&chain.replace("CERTIFICATE", "X509 CERTIFICATE")), Ok(1));
    assert_eq!(read(""), Err(CertificateError::MissingChain));
    for bad in ["hello", &format!("  {chain}"), &chain[..100], BROKEN, &format!("{chain}{BROKEN}"), &key] {
        assert_eq!(read(bad), Err(CertificateError::Chain), "{bad}");
    }
    assert_eq!(read(&chain.repeat(MAX_CHAIN)), Ok(MAX_CHAIN));
    assert_eq!(read(&chain.repeat(MAX_CHAIN + 1)), Err(CertificateError::TooLarge));
    assert_eq!(read(&"\n".repeat(MAX_PEM_BYTES + 1)), Err(CertificateError::TooLarge));
}

#[test]
fn the_first_key_counts_and_encrypted_ones_are_refused() {
    let (one, other) =
        (KeyPair::generate().unwrap().serialize_pem(), KeyPair::generate().unwrap().serialize_pem());
    let first = parse_key(format!("words\n{BROKEN}{one}{other}").as_bytes(), None).unwrap();
    assert!(
        first == parse_key(one.as_bytes(), None).unwrap()
            && first != parse_key(other.as_bytes(), None).unwrap()
    );
    assert_eq!(format!("{first:?}"), "[redacted]");
    let encrypted = one.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let old =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for text in [&*encrypted, old] {
        assert_eq!(parse_key(text.as_bytes(), Some(b"secret")), Err(CertificateError::EncryptedKey));
        assert_eq!(parse_key(text.as_bytes(), None), Err(CertificateError::PasswordMissing));
    }
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for text in ["x", &one[..60], garbage, BROKEN] {
        assert_eq!(parse_key(text.as_bytes(), None), Err(CertificateError::Key), "{text}");
    }
    assert_eq!(parse_key(b"", None), Err(CertificateError::MissingKey));
}

#[test]
fn bundles_hold_certificates_and_lists_hold_lists() {
    let root = Authority::root("root");
    let (certificate, _) = pair(&leaf("a", &[]), &KeyPair::generate().unwrap());
    let list = pem_of("X509 CRL", &root.revoke(&[1]));
    let both = format!("{certificate}{list}{}", pem_of("CERTIFICATE", &root.der));
    assert_eq!(parse_bundle(both.as_bytes()).unwrap().len(), 2);
    assert_eq!(parse_crls(both.as_bytes()).unwrap().len(), 1);
    let trusted = pem_of("TRUSTED CERTIFICATE", &[&root.der[..], &[0x30, 2, 5, 0]].concat());
    assert_eq!(parse_bundle(trusted.as_bytes()).unwrap()[..], std::slice::from_ref(&root.der)[..]);
    for bad in ["", "garbage", &list, &format!("{certificate}{BROKEN}")] {
        assert_eq!(parse_bundle(bad.as_bytes()), Err(CertificateError::TrustedCa), "{bad}");
    }
    assert_eq!(parse_crls(b"garbage"), Ok(Vec::new()));
    assert_eq!(parse_crls(BROKEN.replace("CERTIFICATE", "X509 CRL").as_bytes()), Err(CertificateError::Crl));
}

fn pem_of(label: &str, der: &[u8]) -> String {
    let as_certificate = peer_pem(der);
    as_certificate.replace("CERTIFICATE", label)
}

/// Base64 in lines of 64, without a library for it.
fn peer_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits =
                group.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let letter = char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]);
                text.push(if place > group.len() { '=' } else { letter });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

#[test]
fn changed_certificates_never_panic_and_are_never_believed() {
    let root = Authority::root("root");
    let der = root.issue(&leaf("leaf", &[uri("spiffe://td/a"), dns("a.example")]));
    let verifier = crate::authority::verifier(&root.context(), millrace_tls::verify::PeerRole::Client);
    let believed = |der: &[u8]| verifier.verify(&[der], crate::authority::NOW, None).is_ok();
    assert!(believed(&der));
    let mut random = millrace_base::Rng::new(0x5eed);
    for at in 0..der.len() {
        for value in [der[at] ^ 1, der[at] ^ 0x80, random.next_u64() as u8] {
            let mut changed = der.clone();
            changed[at] = value;
            let _ = (summary(&changed), peer(&[&changed]));
            assert!(changed == der || !believed(&changed), "byte {at}");
        }
        assert!(!believed(&der[..at]), "cut at {at}");
    }
}
