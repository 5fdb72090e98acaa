//! Chains that passed once are not checked again, as long as nothing that they depend on has changed.

use std::sync::Arc;

use millrace_config::{SanKind, SpiffeTrustDomain, ValidationContext};
use millrace_tls::verify::{
    CertificateRules, ChainFault, PeerRole, TrustCache, Verified, Verifier, VerifierOptions, VerifyError,
};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, SerialNumber, date_time_ymd};

use crate::authority::{Authority, NOW, dns, exact, leaf, leaf_with, uri};

const VALIDATED: Result<Verified, VerifyError> = Ok(Verified { validated: true });
const DAY: i64 = 86_400;

fn refused(fault: ChainFault, depth: u8) -> Result<Verified, VerifyError> {
    Err(VerifyError::Chain { fault, depth })
}

/// A verifier of a shard whose bundles are shared by its contexts.
fn verifier(shard: &TrustCache, context: &ValidationContext, role: PeerRole) -> Arc<Verifier> {
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let options = VerifierOptions {
        role,
        required: false,
        rules: CertificateRules::default(),
        algorithms,
        schemes: None,
    };
    Verifier::new(Some(context), options, shard).expect("a verifier")
}

fn client(context: &ValidationContext) -> Arc<Verifier> {
    verifier(&TrustCache::default(), context, PeerRole::Client)
}

#[test]
fn the_same_bytes_are_known_and_no_others() {
    let root = Authority::root("root");
    let one = root.under("one");
    let verifier = client(&root.context());
    let (der, other) = (one.issue(&leaf("leaf", &[])), one.issue(&leaf("leaf", &[])));
    let chain: &[&[u8]] = &[&der, &one.der];
    assert!(!verifier.knows(chain, NOW));
    for _ in 0..3 {
        assert_eq!(verifier.verify(chain, NOW, None), VALIDATED);
        assert!(verifier.knows(chain, NOW));
    }
    assert!(!verifier.knows(&[&other, &one.der], NOW) && !verifier.knows(&[&der], NOW));
    assert!(!verifier.knows(&[&der, &one.der, &root.der], NOW), "a longer chain is another one");
    for flipped in 0..der.len() {
        let mut bad = der.clone();
        bad[flipped] ^= 1;
        assert!(!verifier.knows(&[&bad, &one.der], NOW), "{flipped}");
    }
    let mut bad = der.clone();
    *bad.last_mut().expect("bytes") ^= 1;
    assert!(verifier.verify(&[&bad, &one.der], NOW, None).is_err());
}

#[test]
fn refusals_are_never_kept() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let stranger = other.issue(&leaf("leaf", &[]));
    for accept_untrusted in [false, true] {
        let verifier = client(&ValidationContext { accept_untrusted, ..root.context() });
        for _ in 0..2 {
            let verified = verifier.verify(&[&stranger], NOW, None);
            assert!(!verified.is_ok_and(|verified| verified.validated));
            assert!(!verifier.knows(&[&stranger], NOW));
        }
    }
    let anybody = client(&ValidationContext::default());
    assert_eq!(anybody.verify(&[&stranger], NOW, None), Ok(Verified { validated: false }));
    assert!(!anybody.knows(&[&stranger], NOW));
}

#[test]
fn a_leaf_is_known_from_not_before_to_not_after() {
    let root = Authority::root("root");
    let verifier = client(&root.context());
    let short = leaf_with(|leaf| {
        leaf.not_before = date_time_ymd(2026, 1, 1);
        leaf.not_after = date_time_ymd(2026, 1, 3);
    });
    let der = root.issue(&short);
    assert_eq!(verifier.verify(&[&der], NOW, None), VALIDATED);
    assert_eq!(verifier.verify(&[&der], NOW + 2 * DAY, None), VALIDATED);
    assert_eq!(verifier.verify(&[&der], NOW + 2 * DAY + 1, None), refused(ChainFault::Expired, 0));
    // A clock that is set back.
    assert_eq!(verifier.verify(&[&der], NOW - 1, None), refused(ChainFault::NotYetValid, 0));
    assert_eq!(verifier.verify(&[&der], NOW, None), VALIDATED);
}

/// An authority of a name whose certificate ends on the third of January 2026, and the one that issued it.
fn short_lived(root: &Authority) -> Authority {
    let mut params = crate::authority::authority("short");
    params.not_after = date_time_ymd(2026, 1, 3);
    root.signs(params)
}

#[test]
fn every_issuer_of_the_path_and_the_root_must_be_valid_still() {
    let root = Authority::root("root");
    let short = short_lived(&root);
    let der = short.issue(&leaf("leaf", &[]));
    let verifier = client(&root.context());
    let chain: &[&[u8]] = &[&der, &short.der];
    assert_eq!(verifier.verify(chain, NOW, None), VALIDATED);
    assert!(verifier.knows(chain, NOW + 2 * DAY) && !verifier.knows(chain, NOW + 2 * DAY + 1));
    assert_eq!(verifier.verify(chain, NOW + 2 * DAY + 1, None), refused(ChainFault::Expired, 1));
    // What is not valid had no part in the answer; what is on no path may end it early, and it is asked for again.
    let stray = short_lived(&Authority::root("nobody"));
    let by_root = root.issue(&leaf("leaf", &[]));
    let chain: &[&[u8]] = &[&by_root, &stray.der];
    for (now, end) in [(NOW, NOW + 2 * DAY), (NOW + 3 * DAY, NOW + 1_000 * DAY)] {
        assert_eq!(verifier.verify(chain, now, None), VALIDATED);
        assert!(verifier.knows(chain, end));
    }
    assert_eq!(verifier.verify(&[&by_root, b"no certificate"], NOW, None), VALIDATED);
    assert!(!verifier.knows(&[&by_root, b"no certificate"], NOW));
    // The root's own end, and a leaf that is trusted itself.
    let ending = Authority::root_of({
        let mut params = crate::authority::authority("ending");
        params.not_after = date_time_ymd(2026, 1, 3);
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params
    });
    let verifier = client(&ending.context());
    let der = ending.issue(&leaf("leaf", &[]));
    for chain in [&[&der[..]] as &[&[u8]], &[&ending.der]] {
        assert_eq!(verifier.verify(chain, NOW, None), VALIDATED);
        assert!(verifier.knows(chain, NOW + 2 * DAY) && !verifier.knows(chain, NOW + 2 * DAY + 1));
        assert!(verifier.verify(chain, NOW + 2 * DAY + 1, None).is_err());
    }
}

#[test]
fn revocation_lists_end_what_was_known() {
    let (root, shard) = (Authority::root("root"), TrustCache::default());
    let with_serial = leaf_with(|leaf| {
        leaf.serial_number = Some(SerialNumber::from(77_u64));
        leaf.not_after = date_time_ymd(2040, 1, 1);
    });
    let der = root.issue(&with_serial);
    let context = root.context();
    let before = verifier(&shard, &context, PeerRole::Client);
    assert_eq!(before.verify(&[&der], NOW, None), VALIDATED);
    assert!(verifier(&shard, &context, PeerRole::Client).knows(&[&der], NOW), "the same bundle and rules");
    // The same bundle, and a list that came later.
    let revoking = ValidationContext { crls: vec![root.revoke(&[77])], ..context.clone() };
    let after = verifier(&shard, &revoking, PeerRole::Client);
    assert!(!after.knows(&[&der], NOW));
    assert_eq!(after.verify(&[&der], NOW, None), refused(ChainFault::Revoked, 0));
    // An empty list is good until 2030.
    let listed = ValidationContext { crls: vec![root.revoke(&[])], ..context };
    let listed = verifier(&shard, &listed, PeerRole::Client);
    assert_eq!(listed.verify(&[&der], NOW, None), VALIDATED);
    let end = 1_893_456_000;
    assert!(listed.knows(&[&der], end - 1) && !listed.knows(&[&der], end));
}

#[test]
fn rules_are_part_of_the_question() {
    let (root, shard) = (Authority::root("root"), TrustCache::default());
    let one = root.under("one");
    let purpose = leaf_with(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let der = one.issue(&purpose);
    let chain: &[&[u8]] = &[&der, &one.der];
    let context = root.context();
    assert_eq!(verifier(&shard, &context, PeerRole::Client).verify(chain, NOW, None), VALIDATED);
    let server = verifier(&shard, &context, PeerRole::Server);
    assert!(!server.knows(chain, NOW));
    assert_eq!(server.verify(chain, NOW, None), refused(ChainFault::Purpose, 0));
    let shallow = ValidationContext { max_verify_depth: Some(1), ..context.clone() };
    assert!(verifier(&shard, &shallow, PeerRole::Client).verify(chain, NOW, None).is_err());
    // Expired certificates pass at moments that are not now: each time anew.
    let lenient = ValidationContext { allow_expired: true, ..context.clone() };
    let lenient = verifier(&shard, &lenient, PeerRole::Client);
    assert_eq!(lenient.verify(chain, NOW, None), VALIDATED);
    assert!(!lenient.knows(chain, NOW));
    // A bundle that comes again is another secret.
    let again = verifier(&shard, &root.context(), PeerRole::Client);
    assert!(!again.knows(chain, NOW));
}

#[test]
fn names_and_fingerprints_are_asked_for_each_time() {
    let (root, shard) = (Authority::root("root"), TrustCache::default());
    let der = root.issue(&leaf("leaf", &[uri("spiffe://td/a"), dns("a.example")]));
    let context = root.context();
    let plain = verifier(&shard, &context, PeerRole::Client);
    assert_eq!(plain.verify(&[&der], NOW, Some("a.example")), VALIDATED);
    assert_eq!(plain.verify(&[&der], NOW, Some("b.example")), Err(VerifyError::SubjectAltName));
    let matchers = vec![exact(SanKind::Uri, "spiffe://td/x")];
    let named = ValidationContext { san_matchers: matchers, ..context.clone() };
    let named = verifier(&shard, &named, PeerRole::Client);
    assert!(named.knows(&[&der], NOW), "the chain is");
    assert_eq!(named.verify(&[&der], NOW, None), Err(VerifyError::SubjectAltName));
    let hashed = ValidationContext { certificate_hashes: vec![[0; 32]], ..context };
    let hashed = verifier(&shard, &hashed, PeerRole::Client);
    assert_eq!(hashed.verify(&[&der], NOW, None), Err(VerifyError::Hash));
}

#[test]
fn trust_domains_know_their_own() {
    let root = Authority::root("root");
    let domain = SpiffeTrustDomain { name: "td".into(), bundle: vec![root.der.clone()] };
    let context = ValidationContext { spiffe: Some([domain].into()), ..ValidationContext::default() };
    let verifier = client(&context);
    let (good, foreign) = ("spiffe://td/a", "spiffe://other/a");
    let good = root.issue(&leaf("leaf", &[uri(good)]));
    assert_eq!(verifier.verify(&[&good], NOW, None), VALIDATED);
    assert!(verifier.knows(&[&good], NOW));
    assert_eq!(verifier.verify(&[&good], NOW, None), VALIDATED);
    let foreign = root.issue(&leaf("leaf", &[uri(foreign)]));
    assert!(verifier.verify(&[&foreign], NOW, None).is_err() && !verifier.knows(&[&foreign], NOW));
}

/// More valid certificates than are kept: all are verified as before, and who comes often stays known.
#[test]
fn many_valid_certificates_push_out_only_what_nobody_uses() {
    let root = Authority::root("root");
    let verifier = client(&root.context());
    let regular = root.issue(&leaf("leaf", &[]));
    let crowd: Vec<_> = (0..1_000).map(|_| root.issue(&leaf("leaf", &[]))).collect();
    for der in &crowd {
        assert_eq!(verifier.verify(&[der], NOW, None), VALIDATED);
        assert_eq!(verifier.verify(&[&regular], NOW, None), VALIDATED);
    }
    assert!(verifier.knows(&[&regular], NOW) && verifier.knows(&[&crowd[999]], NOW));
    let known = crowd.iter().filter(|der| verifier.knows(&[der], NOW)).count();
    assert!((400..=896).contains(&known), "{known}");
    assert_eq!(verifier.verify(&[&crowd[0]], NOW, None), VALIDATED);
}
