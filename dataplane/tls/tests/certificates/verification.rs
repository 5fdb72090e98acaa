//! Every rule of the verifier, one vector each. What is expected was measured with Envoy 1.40 where it says so.

use aws_lc_rs::digest::{SHA256, digest};
use millrace_config::{SanKind, SpiffeTrustDomain, ValidationContext};
use millrace_tls::certificate::{CertificateError, MAX_CHAIN};
use millrace_tls::verify::{
    CertificateRules, ChainFault, FailureKind, PeerRole, SpiffeFault, TrustCache, Verified, Verifier,
    VerifierOptions, VerifyError,
};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SerialNumber, date_time_ymd};
use rustls::AlertDescription;

use crate::authority::{Authority, NOW, authority, dns, exact, leaf, leaf_with, uri, verifier, verify};

const VALIDATED: Result<Verified, VerifyError> = Ok(Verified { validated: true });
const NOT_VALIDATED: Result<Verified, VerifyError> = Ok(Verified { validated: false });

fn fault(fault: ChainFault, depth: u8) -> Result<Verified, VerifyError> {
    Err(VerifyError::Chain { fault, depth })
}

/// The alert that rustls makes of it.
fn alert(error: VerifyError) -> AlertDescription {
    error.fault().into()
}

#[test]
fn chains_lead_to_a_trusted_root_or_are_refused_with_the_reason_and_the_alert_of_envoy() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let context = root.context();
    let expired = leaf_with(|leaf| leaf.not_after = date_time_ymd(2025, 6, 1));
    let future = leaf_with(|leaf| leaf.not_before = date_time_ymd(2027, 1, 1));
    let mut server = leaf("leaf", &[]);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut any = leaf("leaf", &[]);
    any.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    let agreeing = leaf_with(|leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    let signing = leaf_with(|leaf| leaf.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert_eq!(verify(&context, &[&root.issue(&leaf("leaf", &[]))]), VALIDATED);
    assert_eq!(verify(&context, &[&root.issue(&agreeing)]), VALIDATED);
    for (der, expected, sent) in [
        (other.issue(&leaf("leaf", &[])), ChainFault::UnknownIssuer, AlertDescription::UnknownCA),
        (root.issue(&expired), ChainFault::Expired, AlertDescription::CertificateExpired),
        (root.issue(&future), ChainFault::NotYetValid, AlertDescription::CertificateExpired),
        (root.issue(&server), ChainFault::Purpose, AlertDescription::UnsupportedCertificate),
        (root.issue(&any), ChainFault::Purpose, AlertDescription::UnsupportedCertificate),
        (root.issue(&signing), ChainFault::Purpose, AlertDescription::UnsupportedCertificate),
    ] {
        let refused = verify(&context, &[&der]);
        assert_eq!(refused, fault(expected, 0));
        assert_eq!(alert(refused.unwrap_err()), sent, "{expected:?}");
        assert_eq!(refused.unwrap_err().kind(), FailureKind::VerifyError);
    }
    let role = verifier(&context, PeerRole::Server);
    assert_eq!(role.verify(&[&root.issue(&server)], NOW, None), VALIDATED);
    assert_eq!(verify(&context, &[]), Err(VerifyError::NoCertificate));
    assert_eq!(verify(&context, &[b"not DER"]), fault(ChainFault::Malformed, 0));
}

#[test]
fn another_key_of_a_rotated_authority_is_an_unknown_issuer_where_identifiers_tell() {
    let (root, rotated) = (Authority::root("root"), Authority::root("root"));
    let told = leaf_with(|leaf| leaf.use_authority_key_identifier_extension = true);
    assert_eq!(verify(&root.context(), &[&root.issue(&told)]), VALIDATED);
    assert_eq!(verify(&root.context(), &[&rotated.issue(&told)]), fault(ChainFault::UnknownIssuer, 0));
    assert_eq!(
        verify(&root.context(), &[&rotated.issue(&leaf("leaf", &[]))]),
        fault(ChainFault::BadSignature, 0)
    );
    let both = ValidationContext {
        trusted_ca: Some([root.der.clone(), rotated.der.clone()].into()),
        ..ValidationContext::default()
    };
    assert_eq!(verify(&both, &[&rotated.issue(&told)]), VALIDATED);
}

#[test]
fn words_are_those_of_envoy() {
    let error = VerifyError::Chain { fault: ChainFault::Expired, depth: 1 };
    assert_eq!(
        error.details(),
        "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
         X509_verify_cert: certificate verification error at depth 1: certificate has expired:TLS_error_end"
    );
    assert!(VerifyError::Hash.details().ends_with("verify cert failed: cert hash and spki:TLS_error_end"));
    assert!(VerifyError::NoCertificate.details().contains("PEER_DID_NOT_RETURN_A_CERTIFICATE"));
    assert_eq!(alert(VerifyError::SubjectAltName), AlertDescription::CertificateUnknown);
}

#[test]
fn intermediates_are_followed_as_deep_as_allowed() {
    let root = Authority::root("root");
    let (one, two) = (root.under("one"), root.under("one").under("two"));
    let mut context = root.context();
    let by_one = one.issue(&leaf("leaf", &[]));
    assert_eq!(verify(&context, &[&by_one]), fault(ChainFault::UnknownIssuer, 0));
    assert_eq!(verify(&context, &[&by_one, &one.der]), VALIDATED);
    assert_eq!(
        verify(&context, &[&two.issue(&leaf("leaf", &[])), &two.der]),
        fault(ChainFault::UnknownIssuer, 1)
    );
    // Measured: the root counts, and 0 means 1.
    for (depth, allowed) in [(0, false), (1, false), (2, true)] {
        context.max_verify_depth = Some(depth);
        assert_eq!(verify(&context, &[&by_one, &one.der]) == VALIDATED, allowed, "{depth}");
        assert_eq!(verify(&context, &[&root.issue(&leaf("leaf", &[]))]), VALIDATED);
    }
}

#[test]
fn chains_are_bounded_before_any_signature_is_looked_at() {
    let root = Authority::root("root");
    let der = root.issue(&leaf("leaf", &[]));
    let mut chain: Vec<&[u8]> = vec![&der];
    chain.resize(MAX_CHAIN, &root.der);
    assert_eq!(verify(&root.context(), &chain), VALIDATED);
    chain.push(&root.der);
    assert_eq!(verify(&root.context(), &chain), fault(ChainFault::TooLong, 0));
    let large = vec![0_u8; 65_536];
    assert_eq!(verify(&root.context(), &[&der, &large]), fault(ChainFault::TooLong, 0));
}

#[test]
fn a_trusted_leaf_needs_no_path_even_as_an_authority() {
    let mut params = leaf("self", &[]);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = Authority::root_of(params.clone());
    assert_eq!(verify(&own.context(), &[&own.der]), VALIDATED);
    params.not_after = date_time_ymd(2025, 6, 1);
    let old = Authority::root_of(params);
    let mut context = old.context();
    assert_eq!(verify(&context, &[&old.der]), fault(ChainFault::Expired, 0));
    context.allow_expired = true;
    assert_eq!(verify(&context, &[&old.der]), VALIDATED);
}

#[test]
fn expired_certificates_pass_where_that_is_allowed() {
    let root = Authority::root("root");
    let expired = leaf_with(|leaf| leaf.not_after = date_time_ymd(2025, 6, 1));
    let future = leaf_with(|leaf| leaf.not_before = date_time_ymd(2027, 1, 1));
    let context = ValidationContext { allow_expired: true, ..root.context() };
    assert_eq!(verify(&context, &[&root.issue(&expired)]), VALIDATED);
    assert_eq!(verify(&context, &[&root.issue(&future)]), VALIDATED);
    let stranger = Authority::root("root").issue(&expired);
    assert_eq!(verify(&context, &[&stranger]), fault(ChainFault::BadSignature, 0));
}

#[test]
fn revoked_certificates_are_refused_and_a_missing_list_too() {
    let root = Authority::root("root");
    let one = root.under("one");
    let with = |serial: u64| leaf_with(|leaf| leaf.serial_number = Some(SerialNumber::from(serial)));
    let mut context = ValidationContext { crls: vec![root.revoke(&[77])], ..root.context() };
    let revoked = verify(&context, &[&root.issue(&with(77))]);
    assert_eq!(revoked, fault(ChainFault::Revoked, 0));
    assert_eq!(alert(revoked.unwrap_err()), AlertDescription::CertificateRevoked);
    assert_eq!(verify(&context, &[&root.issue(&with(78))]), VALIDATED);
    let by_one = one.issue(&with(79));
    assert_eq!(verify(&context, &[&by_one, &one.der]), fault(ChainFault::RevocationUnknown, 0));
    context.only_leaf_crl = true;
    context.crls = vec![one.revoke(&[77])];
    assert_eq!(verify(&context, &[&by_one, &one.der]), VALIDATED);
    context.only_leaf_crl = false;
    assert_eq!(verify(&context, &[&by_one, &one.der]), fault(ChainFault::RevocationUnknown, 0));
    let late =
        verifier(&ValidationContext { crls: vec![root.revoke(&[])], ..root.context() }, PeerRole::Client);
    let mut lasting = with(1);
    lasting.not_after = date_time_ymd(2040, 1, 1);
    let after_2030 = 1_900_000_000;
    assert!(late.verify(&[&root.issue(&lasting)], after_2030, None).is_err());
}

#[test]
fn names_are_asked_for_by_matchers_and_by_the_connection() {
    let root = Authority::root("root");
    let der = root.issue(&leaf("leaf", &[uri("spiffe://td/a"), dns("*.b.example")]));
    let mut context = root.context();
    context.san_matchers = vec![exact(SanKind::Uri, "spiffe://td/x"), exact(SanKind::Dns, "a.b.example")];
    assert_eq!(verify(&context, &[&der]), VALIDATED);
    context.san_matchers.pop();
    assert_eq!(verify(&context, &[&der]), Err(VerifyError::SubjectAltName));
    let plain = verifier(&root.context(), PeerRole::Client);
    assert_eq!(plain.verify(&[&der], NOW, Some("z.b.example")), VALIDATED);
    assert_eq!(plain.verify(&[&der], NOW, Some("b.example")), Err(VerifyError::SubjectAltName));
    assert!(plain.asks() && !plain.requires());
    // Measured: names make the certificate mandatory.
    assert!(verifier(&context, PeerRole::Client).requires());
    assert_eq!(plain.root_hints().len(), 1);
}

#[test]
fn fingerprint_or_key_may_vouch_with_or_without_an_authority() {
    let root = Authority::root("root");
    let der = root.issue(&leaf("leaf", &[]));
    let hash = <[u8; 32]>::try_from(digest(&SHA256, &der).as_ref()).unwrap();
    for authority in [root.context(), ValidationContext::default()] {
        let mut context = ValidationContext { certificate_hashes: vec![[0; 32], hash], ..authority };
        assert_eq!(verify(&context, &[&der]), VALIDATED);
        context.certificate_hashes = vec![[0; 32]];
        assert_eq!(verify(&context, &[&der]), Err(VerifyError::Hash));
        let spki = rustls::pki_types::CertificateDer::from(&*der);
        let spki = webpki::EndEntityCert::try_from(&spki).unwrap().subject_public_key_info();
        context.spki_hashes = vec![digest(&SHA256, &spki).as_ref().try_into().unwrap()];
        assert_eq!(verify(&context, &[&der]), VALIDATED);
    }
}

#[test]
fn without_an_authority_anything_goes_and_nothing_is_validated() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let der = other.issue(&leaf("leaf", &[]));
    assert_eq!(verify(&ValidationContext::default(), &[&der]), NOT_VALIDATED);
    let mut context = ValidationContext { accept_untrusted: true, ..root.context() };
    assert_eq!(verify(&context, &[&der]), NOT_VALIDATED);
    assert_eq!(verify(&context, &[&root.issue(&leaf("leaf", &[]))]), VALIDATED);
    context.san_matchers = vec![exact(SanKind::Uri, "spiffe://td/x")];
    assert_eq!(verify(&context, &[&root.issue(&leaf("leaf", &[]))]), NOT_VALIDATED);
    assert!(!verifier(&context, PeerRole::Client).requires());
}

#[test]
fn contexts_that_envoy_refuses_are_refused() {
    let root = Authority::root("root");
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let rules = CertificateRules::Mesh;
    let options =
        VerifierOptions { role: PeerRole::Client, required: false, rules, algorithms, schemes: None };
    let matchers =
        ValidationContext { san_matchers: vec![exact(SanKind::Dns, "a")], ..ValidationContext::default() };
    let lists = ValidationContext { crls: vec![root.revoke(&[])], ..ValidationContext::default() };
    let expired = ValidationContext { allow_expired: true, ..ValidationContext::default() };
    for (context, error) in [
        (matchers, CertificateError::MatchersWithoutAuthority),
        (lists, CertificateError::CrlWithoutAuthority),
        (expired, CertificateError::ExpiryWithoutAuthority),
    ] {
        let refused = Verifier::new(Some(&context), options.clone(), &TrustCache::default());
        assert_eq!(refused.err(), Some(error));
    }
}

#[test]
fn spiffe_identities_choose_their_roots() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let domain = |name: &str, root: &Authority| SpiffeTrustDomain {
        name: name.into(),
        bundle: vec![root.der.clone()],
    };
    let mut context = ValidationContext {
        spiffe: Some([domain("td", &root), domain("other", &other)].into()),
        ..ValidationContext::default()
    };
    let issue =
        |uris: &[&str]| root.issue(&leaf("leaf", &uris.iter().map(|text| uri(text)).collect::<Vec<_>>()));
    let good = issue(&["spiffe://td/ns/a"]);
    assert_eq!(verify(&context, &[&good]), VALIDATED);
    assert_eq!(verify(&context, &[&issue(&["spiffe://other/a"])]), fault(ChainFault::UnknownIssuer, 0));
    for (uris, expected) in [
        (&["spiffe://td/a", "spiffe://td/b"] as &[&str], SpiffeFault::NoTrustDomain),
        (&[], SpiffeFault::NoTrustDomain),
        (&["spiffe://td"], SpiffeFault::NoTrustDomain),
        (&["spiffe://third/a"], SpiffeFault::UnknownTrustDomain),
    ] {
        assert_eq!(verify(&context, &[&issue(uris)]), Err(VerifyError::Spiffe(expected)), "{uris:?}");
    }
    let mut signing = leaf("leaf", &[uri("spiffe://td/a")]);
    signing.key_usages.push(KeyUsagePurpose::KeyCertSign);
    assert_eq!(verify(&context, &[&root.issue(&signing)]), Err(VerifyError::Spiffe(SpiffeFault::LeafSigns)));
    let mut authority = authority("leaf");
    authority.subject_alt_names = vec![uri("spiffe://td/a")];
    let refused = verify(&context, &[&root.issue(&authority)]);
    assert_eq!(refused, Err(VerifyError::Spiffe(SpiffeFault::LeafIsAuthority)));
    // Matchers come on top, and only those of URIs.
    context.san_matchers = vec![exact(SanKind::Dns, "zz")];
    assert_eq!(verify(&context, &[&good]), VALIDATED);
    context.san_matchers.push(exact(SanKind::Uri, "spiffe://td/ns/b"));
    assert_eq!(verify(&context, &[&good]), Err(VerifyError::SubjectAltName));
    assert!(verifier(&context, PeerRole::Client).requires());
}
