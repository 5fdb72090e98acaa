//! The vectors of x509-limbo through the verifier, by every profile. `limbo.tsv` has one line per case: our verdicts
//! (`mesh`, `rfc5280`, `webpki`), what the corpus expects, what Envoy 1.40 did when a server showed it the chain (`-`
//! where that cannot be measured: another time, or a client's chain), and the reason where the case's own profile does
//! not agree with the corpus. `MILLRACE_BLESS=1` rewrites our verdicts.
//!
//! A case's own profile is `webpki` for those whose name begins so, and `rfc5280` for the others: the corpus has the
//! same certificates under both names with opposite expectations, since the two profiles contradict each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use millrace_config::ValidationContext;
use millrace_tls::certificate::{parse_bundle, parse_chain, parse_crls};
use millrace_tls::verify::{CertificateRules, PeerRole, TrustCache, Verifier, VerifierOptions};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use crate::corpus::corpus;

const CASES: usize = 194;
/// Cases that agree with the corpus by their own profile.
const AGREEMENTS: usize = 191;
/// The same by each profile alone.
const BY_PROFILE: [usize; 3] = [153, 167, 188];
/// By the default profile: with the corpus or with Envoy.
const MESH_OR_ENVOY: usize = 194;
/// Cases without a time are valid at any time of ours.
const ANY_TIME: i64 = 1_704_067_200;

/// Agreements so far.
#[derive(Default)]
struct Tally {
    own: usize,
    by_profile: [usize; 3],
    mesh_or_envoy: usize,
}

impl Tally {
    /// Counts one case, and says whether its own profile agrees.
    fn count(&mut self, id: &str, accepted: [bool; 3], wanted: &str, envoy: &str) -> bool {
        let word = |accepted: bool| if accepted { "accept" } else { "reject" };
        for (count, accepted) in self.by_profile.iter_mut().zip(accepted) {
            *count += usize::from(word(accepted) == wanted);
        }
        self.mesh_or_envoy += usize::from(word(accepted[0]) == wanted || word(accepted[0]) == envoy);
        let own = accepted[if id.starts_with("webpki::") { 2 } else { 1 }];
        self.own += usize::from(word(own) == wanted);
        word(own) == wanted
    }
}

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
    let (mut wrong, mut blessed, mut tally) = (String::new(), String::new(), Tally::default());
    for case in cases {
        let id = case["id"].as_str().expect("an id");
        let verdicts = CertificateRules::ALL.map(|rules| verdict(case, rules));
        let accepted = [0, 1, 2].map(|at: usize| verdicts[at].is_ok());
        let wanted = if case["expected_result"] == "SUCCESS" { "accept" } else { "reject" };
        let row = rows.get(id).cloned().unwrap_or_default();
        let column = |at: usize| row.get(at).copied().unwrap_or_default();
        let (envoy, reason) = (column(5), column(6));
        let agrees = tally.count(id, accepted, wanted, envoy);
        let [mesh, rfc5280, webpki] = verdicts.map(|verdict| verdict.err().unwrap_or("accepted".to_owned()));
        let line = format!("{id}\t{mesh}\t{rfc5280}\t{webpki}\t{wanted}\t{envoy}\t{reason}");
        let _ = writeln!(blessed, "{line}");
        if row.join("\t") != line || agrees != reason.is_empty() {
            let _ = writeln!(wrong, "now      {line}\nexpected {}", row.join("\t"));
        }
    }
    let Tally { own, by_profile, mesh_or_envoy } = tally;
    println!("{own} of {CASES} agree by their own profile; {by_profile:?} by mesh, rfc5280 and webpki alone");
    println!("{mesh_or_envoy} by mesh with the corpus or with Envoy");
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&path, blessed).expect("the table can be written");
    } else {
        assert!(wrong.is_empty(), "verdicts changed (MILLRACE_BLESS=1 rewrites the table)\n{wrong}");
    }
    assert!(own >= AGREEMENTS && mesh_or_envoy >= MESH_OR_ENVOY, "{own} and {mesh_or_envoy} agree");
    assert!(by_profile.iter().zip(BY_PROFILE).all(|(now, least)| *now >= least), "{by_profile:?} agree");
}

fn verdict(case: &Value, rules: CertificateRules) -> Result<(), String> {
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
        rules,
        algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
        schemes: None,
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
