//! `cipher_suites` in BoringSSL's language: names, groups of equal preference, and rules that add, move and remove.

use millrace_config::CipherSuite;

/// OpenSSL's name, the standard's, the suite, and what aliases stand for it.
const OURS: &[(&str, &str, CipherSuite, &str)] = &[
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::EcdheEcdsaAes128Gcm,
        "aECDSA ECDSA AES128 AES AESGCM",
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::EcdheRsaAes128Gcm,
        "aRSA RSA AES128 AES AESGCM",
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::EcdheEcdsaAes256Gcm,
        "aECDSA ECDSA AES256 AES AESGCM",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::EcdheRsaAes256Gcm,
        "aRSA RSA AES256 AES AESGCM",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdheEcdsaChacha20,
        "aECDSA ECDSA CHACHA20",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdheRsaChacha20,
        "aRSA RSA CHACHA20",
    ),
];

/// What BoringSSL has and this build has not: CBC, key exchange by RSA, pre-shared keys.
const FOREIGN: &[&str] = &[
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Aliases of suites that all of ours belong to, and of suites that none of them belongs to.
const ALL_OF_OURS: &[&str] = &["ALL", "DEFAULT", "HIGH", "FIPS", "kECDHE", "ECDHE", "ECDH", "TLSv1.2"];
const NONE_OF_OURS: &[&str] = &["kRSA", "kPSK", "aPSK", "PSK", "SHA", "SHA1", "SSLv3", "TLSv1"];
const OTHERS: &[&str] = &["aECDSA", "ECDSA", "aRSA", "RSA", "AES128", "AES256", "AES", "AESGCM", "CHACHA20"];

/// What a list asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Suites {
    /// Of those that this build has, in order of preference.
    pub ours: Vec<CipherSuite>,
    /// Names that BoringSSL knows and this build does not have.
    pub lacking: Vec<String>,
    /// Names that nobody knows.
    pub unknown: Vec<String>,
}

/// Entries are joined by colons before they are read, as in Envoy.
pub(super) fn parse(entries: &[String]) -> Suites {
    let mut out = Suites::default();
    let mut killed = Vec::new();
    let text = entries.join(":");
    for rule in text.split([':', ' ', ';', ',', '[', ']', '|']).filter(|rule| !rule.is_empty()) {
        let (operator, name) = match rule.split_at_checked(1) {
            Some((operator @ ("-" | "!" | "+"), name)) => (operator, name),
            _ => ("", rule),
        };
        if name == "@STRENGTH" {
            continue;
        }
        let Some(mut named) = suites_of(name) else {
            match FOREIGN.contains(&name) {
                true if operator.is_empty() => out.lacking.push(name.to_owned()),
                true => {}
                false => out.unknown.push(name.to_owned()),
            }
            continue;
        };
        match operator {
            "-" => out.ours.retain(|suite| !named.contains(suite)),
            "!" => {
                out.ours.retain(|suite| !named.contains(suite));
                killed.append(&mut named);
            }
            "+" => {
                named.retain(|suite| out.ours.contains(suite));
                out.ours.retain(|suite| !named.contains(suite));
                out.ours.append(&mut named);
            }
            _ => {
                named.retain(|suite| !out.ours.contains(suite) && !killed.contains(suite));
                out.ours.append(&mut named);
            }
        }
    }
    out
}

/// Those of ours that a name or an alias stands for, several aliases joined by `+` for what they have in common;
/// `None` for a name that is neither.
fn suites_of(name: &str) -> Option<Vec<CipherSuite>> {
    if let Some((.., suite, _)) = OURS.iter().find(|(open, standard, ..)| [open, standard].contains(&&name)) {
        return Some(vec![*suite]);
    }
    let is_alias = |part: &str| [ALL_OF_OURS, NONE_OF_OURS, OTHERS].iter().any(|known| known.contains(&part));
    if !name.split('+').all(is_alias) {
        return None;
    }
    let fits = |aliases: &str, part: &str| {
        ALL_OF_OURS.contains(&part) || aliases.split(' ').any(|alias| alias == part)
    };
    let all = OURS.iter().filter(|(.., aliases)| name.split('+').all(|part| fits(aliases, part)));
    Some(all.map(|(.., suite, _)| *suite).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use CipherSuite::{EcdheEcdsaAes128Gcm as E128, EcdheEcdsaChacha20 as EC, EcdheRsaAes128Gcm as R128};

    fn of(entries: &[&str]) -> Suites {
        parse(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn lists_are_read_as_boringssl_reads_them() {
        let found = of(&["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", "AES128-SHA"]);
        assert_eq!((found.ours, found.lacking), (vec![E128, EC], vec!["AES128-SHA".to_owned()]));
        let found = of(&["ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "FOO"]);
        assert_eq!((found.ours, found.unknown), (vec![R128, E128], vec!["FOO".to_owned()]));
        assert_eq!(of(&["ALL", "!ECDHE-RSA-AES128-GCM-SHA256", "ECDHE"]).ours.len(), 5);
        assert_eq!(of(&["ECDHE+AESGCM+aRSA", "-AES256"]).ours, [R128]);
        assert_eq!(of(&["AES128", "+ECDHE-ECDSA-AES128-GCM-SHA256"]).ours, [R128, E128]);
        assert_eq!(of(&["kRSA", ""]), Suites::default());
    }
}
