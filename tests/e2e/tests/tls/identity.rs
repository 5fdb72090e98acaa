//! Who may connect: client certificates that are right, and every way in which they can be wrong.

use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tls::context::inline;
use millrace_support::tls::{AlertDescription, Authority, Client, Context, Ending, Identity, Leaf, Version};
use millrace_support::upstream::Upstream;

use crate::common::{
    Neighbour, client_identity, hello, mutual_client, mutual_tls, plain_tls, root, terminate,
};

pub(crate) const CASES: &[Case] = &[
    case!(required),
    case!(optional),
    case!(not_asked_for),
    case!(bad_chains),
    case!(chains_of_every_length),
    case!(names_of_uri),
    case!(names_of_dns),
    case!(names_of_ip_and_email),
    case!(spiffe_trust_domains),
    case!(revocation),
    case!(revocation_of_the_leaf_only),
    case!(pinned_hash_and_key),
    case!(expired_allowed),
    case!(untrusted_allowed),
    case!(two_roots_at_once),
];

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Served,
    Refused(AlertDescription),
}

#[track_caller]
fn judge(proxy: &Proxy, what: &str, identity: Option<&Identity>, due: Due) {
    let address = proxy.listener("main");
    for version in Version::BOTH {
        let mut client = Client::new().versions(&[version]);
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        match due {
            Due::Served => {
                let link = client.connect(address);
                assert_eq!(link.raw().get("/").status, 200, "{what} {version:?}");
            }
            Due::Refused(alert) => {
                // A missing certificate has an alert of its own in TLS 1.3 only.
                let none = (alert, version) == (AlertDescription::CertificateRequired, Version::V12);
                let alert = if none { AlertDescription::HandshakeFailure } else { alert };
                let ending = client.try_refusal(address);
                assert_eq!(ending, Some(Ending::Alert(alert)), "{what} {version:?}");
            }
        }
    }
}

fn refused(alert: AlertDescription) -> Due {
    Due::Refused(alert)
}

fn required(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &mutual_tls(), upstream.address());
    judge(&proxy, "right", Some(client_identity()), Due::Served);
    judge(&proxy, "none", None, refused(AlertDescription::CertificateRequired));
    proxy.wait_stat("listener.main.ssl.handshake", 2);
    proxy.wait_stat("listener.main.ssl.fail_verify_no_cert", 2);
    proxy.wait_stat("listener.main.ssl.connection_error", 0);
}

fn optional(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls().trusts(&root()), upstream.address());
    judge(&proxy, "right", Some(client_identity()), Due::Served);
    judge(&proxy, "none", None, Due::Served);
    let stranger = Authority::root("stranger").issue(&Leaf::spiffe("spiffe://test/x"));
    judge(&proxy, "wrong", Some(&stranger), refused(AlertDescription::UnknownCA));
    proxy.wait_stat("listener.main.ssl.no_certificate", 2);
    proxy.wait_stat("listener.main.ssl.fail_verify_error", 2);
}

fn not_asked_for(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let stranger = Authority::root("stranger").issue(&Leaf::spiffe("spiffe://test/x").expired());
    judge(&proxy, "any", Some(&stranger), Due::Served);
    proxy.wait_stat("listener.main.ssl.no_certificate", 2);
}

/// One that is wrong, and the alert that says so.
fn wrong_ones() -> Vec<(&'static str, Identity, AlertDescription)> {
    let leaf = || Leaf::spiffe("spiffe://test/ns/default/sa/x");
    let stranger = Authority::root("stranger");
    let impostor = Authority::root("shared");
    let constrained = root().constrained("constrained", "inside.test");
    let right = client_identity();
    vec![
        ("expired", root().issue(&leaf().expired()), AlertDescription::CertificateExpired),
        ("not yet valid", root().issue(&leaf().not_yet_valid()), AlertDescription::CertificateExpired),
        ("for servers", root().issue(&leaf().only_for("server")), AlertDescription::UnsupportedCertificate),
        ("for code", root().issue(&leaf().only_for("code")), AlertDescription::UnsupportedCertificate),
        ("of a stranger", stranger.issue(&leaf()), AlertDescription::UnknownCA),
        ("of an impostor's root of the same name", impostor.issue(&leaf()), AlertDescription::UnknownCA),
        (
            "without its intermediate",
            root().intermediate("i").issue(&leaf()).with_behind(&[]),
            AlertDescription::UnknownCA,
        ),
        (
            "behind the wrong intermediate",
            root().intermediate("i").issue(&leaf()).with_behind(&[&root().intermediate("j")]),
            AlertDescription::UnknownCA,
        ),
        (
            "against name constraints",
            constrained.issue(&Leaf::dns("outside.test")),
            AlertDescription::CertificateUnknown,
        ),
        ("signed by a leaf", right.clone().with_behind(&[&stranger]), AlertDescription::UnknownCA),
    ]
}

fn bad_chains(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &mutual_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&mutual_client(), proxy.listener("main"));
    let mut cases = wrong_ones();
    // A stranger's root behind a leaf that is right changes nothing.
    let (what, identity, _) = cases.pop().unwrap_or_else(|| unreachable!("the list has entries"));
    judge(&proxy, what, Some(&identity), Due::Served);
    let count = cases.len() as u64;
    for (what, identity, alert) in &cases {
        judge(&proxy, what, Some(identity), refused(*alert));
        neighbour.is_served();
    }
    proxy.wait_stat("listener.main.ssl.fail_verify_error", 2 * count);
    let inside = root().constrained("constrained", "inside.test").issue(&Leaf::dns("a.inside.test"));
    judge(&proxy, "within name constraints", Some(&inside), Due::Served);
    upstream.assert_strict();
}

fn chains_of_every_length(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &mutual_tls(), upstream.address());
    let mut neighbour = Neighbour::over_tls(&mutual_client(), proxy.listener("main"));
    let leaf = Leaf::spiffe("spiffe://test/ns/default/sa/deep");
    for levels in [1, 3, 6] {
        judge(&proxy, &format!("{levels} levels"), Some(&root().deep(levels).issue(&leaf)), Due::Served);
    }
    // Our search for a path ends after six intermediates, Envoy's after a hundred.
    let due = if subject.is_envoy() { Due::Served } else { refused(AlertDescription::UnknownCA) };
    judge(&proxy, "11 deep", Some(&root().deep(10).issue(&leaf)), due);
    // Thirty certificates that have nothing to do with the leaf.
    let others: Vec<Authority> = (0..30).map(|n| Authority::root(&format!("other {n}"))).collect();
    let stranger = Authority::root("stranger").issue(&leaf);
    let stuffed = stranger.with_behind(&others.iter().collect::<Vec<_>>());
    judge(&proxy, "stuffed", Some(&stuffed), refused(AlertDescription::UnknownCA));
    neighbour.is_served();
}

/// Contexts that differ in their names only, and what three clients get.
#[track_caller]
fn names(subject: &Subject, table: &[(&str, &[(&Identity, bool)])]) {
    let upstream = hello();
    for (matchers, clients) in table {
        let context = mutual_tls().validation(&format!("match_typed_subject_alt_names: [{matchers}]"));
        let proxy = terminate(subject, &context, upstream.address());
        let mut refusals = 0;
        for (identity, served) in *clients {
            let due = if *served { Due::Served } else { refused(AlertDescription::CertificateUnknown) };
            refusals += if *served { 0 } else { 2 };
            judge(&proxy, matchers, Some(identity), due);
        }
        proxy.wait_stat("listener.main.ssl.fail_verify_san", refusals);
    }
}

fn names_of_uri(subject: &Subject) {
    let right = client_identity();
    let other = root().issue(&Leaf::spiffe("spiffe://other/ns/default/sa/client"));
    let two = root().issue(&Leaf::spiffe("spiffe://other/a").uri("spiffe://test/b"));
    let nameless = root().issue(&Leaf::nameless().common_name("spiffe://test/ns/default/sa/client"));
    let dns = root().issue(&Leaf::dns("spiffe.test"));
    names(
        subject,
        &[
            (
                "{san_type: URI, matcher: {prefix: \"spiffe://test/\"}}",
                &[(right, true), (&other, false), (&two, true), (&nameless, false), (&dns, false)],
            ),
            (
                "{san_type: URI, matcher: {exact: \"spiffe://test/ns/default/sa/client\"}}",
                &[(right, true), (&other, false), (&two, false)],
            ),
            ("{san_type: URI, matcher: {suffix: \"/sa/client\"}}", &[(right, true), (&two, false)]),
            (
                "{san_type: URI, matcher: {safe_regex: {regex: \"spiffe://(test|else)/ns/.*/sa/cl[a-z]+\"}}}",
                &[(right, true), (&other, false)],
            ),
            (
                "{san_type: URI, matcher: {exact: \"no\"}}, {san_type: URI, matcher: {contains: \"default\"}}",
                &[(right, true), (&other, true), (&two, false)],
            ),
            (
                "{san_type: URI, matcher: {exact: \"SPIFFE://TEST/ns/default/sa/client\", ignore_case: true}}",
                &[(right, true), (&other, false)],
            ),
            ("{san_type: DNS, matcher: {prefix: \"spiffe\"}}", &[(right, false), (&dns, true)]),
        ],
    );
}

fn names_of_dns(subject: &Subject) {
    let plain = root().issue(&Leaf::dns("a.test"));
    let wild = root().issue(&Leaf::dns("*.a.test"));
    let common = root().issue(&Leaf::nameless().common_name("a.test"));
    names(
        subject,
        &[
            (
                "{san_type: DNS, matcher: {exact: \"a.test\"}}",
                &[(&plain, true), (&wild, false), (&common, false)],
            ),
            ("{san_type: DNS, matcher: {exact: \"b.a.test\"}}", &[(&plain, false), (&wild, true)]),
            ("{san_type: DNS, matcher: {exact: \"c.b.a.test\"}}", &[(&wild, false)]),
            ("{san_type: DNS, matcher: {suffix: \"a.test\"}}", &[(&plain, true), (&wild, true)]),
        ],
    );
}

fn names_of_ip_and_email(subject: &Subject) {
    let v4 = root().issue(&Leaf::nameless().ip("10.1.2.3"));
    let v6 = root().issue(&Leaf::nameless().ip("2001:db8::1"));
    let mail = root().issue(&Leaf::nameless().email("a@a.test"));
    names(
        subject,
        &[
            ("{san_type: IP_ADDRESS, matcher: {exact: \"10.1.2.3\"}}", &[(&v4, true), (&v6, false)]),
            ("{san_type: IP_ADDRESS, matcher: {exact: \"2001:db8::1\"}}", &[(&v4, false), (&v6, true)]),
            ("{san_type: IP_ADDRESS, matcher: {prefix: \"10.1.\"}}", &[(&v4, true), (&mail, false)]),
            ("{san_type: EMAIL, matcher: {exact: \"a@a.test\"}}", &[(&mail, true), (&v4, false)]),
        ],
    );
}

fn spiffe_trust_domains(subject: &Subject) {
    let upstream = hello();
    let second = Authority::root("second");
    let kind = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
    let domain =
        |name: &str, root: &Authority| format!("{{name: {name}, trust_bundle: {}}}", inline(root.pem()));
    let validator = format!(
        "custom_validator_config: {{name: envoy.tls.cert_validator.spiffe, typed_config: {{\"@type\": \
         type.googleapis.com/{kind}, trust_domains: [{}, {}]}}}}",
        domain("test", &root()),
        domain("second.test", &second)
    );
    let context = plain_tls().validation(&validator).required();
    let proxy = terminate(subject, &context, upstream.address());
    judge(&proxy, "right", Some(client_identity()), Due::Served);
    let spiffe = |authority: &Authority, uri: &str| authority.issue(&Leaf::spiffe(uri));
    judge(&proxy, "the second", Some(&spiffe(&second, "spiffe://second.test/a")), Due::Served);
    for (what, identity) in [
        ("a domain of the other root", spiffe(&root(), "spiffe://second.test/a")),
        ("an unknown domain", spiffe(&root(), "spiffe://third.test/a")),
        ("no URI", root().issue(&Leaf::dns("test"))),
        ("no SPIFFE", spiffe(&root(), "https://test/a")),
        ("two URIs", root().issue(&Leaf::spiffe("spiffe://test/a").uri("spiffe://test/b"))),
        ("common name only", root().issue(&Leaf::nameless().common_name("spiffe://test/a"))),
    ] {
        // X.509-SVID 5.2 wants more than one URI refused; Envoy looks at the first.
        if !(subject.is_envoy() && what == "two URIs") {
            // Ours says of a chain what is wrong with it.
            let chain = !subject.is_envoy() && what == "a domain of the other root";
            let alert =
                if chain { AlertDescription::UnknownCA } else { AlertDescription::CertificateUnknown };
            judge(&proxy, what, Some(&identity), refused(alert));
        }
    }
    judge(&proxy, "none", None, refused(AlertDescription::CertificateRequired));
}

fn revocation(subject: &Subject) {
    let upstream = hello();
    let revoked = root().issue(&Leaf::spiffe("spiffe://test/revoked"));
    let context = mutual_tls().validation(&format!("crl: {}", inline(&root().crl(&[&revoked]))));
    let proxy = terminate(subject, &context, upstream.address());
    judge(&proxy, "right", Some(client_identity()), Due::Served);
    judge(&proxy, "revoked", Some(&revoked), refused(AlertDescription::CertificateRevoked));
    proxy.wait_stat("listener.main.ssl.fail_verify_error", 2);
}

/// An intermediate without a list of its own fails unless only the leaf is looked up.
fn revocation_of_the_leaf_only(subject: &Subject) {
    let upstream: Upstream = hello();
    let intermediate = root().intermediate("i");
    let below = intermediate.issue(&Leaf::spiffe("spiffe://test/below"));
    let (upper, lower) = (root().crl(&[]), intermediate.crl(&[]));
    for (fields, due) in [
        (format!("crl: {}", inline(&upper)), refused(AlertDescription::UnknownCA)),
        (format!("crl: {}", inline(&(upper.clone() + &lower))), Due::Served),
        (format!("crl: {}, only_verify_leaf_cert_crl: true", inline(&lower)), Due::Served),
    ] {
        let proxy = terminate(subject, &mutual_tls().validation(&fields), upstream.address());
        judge(&proxy, &fields[fields.len() - 40..], Some(&below), due);
    }
}

fn pinned_hash_and_key(subject: &Subject) {
    let upstream = hello();
    let (right, other) = (client_identity(), root().issue(&Leaf::spiffe("spiffe://test/other")));
    let colons: Vec<String> =
        right.sha256_hex().as_bytes().chunks(2).map(|c| String::from_utf8_lossy(c).to_uppercase()).collect();
    let hash = format!("verify_certificate_hash: [\"{}\"]", right.sha256_hex());
    let spki = format!("verify_certificate_spki: [\"{}\"]", right.spki_base64());
    let either = format!(
        "verify_certificate_hash: [\"{}\"], verify_certificate_spki: [\"{}\"]",
        "00".repeat(32),
        right.spki_base64()
    );
    for fields in [hash, format!("verify_certificate_hash: [\"{}\"]", colons.join(":")), spki, either] {
        let proxy = terminate(subject, &mutual_tls().validation(&fields), upstream.address());
        judge(&proxy, &fields, Some(right), Due::Served);
        // rustls has no alert of its own for it.
        let alert = match subject.is_envoy() {
            true => AlertDescription::BadCertificateHashValue,
            false => AlertDescription::CertificateUnknown,
        };
        judge(&proxy, &fields, Some(&other), refused(alert));
        proxy.wait_stat("listener.main.ssl.fail_verify_cert_hash", 2);
    }
}

fn expired_allowed(subject: &Subject) {
    let upstream = hello();
    let context = mutual_tls().validation("allow_expired_certificate: true");
    let proxy = terminate(subject, &context, upstream.address());
    let expired = root().issue(&Leaf::spiffe("spiffe://test/old").expired());
    judge(&proxy, "expired", Some(&expired), Due::Served);
    let stranger = Authority::root("stranger").issue(&Leaf::spiffe("spiffe://test/x").expired());
    judge(&proxy, "of a stranger", Some(&stranger), refused(AlertDescription::UnknownCA));
}

/// `ACCEPT_UNTRUSTED` serves and does not call the certificate validated.
fn untrusted_allowed(subject: &Subject) {
    let upstream = hello();
    let context = mutual_tls().validation("trust_chain_verification: ACCEPT_UNTRUSTED");
    let proxy = terminate(subject, &context, upstream.address());
    let stranger = Authority::root("stranger").issue(&Leaf::spiffe("spiffe://test/x"));
    judge(&proxy, "of a stranger", Some(&stranger), Due::Served);
    judge(&proxy, "none", None, refused(AlertDescription::CertificateRequired));
}

fn two_roots_at_once(subject: &Subject) {
    let upstream = hello();
    let second = Authority::root("second");
    let bundle = root().pem().to_owned() + second.pem();
    let context: Context = plain_tls().trusts_pem(&bundle).required();
    let proxy = terminate(subject, &context, upstream.address());
    judge(&proxy, "old", Some(client_identity()), Due::Served);
    judge(&proxy, "new", Some(&second.issue(&Leaf::spiffe("spiffe://test/new"))), Due::Served);
}
