//! `listener.<address>.ssl.` and `cluster.<name>.ssl.`: TLS of one listener or cluster. What Envoy names by the handshake
//! (ciphers, curves and so on) is a row for each that this build has, so that counting is an index into an array.

use millrace_base::TlsFacts;

use super::metrics;
use crate::stats::Counter;

metrics! {
    values {
        CIPHERS_ECDHE_ECDSA_AES128_GCM_SHA256 = counter "ciphers.ECDHE-ECDSA-AES128-GCM-SHA256" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_ECDHE_ECDSA_AES256_GCM_SHA384 = counter "ciphers.ECDHE-ECDSA-AES256-GCM-SHA384" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_ECDHE_ECDSA_CHACHA20_POLY1305 = counter "ciphers.ECDHE-ECDSA-CHACHA20-POLY1305" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_ECDHE_RSA_AES128_GCM_SHA256 = counter "ciphers.ECDHE-RSA-AES128-GCM-SHA256" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_ECDHE_RSA_AES256_GCM_SHA384 = counter "ciphers.ECDHE-RSA-AES256-GCM-SHA384" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_ECDHE_RSA_CHACHA20_POLY1305 = counter "ciphers.ECDHE-RSA-CHACHA20-POLY1305" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_TLS_AES_128_GCM_SHA256 = counter "ciphers.TLS_AES_128_GCM_SHA256" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_TLS_AES_256_GCM_SHA384 = counter "ciphers.TLS_AES_256_GCM_SHA384" in OnUse, "Handshakes that agreed on this cipher suite.";
        CIPHERS_TLS_CHACHA20_POLY1305_SHA256 = counter "ciphers.TLS_CHACHA20_POLY1305_SHA256" in OnUse, "Handshakes that agreed on this cipher suite.";
        CONNECTION_ERROR = counter "connection_error", "Connections that ended with an error of TLS.";
        CURVES_P_256 = counter "curves.P-256" in OnUse, "Handshakes that agreed on this key exchange.";
        CURVES_P_384 = counter "curves.P-384" in OnUse, "Handshakes that agreed on this key exchange.";
        CURVES_P_521 = counter "curves.P-521" in OnUse, "Handshakes that agreed on this key exchange.";
        CURVES_X25519 = counter "curves.X25519" in OnUse, "Handshakes that agreed on this key exchange.";
        CURVES_X25519MLKEM768 = counter "curves.X25519MLKEM768" in OnUse, "Handshakes that agreed on this key exchange.";
        FAIL_VERIFY_CERT_HASH = counter "fail_verify_cert_hash", "Peers refused for the hash of their certificate or of its key.";
        FAIL_VERIFY_ERROR = counter "fail_verify_error", "Peers refused for their certificate chain.";
        FAIL_VERIFY_NO_CERT = counter "fail_verify_no_cert", "Peers refused for showing no certificate.";
        FAIL_VERIFY_SAN = counter "fail_verify_san", "Peers refused for the names of their certificate.";
        HANDSHAKE = counter "handshake", "Handshakes that were completed.";
        NO_CERTIFICATE = counter "no_certificate", "Handshakes completed without a certificate of the peer.";
        OCSP_STAPLE_FAILED = counter "ocsp_staple_failed", "Handshakes refused for want of an OCSP response.";
        OCSP_STAPLE_OMITTED = counter "ocsp_staple_omitted", "Handshakes that left the OCSP response out.";
        OCSP_STAPLE_REQUESTS = counter "ocsp_staple_requests", "Handshakes whose client asked for an OCSP response.";
        OCSP_STAPLE_RESPONSES = counter "ocsp_staple_responses", "OCSP responses sent.";
        SESSION_REUSED = counter "session_reused", "Handshakes that resumed a session.";
        SIGALGS_ECDSA_SECP256R1_SHA256 = counter "sigalgs.ecdsa_secp256r1_sha256" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_ECDSA_SECP384R1_SHA384 = counter "sigalgs.ecdsa_secp384r1_sha384" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_ECDSA_SECP521R1_SHA512 = counter "sigalgs.ecdsa_secp521r1_sha512" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_ED25519 = counter "sigalgs.ed25519" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_RSA_PKCS1_SHA256 = counter "sigalgs.rsa_pkcs1_sha256" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_RSA_PKCS1_SHA384 = counter "sigalgs.rsa_pkcs1_sha384" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_RSA_PKCS1_SHA512 = counter "sigalgs.rsa_pkcs1_sha512" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_RSA_PSS_RSAE_SHA256 = counter "sigalgs.rsa_pss_rsae_sha256" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_RSA_PSS_RSAE_SHA384 = counter "sigalgs.rsa_pss_rsae_sha384" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        SIGALGS_RSA_PSS_RSAE_SHA512 = counter "sigalgs.rsa_pss_rsae_sha512" in OnUse, "Handshakes in which the peer signed with this algorithm.";
        VERSIONS_TLSV1_2 = counter "versions.TLSv1.2" in OnUse, "Handshakes that agreed on this version.";
        VERSIONS_TLSV1_3 = counter "versions.TLSv1.3" in OnUse, "Handshakes that agreed on this version.";
        WAS_KEY_USAGE_INVALID = counter "was_key_usage_invalid" in OnUse, "Peers whose RSA certificate is not for what it was used for.";
    }
    histograms {
    }
}

/// Everything that a completed handshake counts.
pub fn handshake(facts: &TlsFacts) -> impl Iterator<Item = Counter> {
    let named = [("ciphers.", facts.cipher), ("curves.", facts.curve), ("versions.", facts.version)];
    let reused = facts.resumed.then_some(SESSION_REUSED);
    let bare = facts.peer.is_none().then_some(NO_CERTIFICATE);
    let named = named.into_iter().filter_map(|(prefix, name)| row(prefix, name));
    let signed = signature_algorithm(facts.peer_signature_scheme);
    std::iter::once(HANDSHAKE).chain(reused).chain(bare).chain(named).chain(signed)
}

/// `sigalgs.<name>`, by IANA's number of the algorithm (RFC 8446 4.2.3).
pub fn signature_algorithm(scheme: u16) -> Option<Counter> {
    Some(match scheme {
        0x0401 => SIGALGS_RSA_PKCS1_SHA256,
        0x0501 => SIGALGS_RSA_PKCS1_SHA384,
        0x0601 => SIGALGS_RSA_PKCS1_SHA512,
        0x0403 => SIGALGS_ECDSA_SECP256R1_SHA256,
        0x0503 => SIGALGS_ECDSA_SECP384R1_SHA384,
        0x0603 => SIGALGS_ECDSA_SECP521R1_SHA512,
        0x0804 => SIGALGS_RSA_PSS_RSAE_SHA256,
        0x0805 => SIGALGS_RSA_PSS_RSAE_SHA384,
        0x0806 => SIGALGS_RSA_PSS_RSAE_SHA512,
        0x0807 => SIGALGS_ED25519,
        _ => return None,
    })
}

/// The row of a name that the handshake told; once for each handshake, so a search does.
fn row(prefix: &str, name: &str) -> Option<Counter> {
    let at = VALUES.iter().position(|row| row.name.strip_prefix(prefix) == Some(name))?;
    Some(Counter(at as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(facts: &TlsFacts) -> Vec<&'static str> {
        handshake(facts).map(|counter| VALUES[usize::from(counter.0)].name).collect()
    }

    #[test]
    fn a_handshake_counts_what_it_agreed_upon() {
        let facts = TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            curve: "X25519MLKEM768",
            resumed: true,
            ..TlsFacts::default()
        };
        let expected = [
            "handshake",
            "session_reused",
            "no_certificate",
            "ciphers.TLS_AES_256_GCM_SHA384",
            "curves.X25519MLKEM768",
            "versions.TLSv1.3",
        ];
        assert_eq!(names(&facts), expected);
        let mutual = TlsFacts {
            version: "TLSv1.2",
            cipher: "ECDHE-RSA-CHACHA20-POLY1305",
            curve: "a curve of tomorrow",
            peer: Some(Default::default()),
            ..TlsFacts::default()
        };
        assert_eq!(names(&mutual), ["handshake", "ciphers.ECDHE-RSA-CHACHA20-POLY1305", "versions.TLSv1.2"]);
    }

    #[test]
    fn every_algorithm_has_a_row_of_its_own() {
        let rows: Vec<_> = (0..=u16::MAX).filter_map(signature_algorithm).collect();
        assert_eq!(rows.len(), VALUES.iter().filter(|row| row.name.starts_with("sigalgs.")).count());
        assert!(rows.iter().all(|at| VALUES[usize::from(at.0)].name.starts_with("sigalgs.")));
    }
}
