//! Paths that webpki alone cannot judge: self-issued authorities, and constraints on URIs, e-mail addresses and
//! directory names.

use millrace_config::ValidationContext;
use millrace_tls::verify::{CertificateRules, ChainFault, PeerRole, RuleBreach, VerifyError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType, date_time_ymd,
};

use crate::authority::{Authority, NOW, authority, dns, leaf, uri, verifier_of, verify};
use crate::rules::{der, extension};

fn limited(name: &str, most: u8) -> CertificateParams {
    let mut params = authority(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
    params
}

/// A path length of none.
fn last(name: &str) -> CertificateParams {
    limited(name, 0)
}

/// An authority whose names must lie in this subtree (form and base), or outside.
fn constrained(name: &str, list: u8, form: u8, base: &[u8]) -> CertificateParams {
    let mut params = authority(name);
    let subtree = der(0x30, &[&der(form, &[base])]);
    params.custom_extensions = vec![extension(30, true, der(0x30, &[&der(list, &[&subtree])]))];
    params
}

const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;
const DIRECTORY: u8 = 0xa4;

fn email(text: &str) -> SanType {
    SanType::Rfc822Name(text.try_into().expect("an ASCII address"))
}

fn accepted(context: &ValidationContext, chain: &[&[u8]]) -> bool {
    verify(context, chain).is_ok()
}

#[test]
fn self_issued_authorities_do_not_count_for_path_lengths() {
    let root = Authority::root("root");
    let one = root.signs(limited("one", 1));
    let renewed = one.signs(limited("one", 1));
    let two = renewed.signs(last("two"));
    let der = two.issue(&leaf("leaf", &[]));
    let context = root.context();
    assert!(accepted(&context, &[&der, &two.der, &renewed.der, &one.der]));
    // In any order, but not with one too many or too few.
    assert!(accepted(&context, &[&der, &one.der, &renewed.der, &two.der]));
    assert!(!accepted(&context, &[&der, &two.der, &renewed.der]));
    let three = two.signs(authority("three"));
    let der = three.issue(&leaf("leaf", &[]));
    assert!(!accepted(&context, &[&der, &three.der, &two.der, &renewed.der, &one.der]));
}

#[test]
fn self_issued_authorities_do_not_count_for_the_configured_depth() {
    let root = Authority::root("root");
    let one = root.signs(last("one"));
    let renewed = one.signs(last("one"));
    let two = renewed.signs(authority("two"));
    let by_renewed = renewed.issue(&leaf("leaf", &[]));
    let by_two = two.issue(&leaf("leaf", &[]));
    let context = ValidationContext { max_verify_depth: Some(2), ..root.context() };
    assert!(accepted(&context, &[&by_renewed, &renewed.der, &one.der]));
    assert!(!accepted(&context, &[&by_two, &two.der, &renewed.der, &one.der]));
}

#[test]
fn what_else_an_authority_must_be_is_asked_of_self_issued_ones() {
    let root = Authority::root("root");
    let one = root.signs(last("one"));
    let context = root.context();
    let try_with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = last("one");
        change(&mut params);
        let renewed = one.signs(params);
        let der = renewed.issue(&leaf("leaf", &[]));
        accepted(&context, &[&der, &renewed.der, &one.der])
    };
    assert!(try_with(&|_| ()));
    assert!(!try_with(&|renewed| renewed.is_ca = IsCa::ExplicitNoCa));
    assert!(!try_with(&|renewed| renewed.key_usages = vec![KeyUsagePurpose::CrlSign]));
    assert!(!try_with(&|renewed| renewed.not_after = date_time_ymd(2025, 6, 1)));
    assert!(!try_with(&|renewed| renewed.not_before = date_time_ymd(2027, 6, 1)));
    assert!(!try_with(&|renewed| renewed.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]));
    assert!(try_with(&|renewed| renewed.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]));
    assert!(!try_with(&|renewed| renewed.custom_extensions = vec![extension(99, true, der(0x05, &[]))]));
    // A stranger of the same name.
    let stranger = Authority::root("one").signs(last("one"));
    let der = stranger.issue(&leaf("leaf", &[]));
    assert!(!accepted(&context, &[&der, &stranger.der, &one.der]));
    // With revocation lists nothing is judged here.
    let renewed = one.signs(last("one"));
    let der = renewed.issue(&leaf("leaf", &[]));
    let lists = ValidationContext { crls: vec![root.revoke(&[]), one.revoke(&[])], ..context };
    assert!(!accepted(&lists, &[&der, &renewed.der, &one.der]));
}

#[test]
fn leaves_and_authorities_keep_constraints_of_every_form() {
    let subject = {
        let kind = der(0x06, &[&[0x55, 4, 3]]);
        let attribute = der(0x30, &[&kind, &der(0x0c, &[b"leaf"])]);
        der(0x30, &[&der(0x31, &[&attribute])])
    };
    for (form, base, name, other) in [
        (URI, &b"td.example"[..], uri("spiffe://td.example/a"), uri("spiffe://other.example/a")),
        (EMAIL, b"td.example", email("a@td.example"), email("a@other.example")),
        (EMAIL, b"a@td.example", email("a@td.example"), email("b@td.example")),
    ] {
        for in_root in [true, false] {
            let (root, issuer) = if in_root {
                let root = Authority::root_of(constrained("root", PERMITTED, form, base));
                let issuer = root.signs(authority("one"));
                (root, issuer)
            } else {
                let root = Authority::root("root");
                let issuer = root.signs(constrained("one", PERMITTED, form, base));
                (root, issuer)
            };
            let context = root.context();
            let of = |name: &SanType| {
                let der = issuer.issue(&leaf("leaf", std::slice::from_ref(name)));
                accepted(&context, &[&der, &issuer.der])
            };
            assert!(of(&name) && !of(&other), "{form:x} {in_root}");
        }
    }
    let permitted = Authority::root_of(constrained("root", PERMITTED, DIRECTORY, &subject));
    assert!(accepted(&permitted.context(), &[&permitted.issue(&leaf("leaf", &[]))]));
    assert!(!accepted(&permitted.context(), &[&permitted.issue(&leaf("other", &[]))]));
    let excluded = Authority::root_of(constrained("root", EXCLUDED, DIRECTORY, &subject));
    assert!(!accepted(&excluded.context(), &[&excluded.issue(&leaf("leaf", &[]))]));
    assert!(accepted(&excluded.context(), &[&excluded.issue(&leaf("other", &[]))]));
    // An authority outside is none, unless it is self-issued.
    let outside = permitted.signs(authority("outside"));
    assert!(!accepted(&permitted.context(), &[&outside.issue(&leaf("leaf", &[])), &outside.der]));
    let renewed = permitted.signs(authority("root"));
    assert!(accepted(&permitted.context(), &[&renewed.issue(&leaf("leaf", &[])), &renewed.der]));
    assert!(!accepted(&permitted.context(), &[&renewed.issue(&leaf("other", &[])), &renewed.der]));
}

#[test]
fn constraints_add_up_along_the_path() {
    let root = Authority::root_of(constrained("root", PERMITTED, URI, b".example"));
    let one = root.signs(constrained("one", EXCLUDED, URI, b"b.example"));
    let context = root.context();
    let of = |sans: &[SanType]| accepted(&context, &[&one.issue(&leaf("leaf", sans)), &one.der]);
    assert!(of(&[uri("spiffe://a.example/x")]));
    assert!(of(&[uri("spiffe://a.example/x"), dns("anything")]));
    assert!(!of(&[uri("spiffe://b.example/x")]));
    assert!(!of(&[uri("spiffe://a.test/x")]));
    assert!(!of(&[uri("spiffe://a.example/x"), uri("spiffe://a.test/x")]));
    // An address in the subject counts as well.
    let mail = Authority::root_of(constrained("root", PERMITTED, EMAIL, b"a.example"));
    let of = |address: &str| {
        let mut params = leaf("leaf", &[]);
        let kind = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        let address = address.try_into().expect("an ASCII address");
        params.distinguished_name.push(kind, DnValue::Ia5String(address));
        accepted(&mail.context(), &[&mail.issue(&params)])
    };
    assert!(of("x@a.example") && !of("x@b.example"));
}

#[test]
fn rules_hold_on_such_paths_too() {
    let root = Authority::root("root");
    let one = root.signs(last("one"));
    let renewed = one.signs(last("one"));
    let mut params = leaf("leaf", &[]);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let breach = |chain: &[&[u8]], rules| {
        verifier_of(&root.context(), PeerRole::Client, rules).verify(chain, NOW, None).err()
    };
    let at = |breach, depth| Some(VerifyError::Chain { fault: ChainFault::Rule(breach), depth });
    assert_eq!(
        breach(&[&renewed.issue(&params), &renewed.der, &one.der], CertificateRules::Mesh),
        at(RuleBreach::SignsWithoutAuthority, 0)
    );
    let der = renewed.issue(&leaf("leaf", &[]));
    let refused = breach(&[&der, &renewed.der, &one.der], CertificateRules::Rfc5280);
    assert_eq!(refused, at(RuleBreach::NoAuthorityKey, 2));
}

#[test]
fn many_look_alikes_cost_a_bounded_amount_of_work() {
    let root = Authority::root("one");
    let look_alikes: Vec<_> = (0..9).map(|_| Authority::root("one").signs(authority("one"))).collect();
    let der = Authority::root("one").issue(&leaf("leaf", &[]));
    let chain: Vec<&[u8]> =
        std::iter::once(&der[..]).chain(look_alikes.iter().map(|one| &*one.der)).collect();
    assert!(!accepted(&root.context(), &chain));
    // Each one signs all others.
    let mut chain = vec![root.issue(&leaf("leaf", &[]))];
    chain.extend((0..9).map(|_| root.signs(authority("one")).der.to_vec()));
    chain[0] = Authority::root("one").issue(&leaf("leaf", &[]));
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    assert!(!accepted(&root.context(), &chain));
}
