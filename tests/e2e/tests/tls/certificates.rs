//! Certificates of the proxy itself: what is refused when it is configured, and what `/certs` and dumps tell.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{self, Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::tls::context::inline;
use millrace_support::tls::{Algorithm, Client, Context, Identity, Leaf};
use serde_json::Value;

use crate::common::{hello, mutual_tls, plain_tls, proxy_identity, root, terminate};

pub(crate) const CASES: &[Case] = &[
    case!(from_files),
    case!(bad_pairs_are_refused),
    case!(bad_validation_is_refused),
    case!(an_expired_certificate_of_our_own_is_shown),
    case!(certs_lists_every_certificate),
    case!(days_until_expiry),
    case!(dumps_keep_keys_to_themselves),
];

fn from_files(subject: &Subject) {
    let upstream = hello();
    let identity = proxy_identity();
    let directory = Directory::new();
    let file = |name: &str, text: &str| directory.write(name, text).display().to_string();
    let context = Context::new().common(&format!(
        "tls_certificates: [{{certificate_chain: {{filename: \"{}\"}}, private_key: {{filename: \"{}\"}}}}]",
        file("chain.pem", &identity.pem()),
        file("key.pem", identity.key_pem())
    ));
    let proxy = terminate(subject, &context, upstream.address());
    let link = Client::new().connect(proxy.listener("main"));
    assert!(link.facts.peer[0].as_slice() == &*identity.chain[0]);
    assert_eq!(link.raw().get("/").status, 200);
}

/// What a subject says to a bootstrap that it must refuse.
#[track_caller]
fn complaint(subject: &Subject, what: &str, context: &Context) -> String {
    let http = Http::to("up").chain(&context.downstream());
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[], "");
    let directory = Directory::new();
    let config = directory.write("bootstrap.yaml", &bootstrap.yaml());
    let mut command = subject.command();
    command.arg("--mode").arg("validate").arg("-c").arg(config);
    let finished = process::run(command);
    assert_ne!(finished.code, Some(0), "{what} was accepted: {}", finished.stderr);
    let all = finished.stdout + &finished.stderr;
    // Envoy quotes the whole message, key included, when it breaks a rule of the protobuf.
    assert!(subject.is_envoy() || !all.contains("PRIVATE KEY"), "{all}");
    all
}

fn pair(chain: &str, key: &str) -> Context {
    Context::new().common(&format!(
        "tls_certificates: [{{certificate_chain: {}, private_key: {}}}]",
        inline(chain),
        inline(key)
    ))
}

fn bad_pairs_are_refused(subject: &Subject) {
    let right = proxy_identity();
    let other: Identity = root().issue(&Leaf::dns("other.test"));
    let rsa = root().issue(&Leaf::dns("other.test").algorithm(Algorithm::Rsa2048));
    let (pem, key) = (right.pem(), right.key_pem());
    let half = &pem[..pem.len() / 2];
    for (what, context) in [
        ("another key", pair(&pem, other.key_pem())),
        ("a key of another kind", pair(&pem, rsa.key_pem())),
        ("half a certificate", pair(half, key)),
        ("half a key", pair(&pem, &key[..key.len() / 2])),
        ("no certificate", pair("", key)),
        ("words", pair("no certificate", "no key")),
        ("a certificate as key", pair(&pem, &pem)),
        ("damaged base64", pair(&pem.replacen("MII", "M!I", 1), key)),
    ] {
        assert!(!complaint(subject, what, &context).is_empty(), "{what}");
    }
}

fn bad_validation_is_refused(subject: &Subject) {
    let names = "match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]";
    for (what, context) in [
        ("words as CA", plain_tls().trusts_pem("no certificate")),
        ("words as CRL", mutual_tls().validation(&format!("crl: {}", inline("no list")))),
        ("a short hash", mutual_tls().validation("verify_certificate_hash: [\"00ff\"]")),
        ("a short key hash", mutual_tls().validation("verify_certificate_spki: [\"AAAA\"]")),
        ("names without a CA", plain_tls().validation(names)),
    ] {
        // Envoy reads no list out of such words and goes on without one.
        if !(subject.is_envoy() && what == "words as CRL") {
            assert!(!complaint(subject, what, &context).is_empty(), "{what}");
        }
    }
}

/// It is for clients to judge; Envoy only says so in its statistics.
fn an_expired_certificate_of_our_own_is_shown(subject: &Subject) {
    let upstream = hello();
    let expired = root().issue(&Leaf::dns("proxy.test").expired());
    let proxy = terminate(subject, &Context::new().certificate(&expired), upstream.address());
    let link = Client::new().connect(proxy.listener("main"));
    assert!(link.facts.peer[0].as_slice() == &*expired.chain[0]);
    assert_eq!(link.raw().get("/").status, 200);
    proxy.wait_stat("server.days_until_first_cert_expiring", 0);
}

fn certs(proxy: &Proxy) -> Vec<Value> {
    let body = proxy.admin_get("/certs").body;
    let tree: Value = serde_json::from_slice(&body).expect("JSON");
    tree["certificates"].as_array().cloned().unwrap_or_default()
}

fn certs_lists_every_certificate(subject: &Subject) {
    let upstream = hello();
    let identity =
        root().issue(&Leaf::dns("a.test").dns_name("*.b.test").uri("spiffe://test/a").ip("10.0.0.1"));
    let context = Context::new().certificate(&identity).trusts(&root());
    let proxy = terminate(subject, &context, upstream.address());
    let all = certs(&proxy);
    let with_chain: Vec<&Value> =
        all.iter().filter(|c| c["cert_chain"].as_array().is_some_and(|l| !l.is_empty())).collect();
    assert_eq!(with_chain.len(), 1, "{all:#?}");
    let leaf = &with_chain[0]["cert_chain"][0];
    assert_eq!(leaf["path"], "<inline>");
    assert_eq!(leaf["serial_number"].as_str(), Some(&*identity.serial_hex()));
    let names: Vec<String> = leaf["subject_alt_names"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|n| n.as_object().into_iter().flatten())
        .map(|(kind, name)| format!("{kind}={}", name.as_str().unwrap_or_default()))
        .collect();
    for name in ["dns=a.test", "dns=*.b.test", "uri=spiffe://test/a", "ip_address=10.0.0.1"] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    assert_eq!(leaf["valid_from"], "2020-01-01T00:00:00Z");
    assert_eq!(leaf["expiration_time"], "2090-01-01T00:00:00Z");
    let days: u64 = leaf["days_until_expiration"].as_str().and_then(|d| d.parse().ok()).unwrap_or(0);
    assert!((10_000..30_000).contains(&days), "{leaf}");
    let authorities: Vec<&Value> = all.iter().flat_map(|c| c["ca_cert"].as_array()).flatten().collect();
    assert_eq!(authorities.len(), 1, "{all:#?}");
    assert_eq!(authorities[0]["expiration_time"], "2090-01-01T00:00:00Z");
}

fn days_until_expiry(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &plain_tls(), upstream.address());
    let days = proxy.stat("server.days_until_first_cert_expiring").unwrap_or(0);
    assert!((10_000..30_000).contains(&days), "{days}");
}

fn dumps_keep_keys_to_themselves(subject: &Subject) {
    let upstream = hello();
    let proxy = terminate(subject, &mutual_tls(), upstream.address());
    let secret: String = proxy_identity().key_pem().lines().nth(1).unwrap_or_default().into();
    for path in ["/config_dump", "/config_dump?include_eds", "/certs", "/listeners?format=json"] {
        let text = proxy.admin_get(path).text();
        assert!(!text.contains(&secret) && !text.contains("PRIVATE KEY"), "{path}");
    }
    let text = proxy.admin_get("/config_dump").text();
    // Bytes are dumped in Base64, strings as they are.
    assert!(text.contains("[redacted]") || text.contains("W3JlZGFjdGVkXQ=="), "{text}");
    let said = proxy.stderr() + &proxy.stdout();
    assert!(!said.contains(&secret) && !said.contains("PRIVATE KEY"), "{said}");
}
