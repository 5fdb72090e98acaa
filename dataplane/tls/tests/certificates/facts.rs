//! Facts of certificates against what Envoy 1.40 logged of the same ones: `envoy/<name>.pem` was shown to it as a client
//! certificate, `envoy/<name>.tsv` is its access log (the fields are those of [`line`], with `-` for empty).

use std::path::PathBuf;
use std::sync::Arc;

use millrace_tls::certificate::{local, parse_chain, peer};

fn fixture(name: &str) -> (Vec<Arc<[u8]>>, Vec<String>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/envoy");
    let pem = std::fs::read(folder.join(format!("{name}.pem"))).expect("a fixture");
    let log = std::fs::read_to_string(folder.join(format!("{name}.tsv"))).expect("a fixture");
    (parse_chain(&pem).expect("a chain"), log.trim_end().split('\t').map(str::to_owned).collect())
}

/// The fields of Envoy's log that come from the certificate, in its order; instead of times, which base does not
/// print, nothing.
fn line(chain: &[Arc<[u8]>]) -> Vec<String> {
    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    let facts = peer(&chain).expect("facts");
    let join = |names: &[Box<str>]| names.join(",");
    let serials: Vec<_> = facts.chain.iter().map(|(_, _, serial)| serial.clone()).collect();
    let fingerprints: Vec<_> = facts.chain.iter().map(|(sha256, _, _)| sha256.clone()).collect();
    let xfcc = format!(
        "Hash={};Cert=\"{}\";Chain=\"{}\";Subject=\"{}\"",
        facts.fingerprint_256,
        facts.pem_encoded,
        facts.chain_pem_encoded,
        facts.subject.replace('"', "\\\""),
    );
    let fields = [
        facts.subject.to_string(),
        facts.issuer.to_string(),
        facts.serial.to_string(),
        facts.fingerprint_1.to_string(),
        facts.fingerprint_256.to_string(),
        join(&facts.uri_sans),
        join(&facts.dns_sans),
        join(&facts.ip_sans),
        join(&facts.email_sans),
        join(&facts.othername_sans),
        serials.join(","),
        fingerprints.join(","),
        facts.pem_encoded.to_string(),
        xfcc,
    ];
    fields.map(|field| if field.is_empty() { "-".to_owned() } else { field }).into()
}

#[test]
fn facts_are_spelled_as_envoy_spells_them() {
    for name in ["odd", "multi", "chain", "neg"] {
        let (chain, mut log) = fixture(name);
        let ours = line(&chain);
        assert_eq!(log.len(), 18, "{name}");
        // An other name that holds a SEQUENCE is binary: Envoy prints it as it is, ours leaves it out.
        log[12] = log[12]
            .strip_suffix(",0\u{3}\u{2}\u{1}\u{5}")
            .map(str::to_owned)
            .unwrap_or_else(|| log[12].clone());
        let theirs: Vec<&String> = log[1..6].iter().chain(&log[8..16]).collect();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(&ours, theirs, "{name}");
        }
        // XFCC goes on with the names, which its own tests look at.
        let xfcc = &log[16];
        assert!(xfcc.starts_with(&ours[13]) || name == "odd", "{name}: {xfcc}\n{}", ours[13]);
    }
}

#[test]
fn our_own_certificate_tells_its_subject_and_names() {
    let (chain, _) = fixture("odd");
    let facts = local(&chain[0]).expect("facts");
    assert!(facts.subject.starts_with("CN=end\\ ,name=name,"));
    assert_eq!(facts.uri_sans, ["spiffe://td/a".into()]);
    assert_eq!(facts.dns_sans, ["a.example".into(), "*.b.example".into()]);
    assert_eq!(facts.ip_sans.len(), 3);
    assert_eq!(facts.email_sans, ["e@x".into()]);
}
