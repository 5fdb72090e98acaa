//! Operators that ask what a TLS handshake told: `%DOWNSTREAM_PEER_*%`, `%UPSTREAM_TLS_*%` and their kin.

use super::operator::Op;
use super::time::TimeFormat;

/// Whose connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TlsSide {
    Downstream,
    Upstream,
}

/// Subject alternative names of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SanType {
    Uri,
    Dns,
    Ip,
    Email,
    OtherName,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum TlsFact {
    Version,
    Cipher,
    SessionId,
    /// `TLS_GROUP`: the key exchange.
    Group,
    /// `UPSTREAM_SERVER_NAME`.
    ServerName,
    PeerSubject,
    PeerIssuer,
    PeerCert,
    PeerSan(SanType),
    PeerSerial,
    PeerFingerprint1,
    PeerFingerprint256,
    /// Of every certificate that the peer sent.
    PeerChainFingerprints1,
    PeerChainFingerprints256,
    PeerChainSerials,
    /// Of the certificate behind the leaf.
    PeerIssuerFingerprint256,
    PeerIssuerSerial,
    /// `PEER_CERT_V_START`; `None` is ISO 8601 with milliseconds.
    NotBefore(Option<TimeFormat>),
    /// `PEER_CERT_V_END`.
    NotAfter(Option<TimeFormat>),
    LocalSubject,
    LocalSan(SanType),
}

/// The operators without parameters.
pub(super) fn plain(name: &str) -> Option<Op> {
    if ["TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT"].contains(&name) {
        return Some(Op::Absent(name.into()));
    }
    let (side, rest) = sided(name)?;
    let fact = of_both(rest).or_else(|| match side {
        TlsSide::Downstream => of_downstream(rest),
        TlsSide::Upstream => (rest == "SERVER_NAME").then_some(TlsFact::ServerName),
    })?;
    Some(Op::Tls { side, fact })
}

/// `..._PEER_CERT_V_START` and `..._PEER_CERT_V_END`, which take a time format; the error is the format's.
pub(super) fn validity(name: &str, given: &str) -> Option<Result<Op, String>> {
    let (side, rest) = sided(name)?;
    let fact = match rest {
        "PEER_CERT_V_START" => TlsFact::NotBefore,
        "PEER_CERT_V_END" => TlsFact::NotAfter,
        _ => return None,
    };
    Some(match given {
        "" => Ok(Op::Tls { side, fact: fact(None) }),
        _ => TimeFormat::parse(given).map(|format| Op::Tls { side, fact: fact(Some(format)) }),
    })
}

fn sided(name: &str) -> Option<(TlsSide, &str)> {
    let downstream = name.strip_prefix("DOWNSTREAM_").map(|rest| (TlsSide::Downstream, rest));
    downstream.or_else(|| Some((TlsSide::Upstream, name.strip_prefix("UPSTREAM_")?)))
}

fn of_both(name: &str) -> Option<TlsFact> {
    Some(match name {
        "TLS_CIPHER" => TlsFact::Cipher,
        "TLS_VERSION" => TlsFact::Version,
        "TLS_SESSION_ID" => TlsFact::SessionId,
        "TLS_GROUP" => TlsFact::Group,
        "PEER_ISSUER" => TlsFact::PeerIssuer,
        "PEER_CERT" => TlsFact::PeerCert,
        "PEER_SUBJECT" => TlsFact::PeerSubject,
        "PEER_URI_SAN" => TlsFact::PeerSan(SanType::Uri),
        "PEER_DNS_SAN" => TlsFact::PeerSan(SanType::Dns),
        "PEER_IP_SAN" => TlsFact::PeerSan(SanType::Ip),
        "LOCAL_DNS_SAN" => TlsFact::LocalSan(SanType::Dns),
        "LOCAL_IP_SAN" => TlsFact::LocalSan(SanType::Ip),
        "LOCAL_URI_SAN" => TlsFact::LocalSan(SanType::Uri),
        _ => return None,
    })
}

fn of_downstream(name: &str) -> Option<TlsFact> {
    Some(match name {
        "LOCAL_SUBJECT" => TlsFact::LocalSubject,
        "LOCAL_EMAIL_SAN" => TlsFact::LocalSan(SanType::Email),
        "LOCAL_OTHERNAME_SAN" => TlsFact::LocalSan(SanType::OtherName),
        "PEER_EMAIL_SAN" => TlsFact::PeerSan(SanType::Email),
        "PEER_OTHERNAME_SAN" => TlsFact::PeerSan(SanType::OtherName),
        "PEER_FINGERPRINT_1" => TlsFact::PeerFingerprint1,
        "PEER_FINGERPRINT_256" => TlsFact::PeerFingerprint256,
        "PEER_SERIAL" => TlsFact::PeerSerial,
        "PEER_CHAIN_FINGERPRINTS_1" => TlsFact::PeerChainFingerprints1,
        "PEER_CHAIN_FINGERPRINTS_256" => TlsFact::PeerChainFingerprints256,
        "PEER_CHAIN_SERIALS" => TlsFact::PeerChainSerials,
        "PEER_ISSUER_FINGERPRINT_256" => TlsFact::PeerIssuerFingerprint256,
        "PEER_ISSUER_SERIAL" => TlsFact::PeerIssuerSerial,
        _ => return None,
    })
}
