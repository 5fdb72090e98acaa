//! What a TLS handshake told, as operators print it.

use millrace_base::{LocalCertificate, PeerCertificate};
use millrace_config::format::{SanType, TimeFormat, TlsFact, TlsSide};

use super::calendar;
use super::value::{Value, optional};
use crate::access_log::StreamInfo;

/// One of the operators of `millrace_config::format::TlsFact`; missing without TLS, without a certificate and where
/// the value is empty.
pub(super) fn render(side: TlsSide, fact: &TlsFact, info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    let tls = match side {
        TlsSide::Downstream => info.downstream_tls,
        TlsSide::Upstream => info.upstream_tls,
    };
    let Some(tls) = tls else { return Value::Missing };
    let of_connection: Option<&str> = match fact {
        TlsFact::Version => Some(tls.version),
        TlsFact::Cipher => Some(tls.cipher),
        TlsFact::SessionId => Some(&tls.session_id),
        TlsFact::Group => Some(tls.curve),
        TlsFact::ServerName => Some(&tls.server_name),
        TlsFact::LocalSubject => tls.local.as_deref().map(|local| &*local.subject),
        _ => None,
    };
    if of_connection.is_some() {
        return optional(of_connection.filter(|value| !value.is_empty()), out);
    }
    match (fact, tls.local.as_deref(), tls.peer.as_deref()) {
        (TlsFact::LocalSan(kind), Some(local), _) => joined(local_sans(local, *kind), out),
        (TlsFact::LocalSan(_) | TlsFact::LocalSubject, ..) | (_, _, None) => Value::Missing,
        (fact, _, Some(peer)) => of_peer(fact, peer, out),
    }
}

fn of_peer(fact: &TlsFact, peer: &PeerCertificate, out: &mut Vec<u8>) -> Value {
    let issuer = peer.chain.get(1);
    let value: Option<&str> = match fact {
        TlsFact::PeerSubject => Some(&peer.subject),
        TlsFact::PeerIssuer => Some(&peer.issuer),
        TlsFact::PeerCert => Some(&peer.pem_encoded),
        TlsFact::PeerSerial => Some(&peer.serial),
        TlsFact::PeerFingerprint1 => Some(&peer.fingerprint_1),
        TlsFact::PeerFingerprint256 => Some(&peer.fingerprint_256),
        TlsFact::PeerIssuerFingerprint256 => issuer.map(|issuer| &*issuer.0),
        TlsFact::PeerIssuerSerial => issuer.map(|issuer| &*issuer.2),
        TlsFact::PeerSan(kind) => return joined(peer_sans(peer, *kind), out),
        TlsFact::PeerChainFingerprints256 => return joined(peer.chain.iter().map(|c| &c.0), out),
        TlsFact::PeerChainFingerprints1 => return joined(peer.chain.iter().map(|c| &c.1), out),
        TlsFact::PeerChainSerials => return joined(peer.chain.iter().map(|c| &c.2), out),
        TlsFact::NotBefore(format) => return moment(peer.not_before, format.as_ref(), out),
        TlsFact::NotAfter(format) => return moment(peer.not_after, format.as_ref(), out),
        _ => None,
    };
    optional(value.filter(|value| !value.is_empty()), out)
}

fn peer_sans(peer: &PeerCertificate, kind: SanType) -> &[Box<str>] {
    match kind {
        SanType::Uri => &peer.uri_sans,
        SanType::Dns => &peer.dns_sans,
        SanType::Ip => &peer.ip_sans,
        SanType::Email => &peer.email_sans,
        SanType::OtherName => &peer.othername_sans,
    }
}

fn local_sans(local: &LocalCertificate, kind: SanType) -> &[Box<str>] {
    match kind {
        SanType::Uri => &local.uri_sans,
        SanType::Dns => &local.dns_sans,
        SanType::Ip => &local.ip_sans,
        SanType::Email => &local.email_sans,
        // Our own certificates are not searched for them.
        SanType::OtherName => &[],
    }
}

/// With commas between, as Envoy joins.
fn joined<'a>(values: impl IntoIterator<Item = &'a Box<str>>, out: &mut Vec<u8>) -> Value {
    let start = out.len();
    for value in values {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(value.as_bytes());
    }
    if out.len() > start { Value::Text } else { Value::Missing }
}

/// Certificates may be older than 1970, the calendar is not.
fn moment(seconds: i64, format: Option<&TimeFormat>, out: &mut Vec<u8>) -> Value {
    calendar::push_seconds(u64::try_from(seconds).unwrap_or(0), format, out);
    Value::Text
}

#[cfg(test)]
mod tests;
