//! Every rule for certificates, one vector each, and which profiles hold it.

use std::sync::Arc;

use millrace_config::ValidationContext;
use millrace_tls::verify::{
    CertificateRules, ChainFault, PeerRole, RuleBreach, TrustCache, Verifier, VerifierOptions, VerifyError,
};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    PublicKeyData, SerialNumber, SignatureAlgorithm,
};

use crate::authority::{Authority, NOW, authority, dns, leaf, params, uri, verifier_of};

/// What mesh, rfc5280 and webpki say: nothing, or the rule that is broken and where.
type Verdicts = [Option<(RuleBreach, u8)>; 3];
const KEPT: Verdicts = [None; 3];

fn every(breach: RuleBreach, depth: u8) -> Verdicts {
    [Some((breach, depth)); 3]
}

fn strict(breach: RuleBreach, depth: u8) -> Verdicts {
    [None, Some((breach, depth)), Some((breach, depth))]
}

fn web(breach: RuleBreach, depth: u8) -> Verdicts {
    [None, None, Some((breach, depth))]
}

fn verdicts(context: &ValidationContext, chain: &[&[u8]]) -> Verdicts {
    CertificateRules::ALL.map(|rules| {
        match verifier_of(context, PeerRole::Server, rules).verify(chain, NOW, None) {
            Ok(_) => None,
            Err(VerifyError::Chain { fault: ChainFault::Rule(breach), depth }) => Some((breach, depth)),
            Err(other) => {
                assert_eq!(format!("{other:?}"), "a rule", "{rules:?}");
                None
            }
        }
    })
}

/// DER of an element, up to 64 KiB.
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).expect("short DER");
    let mut der = vec![tag];
    match length {
        0..=0x7f => der.push(length as u8),
        0x80..=0xff => der.extend([0x81, length as u8]),
        _ => der.extend([&[0x82][..], &length.to_be_bytes()].concat()),
    }
    der.extend(content);
    der
}

/// An extension of RFC 5280 4.2.1, by the last number of its identifier.
pub fn extension(number: u64, critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, number], content);
    extension.set_criticality(critical);
    extension
}

const KEY_ID: [u8; 4] = [1, 2, 3, 4];

fn basic(critical: bool) -> CustomExtension {
    extension(19, critical, der(0x30, &[&der(0x01, &[&[0xff]])]))
}

fn subject_key(critical: bool) -> CustomExtension {
    extension(14, critical, der(0x04, &[&KEY_ID]))
}

fn authority_key(critical: bool, content: &[u8]) -> CustomExtension {
    extension(35, critical, der(0x30, &[content]))
}

/// A leaf that keeps all rules, changed.
fn good(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = leaf("a.example", &[dns("a.example"), dns("*.b.example"), uri("spiffe://td/a")]);
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    params
}

/// A root with just these extensions beside key usage.
fn bare(extensions: Vec<CustomExtension>) -> Authority {
    let mut params = params("root");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.custom_extensions = extensions;
    Authority::root_of(params)
}

/// Of a good leaf under such a root.
fn under(root: &Authority) -> Verdicts {
    verdicts(&root.context(), &[&root.issue(&good(|_| ()))])
}

#[test]
fn good_chains_keep_every_rule() {
    let root = Authority::root("root");
    assert_eq!(under(&root), KEPT);
    assert_eq!(under(&bare(vec![basic(true), subject_key(false)])), KEPT);
    let mut middle = authority("middle");
    middle.use_authority_key_identifier_extension = true;
    let middle = root.signs(middle);
    assert_eq!(verdicts(&root.context(), &[&middle.issue(&good(|_| ())), &middle.der]), KEPT);
}

#[test]
fn leaves_keep_the_rules_for_leaves() {
    let root = Authority::root("root");
    let serial = |bytes: Vec<u8>| SerialNumber::from_slice(&bytes);
    let of =
        |change: &dyn Fn(&mut CertificateParams)| verdicts(&root.context(), &[&root.issue(&good(change))]);
    let names = |critical, content: &[u8]| extension(17, critical, der(0x30, &[content]));
    let information = || CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], der(0x30, &[]));
    let constrained = der(0x30, &[&der(0xa0, &[&der(0x30, &[&der(0x82, &[b"a.example"])])])]);
    use RuleBreach as B;
    for (expected, change) in [
        (
            every(B::LongSerial, 0),
            &(|l: &mut CertificateParams| l.serial_number = Some(serial(vec![0x7f; 21])))
                as &dyn Fn(&mut CertificateParams),
        ),
        (KEPT, &|l| l.serial_number = Some(serial(vec![0xff; 20]))),
        (strict(B::ZeroSerial, 0), &|l| l.serial_number = Some(serial(vec![0]))),
        (every(B::MalformedExtension, 0), &|l| l.custom_extensions = vec![information()]),
        (every(B::SignsWithoutAuthority, 0), &|l| l.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        (every(B::ConstrainedLeaf, 0), &|l| {
            l.custom_extensions = vec![extension(30, false, constrained.clone())];
        }),
        (every(B::ImpossibleName, 0), &|l| l.subject_alt_names.push(dns("a b.example"))),
        (every(B::ImpossibleName, 0), &|l| l.subject_alt_names.push(dns("a..example"))),
        (every(B::ImpossibleName, 0), &|l| l.subject_alt_names.push(dns(&"a".repeat(64)))),
        (strict(B::NameSyntax, 0), &|l| l.subject_alt_names.push(dns("a_b.example"))),
        (strict(B::NameSyntax, 0), &|l| l.subject_alt_names.push(dns("a*.example"))),
        (strict(B::NoAuthorityKey, 0), &|l| l.use_authority_key_identifier_extension = false),
        (strict(B::NoNames, 0), &|l| {
            l.subject_alt_names.clear();
            l.custom_extensions = vec![names(false, &[])];
        }),
        (strict(B::LooseNames, 0), &|l| {
            l.subject_alt_names.clear();
            l.distinguished_name = DistinguishedName::new();
            l.custom_extensions = vec![names(false, &der(0x82, &[b"a.example"]))];
        }),
        (KEPT, &|l| l.distinguished_name = DistinguishedName::new()),
        (web(B::CriticalNames, 0), &|l| {
            l.subject_alt_names.clear();
            l.custom_extensions = vec![names(true, &der(0x82, &[b"a.example"]))];
        }),
        (web(B::LeafPurpose, 0), &|l| l.extended_key_usages.clear()),
        (web(B::LeafPurpose, 0), &|l| l.extended_key_usages.push(ExtendedKeyUsagePurpose::Any)),
        (web(B::LeafPurpose, 0), &|l| {
            l.extended_key_usages.clear();
            let server = der(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 3, 1]]);
            l.custom_extensions = vec![extension(37, true, der(0x30, &[&server]))];
        }),
    ] {
        assert_eq!(of(&change), expected);
    }
}

#[test]
fn common_names_are_vouched_for_by_the_alternative_names() {
    let root = Authority::root("root");
    let address = rcgen::SanType::IpAddress([192, 168, 1, 1].into());
    let six = rcgen::SanType::IpAddress("2001:db8::1".parse::<std::net::IpAddr>().unwrap());
    let of = |name: &str, sans: &[rcgen::SanType]| {
        let mut params = leaf(name, sans);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        verdicts(&root.context(), &[&root.issue(&params)])
    };
    for (name, sans) in [
        ("a.example", &[dns("b.example"), dns("a.example")][..]),
        ("a.example", &[dns("*.a.example")]),
        ("workload", &[uri("spiffe://td/a")]),
        ("192.168.1.1", std::slice::from_ref(&address)),
        ("2001:db8::1", std::slice::from_ref(&six)),
        ("host.example", &[address.clone(), six.clone()]),
    ] {
        assert_eq!(of(name, sans), KEPT, "{name}");
    }
    for (name, sans) in [
        ("a.example", &[dns("b.example")][..]),
        ("A.example", &[dns("a.example")]),
        ("b.a.example", &[dns("*.a.example")]),
        ("ä.example", &[dns("xn--4ca.example")]),
        ("192.168.001.001", std::slice::from_ref(&address)),
        ("0xC0A80101", std::slice::from_ref(&address)),
        ("2001:DB8::1", std::slice::from_ref(&six)),
        ("2001:db8:0:0:0:0:0:1", std::slice::from_ref(&six)),
    ] {
        assert_eq!(of(name, sans), web(RuleBreach::CommonName, 0), "{name}");
    }
}

/// An RSA key of so many bits, of which nobody knows the private half.
struct Modulus(Vec<u8>);

impl PublicKeyData for Modulus {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

#[test]
fn rsa_keys_have_a_size() {
    let root = Authority::root("root");
    for (first, octets, expected) in [
        (0x80, 128, every(RuleBreach::WeakKey, 0)),
        (0x40, 256, every(RuleBreach::WeakKey, 0)),
        (0x80, 256, KEPT),
        (0x08, 257, web(RuleBreach::OddKeySize, 0)),
    ] {
        let modulus = [&[0, first][..], &vec![1; octets - 1]].concat();
        let modulus = if first < 0x80 { &modulus[1..] } else { &modulus[..] };
        let key = Modulus(der(0x30, &[&der(0x02, &[modulus]), &der(0x02, &[&[1, 0, 1]])]));
        let leaf = good(|_| ()).signed_by(&key, &root.issuer).unwrap();
        assert_eq!(verdicts(&root.context(), &[leaf.der()]), expected, "{first:x} {octets}");
    }
}

#[test]
fn roots_keep_the_rules_for_authorities() {
    use RuleBreach as B;
    let purpose = || extension(37, false, der(0x30, &[&der(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 3, 1]])]));
    let unknown = || {
        let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55_555, 1], der(0x05, &[]));
        unknown.set_criticality(true);
        unknown
    };
    let whole = || vec![basic(true), subject_key(false)];
    let with = |more: CustomExtension| bare([whole(), vec![more]].concat());
    let own = der(0x80, &[&KEY_ID]);
    let serial = der(0x82, &[&[1]]);
    let issuer = der(0xa1, &[&der(0x82, &[b"a.example"])]);
    let dotted = der(0x30, &[&der(0xa0, &[&der(0x30, &[&der(0x82, &[b".example"])])])]);
    let plain = der(0x30, &[&der(0xa1, &[&der(0x30, &[&der(0x82, &[b"z.example"])])])]);
    let limited = der(0x30, &[&der(0x01, &[&[0xff]]), &der(0x02, &[&[0]])]);
    for (root, expected) in [
        (with(authority_key(false, &own)), KEPT),
        (with(authority_key(true, &own)), every(B::CriticalKeyIdentifier, 1)),
        (with(unknown()), every(B::UnknownCriticalExtension, 1)),
        (with(extension(30, true, der(0x30, &[]))), every(B::EmptyNameConstraints, 1)),
        (with(extension(36, true, der(0x04, &[]))), every(B::MalformedExtension, 1)),
        (bare(vec![basic(true)]), strict(B::NoSubjectKey, 1)),
        (bare(vec![subject_key(false)]), strict(B::LooseAuthority, 1)),
        (bare(vec![basic(false), subject_key(false)]), strict(B::LooseAuthority, 1)),
        (with(extension(36, false, der(0x30, &[&der(0x80, &[&[0]])]))), strict(B::LoosePolicyConstraints, 1)),
        (
            with(extension(30, true, dotted)),
            [None, Some((B::DottedConstraint, 1)), Some((B::DottedConstraint, 1))],
        ),
        (with(extension(30, false, plain)), [None, Some((B::LooseNameConstraints, 1)), None]),
        (bare(vec![extension(19, true, limited), subject_key(false)]), KEPT),
        (with(authority_key(false, &[])), web(B::RootAuthorityKeyForm, 1)),
        (
            with(authority_key(false, &[own.clone(), issuer.clone(), serial.clone()].concat())),
            web(B::RootAuthorityKeyForm, 1),
        ),
        (with(authority_key(false, &der(0x80, &[b"else"]))), web(B::RootAuthorityKeyMismatch, 1)),
        (with(purpose()), web(B::RootPurpose, 1)),
    ] {
        assert_eq!(under(&root), expected);
    }
    let mut nameless = authority("root");
    nameless.distinguished_name = DistinguishedName::new();
    assert_eq!(under(&Authority::root_of(nameless)), strict(B::NamelessAuthority, 1));
}

/// Nobody signs a root, so its bytes can be changed.
#[test]
fn roots_that_no_library_would_make_are_refused() {
    let mut params = authority("root");
    params.serial_number = Some(SerialNumber::from_slice(&[0x7e, 0x7d, 0x7c, 0x7b]));
    let root = Authority::root_of(params);
    let swap = |from: &[u8], to: &[u8]| {
        let at = root.der.windows(from.len()).position(|window| window == from).expect("it is there");
        let mut der = root.der.to_vec();
        der[at..at + to.len()].copy_from_slice(to);
        let bundle: [Arc<[u8]>; 1] = [der.into()];
        let context = ValidationContext { trusted_ca: Some(bundle.into()), ..ValidationContext::default() };
        verdicts(&context, &[&root.issue(&good(|_| ()))])
    };
    assert_eq!(swap(&[0x7e, 0x7d], &[0xfe, 0x7d]), every(RuleBreach::NegativeSerial, 1));
}

#[test]
fn intermediates_keep_the_rules_for_authorities() {
    let root = Authority::root("root");
    let of = |middle: CertificateParams| {
        let middle = root.signs(middle);
        verdicts(&root.context(), &[&middle.issue(&good(|_| ())), &middle.der])
    };
    assert_eq!(of(authority("middle")), strict(RuleBreach::NoAuthorityKey, 1));
    let mut empty = authority("middle");
    empty.use_authority_key_identifier_extension = true;
    empty.custom_extensions = vec![extension(30, true, der(0x30, &[]))];
    assert_eq!(of(empty), every(RuleBreach::EmptyNameConstraints, 1));
    let mut stray = good(|_| ());
    stray.custom_extensions = vec![extension(19, false, der(0x30, &[&der(0x02, &[&[0]])]))];
    let stray = root.issue(&stray);
    assert_eq!(verdicts(&root.context(), &[&stray]), strict(RuleBreach::StrayPathLength, 0));
}

#[test]
fn a_root_of_another_is_an_authority_with_an_issuer() {
    let other = Authority::root("other");
    let cross = other.signs(authority("root"));
    assert_eq!(under(&cross), strict(RuleBreach::NoAuthorityKey, 1));
}

#[test]
fn a_listed_leaf_is_held_to_the_strict_rules_only() {
    let mut own = leaf("a.example", &[dns("a.example")]);
    own.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let own = Authority::root_of(own);
    assert_eq!(verdicts(&own.context(), &[&own.der]), strict(RuleBreach::SignsWithoutAuthority, 0),);
}

#[test]
fn strict_rules_want_lists_with_numbers() {
    let root = Authority::root("root");
    let number = [0x55, 0x1d, 0x14];
    let mut list = root.revoke(&[]).to_vec();
    let at = list.windows(3).position(|window| window == number).expect("a number");
    let mut context = ValidationContext { crls: vec![list.clone().into()], ..root.context() };
    let read = |context: &ValidationContext| {
        CertificateRules::ALL.map(|rules| {
            let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
            let options =
                VerifierOptions { role: PeerRole::Client, required: false, rules, algorithms, schemes: None };
            Verifier::new(Some(context), options, &TrustCache::default()).is_ok()
        })
    };
    assert_eq!(read(&context), [true; 3]);
    // Another extension, of which nobody knows anything.
    list[at + 2] = 0x63;
    context.crls = vec![list.into()];
    assert_eq!(read(&context), [true, false, false]);
}
