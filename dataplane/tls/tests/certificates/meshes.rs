//! Certificates as the authorities of meshes make them, which the default rules must take. Each file of `meshes/` has a
//! leaf, its intermediates and the root, made here in November 2026: those of istiod, SPIRE, Consul, Kuma, linkerd,
//! cert-manager, step-ca and Vault by Go's crypto/x509 with the fields that their sources set, the others by OpenSSL
//! 3.0 (Istio's with the settings of its `tools/certs`, once without the authority key identifiers that OpenSSL 1.1 does
//! not add by itself).

use std::path::PathBuf;

use millrace_config::ValidationContext;
use millrace_tls::certificate::parse_chain;
use millrace_tls::verify::{CertificateRules, ChainFault, PeerRole, RuleBreach, VerifyError};

use crate::authority::verifier_of;

/// 2027-01-01.
const THEN: i64 = 1_798_761_600;

/// The first rule that each file breaks by rfc5280 and webpki.
const STRICT: [(&str, Option<RuleBreach>, Option<RuleBreach>); 12] = [
    ("cert-manager", None, None),
    ("consul", None, None),
    ("istio-tools-certs", None, None),
    ("istio-tools-certs-openssl-1", Some(RuleBreach::NoAuthorityKey), Some(RuleBreach::NoAuthorityKey)),
    ("istiod", None, Some(RuleBreach::CriticalNames)),
    ("kuma", Some(RuleBreach::ZeroSerial), Some(RuleBreach::ZeroSerial)),
    ("linkerd", None, Some(RuleBreach::RootPurpose)),
    ("openssl-version-1-root", Some(RuleBreach::NoAuthorityKey), Some(RuleBreach::NoAuthorityKey)),
    ("openssl", Some(RuleBreach::NameSyntax), Some(RuleBreach::NameSyntax)),
    ("spire", None, None),
    ("step-ca", None, None),
    ("vault", None, None),
];

fn breach(name: &str, role: PeerRole, rules: CertificateRules) -> Option<RuleBreach> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/certificates/meshes/{name}.pem"));
    let chain = parse_chain(&std::fs::read(path).expect("a file")).expect("certificates");
    let (root, chain) = chain.split_last().expect("a root");
    let context =
        ValidationContext { trusted_ca: Some([root.clone()].into()), ..ValidationContext::default() };
    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    match verifier_of(&context, role, rules).verify(&chain, THEN, None) {
        Ok(_) => None,
        Err(VerifyError::Chain { fault: ChainFault::Rule(breach), .. }) => Some(breach),
        Err(other) => {
            assert_eq!(format!("{other:?}"), "a rule", "{name}");
            None
        }
    }
}

#[test]
fn the_default_rules_take_every_mesh_and_the_strict_ones_do_not() {
    let files = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/meshes");
    assert_eq!(std::fs::read_dir(files).expect("a folder").count(), STRICT.len());
    for (name, rfc5280, webpki) in STRICT {
        for role in [PeerRole::Client, PeerRole::Server] {
            let by = CertificateRules::ALL.map(|rules| breach(name, role, rules));
            assert_eq!(by, [None, rfc5280, webpki], "{name}");
        }
    }
}
