//! The vectors of x509-limbo through the verifier. `limbo.tsv` has one line per case: our verdict, what the corpus
//! expects, what Envoy 1.40 did when a server showed it the chain (`-` where that cannot be measured: another time,
//! or a client's chain), and the reason where ours is not the corpus's. `MILLRACE_BLESS=1` rewrites our verdicts.
//!
//! The corpus asks for the web's profile (key identifiers, an EKU in every leaf, no names in CN), of which BoringSSL
//! and so Envoy hold little; a mesh's certificates would fail it. What is refused here is what Envoy refuses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use millrace_config::ValidationContext;
use millrace_tls::certificate::{parse_bundle, parse_chain, parse_crls};
use millrace_tls::verify::{PeerRole, TrustCache, Verifier, VerifierOptions};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use crate::corpus::corpus;

/// Cases of the corpus, how many agree with it, and how many with it or with Envoy.
const CASES: usize = 194;
const AGREEMENTS: usize = 134;
const EXPLAINED_BY_ENVOY: usize = 185;
/// Cases without a time are valid at any time of ours.
const ANY_TIME: i64 = 1_704_067_200;

#[test]
fn x509_limbo_agrees_but_for_the_deviations_that_are_explained() {
    let Some(folder) = corpus("tls-x509-limbo") else { return };
    let text = std::fs::read_to_string(folder.join("limbo-194.json")).expect("text");
    let limbo: Value = serde_json::from_str(&text).expect("JSON");
    let cases = limbo["testcases"].as_array().expect("cases");
    assert_eq!(cases.len(), CASES, "the corpus is whole");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/limbo.tsv");
    let table = std::fs::read_to_string(&path).unwrap_or_default();
    let rows: BTreeMap<&str, Vec<&str>> =
        table.lines().map(|line| line.split('\t').collect::<Vec<_>>()).map(|row| (row[0], row)).collect();
    let (mut wrong, mut blessed, mut agreements, mut with_envoy) = (String::new(), String::new(), 0, 0);
    for case in cases {
        let id = case["id"].as_str().expect("an id");
        let (accepted, verdict) = match verdict(case) {
            Ok(()) => ("accept", "accepted".to_owned()),
            Err(error) => ("reject", error),
        };
        let wanted = if case["expected_result"] == "SUCCESS" { "accept" } else { "reject" };
        let row = rows.get(id).cloned().unwrap_or_default();
        let column = |at: usize| row.get(at).copied().unwrap_or_default();
        let (envoy, reason) = (column(3), column(4));
        let agrees = accepted == wanted;
        agreements += usize::from(agrees);
        with_envoy += usize::from(agrees || accepted == envoy);
        let line = format!("{id}\t{verdict}\t{wanted}\t{envoy}\t{reason}");
        let _ = writeln!(blessed, "{line}");
        if row.join("\t") != line || agrees != reason.is_empty() {
            let _ = writeln!(wrong, "now      {line}\nexpected {}", row.join("\t"));
        }
    }
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&path, blessed).expect("the table can be written");
    } else {
        assert!(wrong.is_empty(), "verdicts changed (MILLRACE_BLESS=1 rewrites the table)\n{wrong}");
    }
    println!("{agreements} of {CASES} agree with the corpus, {with_envoy} with the corpus or with Envoy");
    assert!(
        agreements >= AGREEMENTS && with_envoy >= EXPLAINED_BY_ENVOY,
        "{agreements} and {with_envoy} agree"
    );
}

fn verdict(case: &Value) -> Result<(), String> {
    let pem = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
    let all = |value: &Value| value.as_array().into_iter().flatten().flat_map(pem).collect::<Vec<u8>>();
    let crls = parse_crls(&all(&case["crls"])).map_err(|error| format!("{error:?}"))?;
    let bundle = parse_bundle(&all(&case["trusted_certs"])).map_err(|error| format!("{error:?}"))?;
    let context = ValidationContext {
        trusted_ca: Some(bundle),
        crls,
        max_verify_depth: case["max_chain_depth"].as_u64().map(|intermediates| intermediates as u32 + 1),
        ..ValidationContext::default()
    };
    let client = case["validation_kind"] == "CLIENT";
    let options = VerifierOptions {
        role: if client { PeerRole::Client } else { PeerRole::Server },
        required: true,
        algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
    };
    let verifier = Verifier::new(Some(&context), options, &TrustCache::default())
        .map_err(|error| format!("{error:?}"))?;
    let mut chain = pem(&case["peer_certificate"]);
    chain.extend(all(&case["untrusted_intermediates"]));
    let chain = parse_chain(&chain).map_err(|error| format!("{error:?}"))?;
    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    let time = case["validation_time"].as_str().map_or(ANY_TIME, seconds);
    verifier.verify(&chain, time, None).map_err(|error| format!("{error:?}"))?;
    check_peer_name(case, chain[0])
}

/// In production names are matched only where configuration gives matchers; the vectors ask for webpki's rules.
fn check_peer_name(case: &Value, leaf: &[u8]) -> Result<(), String> {
    let Some(name) = case["expected_peer_name"]["value"].as_str() else { return Ok(()) };
    let leaf = CertificateDer::from(leaf);
    let leaf = webpki::EndEntityCert::try_from(&leaf).map_err(|error| format!("{error:?}"))?;
    let name = ServerName::try_from(name).map_err(|_| "the name is no name".to_owned())?;
    leaf.verify_is_valid_for_subject_name(&name).map_err(|_| "other name".to_owned())
}

/// `YYYY-MM-DDTHH:MM:SS+00:00` as seconds since 1970.
fn seconds(text: &str) -> i64 {
    let mut numbers = text.split(['-', 'T', ':', '+', '.', 'Z']).map_while(|part| part.parse::<i64>().ok());
    let mut next = || numbers.next().expect("a number");
    let (year, month, day, hour, minute, second) = (next(), next(), next(), next(), next(), next());
    // Days of the civil calendar, with years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + (months * 153 + 2) / 5 + day
        - 1
        - 719_468;
    days * 86_400 + hour * 3_600 + minute * 60 + second
}

#[test]
fn times_are_read() {
    assert_eq!(seconds("1970-01-01T00:00:00+00:00"), 0);
    assert_eq!(seconds("2024-01-01T00:00:00+00:00"), ANY_TIME);
    assert_eq!(seconds("2016-02-29T12:34:56Z"), 1_456_749_296);
}
