//! `TlsParameters`. What this build lacks is reported as long as something that it has is left.

use millrace_config::{Curve, SignatureScheme, TlsParams, TlsVersion};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;

use super::suites;
use crate::context::Context;
use crate::error::Rejection;

/// BoringSSL's names; `None` for what this build lacks.
const CURVES: &[(&str, Option<Curve>)] = &[
    ("P-256", Some(Curve::P256)),
    ("prime256v1", Some(Curve::P256)),
    ("P-384", Some(Curve::P384)),
    ("secp384r1", Some(Curve::P384)),
    ("P-521", Some(Curve::P521)),
    ("secp521r1", Some(Curve::P521)),
    ("X25519", Some(Curve::X25519)),
    ("x25519", Some(Curve::X25519)),
    ("X25519MLKEM768", Some(Curve::X25519MlKem768)),
    ("MLKEM1024", None),
];

/// BoringSSL's names and the numbers of the IANA; `None` for what this build lacks.
const SCHEMES: &[(&str, Option<u16>)] = &[
    ("rsa_pkcs1_sha256", Some(0x0401)),
    ("rsa_pkcs1_sha384", Some(0x0501)),
    ("rsa_pkcs1_sha512", Some(0x0601)),
    ("ecdsa_secp256r1_sha256", Some(0x0403)),
    ("ecdsa_secp384r1_sha384", Some(0x0503)),
    ("ecdsa_secp521r1_sha512", Some(0x0603)),
    ("rsa_pss_rsae_sha256", Some(0x0804)),
    ("rsa_pss_rsae_sha384", Some(0x0805)),
    ("rsa_pss_rsae_sha512", Some(0x0806)),
    ("ed25519", Some(0x0807)),
    ("RSA+SHA256", Some(0x0401)),
    ("RSA+SHA384", Some(0x0501)),
    ("RSA+SHA512", Some(0x0601)),
    ("ECDSA+SHA256", Some(0x0403)),
    ("ECDSA+SHA384", Some(0x0503)),
    ("ECDSA+SHA512", Some(0x0603)),
    ("PSS+SHA256", Some(0x0804)),
    ("PSS+SHA384", Some(0x0805)),
    ("PSS+SHA512", Some(0x0806)),
    ("RSA-PSS+SHA256", Some(0x0804)),
    ("RSA-PSS+SHA384", Some(0x0805)),
    ("RSA-PSS+SHA512", Some(0x0806)),
    ("rsa_pkcs1_sha1", None),
    ("ecdsa_sha1", None),
    ("rsa_pkcs1_sha256_legacy", None),
];

pub(super) fn params(
    from: Option<&pb::TlsParameters>,
    path: &Path,
    cx: &mut Context,
) -> Result<TlsParams, Rejection> {
    let Some(from) = from else { return Ok(TlsParams::default()) };
    let (minimum, maximum) = versions(from, path, cx)?;
    Ok(TlsParams {
        minimum,
        maximum,
        cipher_suites: cipher_suites(from, minimum, &path.join("cipher_suites"), cx)?,
        curves: curves(&from.ecdh_curves, &path.join("ecdh_curves"), cx)?,
        signature_schemes: schemes(&from.signature_algorithms, &path.join("signature_algorithms"), cx)?,
    })
}

fn versions(
    from: &pb::TlsParameters,
    path: &Path,
    cx: &mut Context,
) -> Result<(TlsVersion, TlsVersion), Rejection> {
    let minimum = match from.tls_minimum_protocol_version() {
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            cx.report(&path.join("tls_minimum_protocol_version"), "TLS 1.2 is the oldest that is spoken");
            TlsVersion::V1_2
        }
        TlsProtocol::TlsAuto | TlsProtocol::TlSv12 => TlsVersion::V1_2,
        TlsProtocol::TlSv13 => TlsVersion::V1_3,
    };
    let path = path.join("tls_maximum_protocol_version");
    let maximum = match from.tls_maximum_protocol_version() {
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            return Err(Rejection::not_served(&path, "TLS 1.2 is the oldest that is spoken"));
        }
        TlsProtocol::TlSv12 => TlsVersion::V1_2,
        TlsProtocol::TlsAuto | TlsProtocol::TlSv13 => TlsVersion::V1_3,
    };
    if minimum > maximum {
        return Err(Rejection::not_served(&path, "no version is left, so that every handshake would fail"));
    }
    Ok((minimum, maximum))
}

fn cipher_suites(
    from: &pb::TlsParameters,
    minimum: TlsVersion,
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<millrace_config::CipherSuite>, Rejection> {
    let asked = &from.cipher_suites;
    let found = suites::parse(asked);
    if !found.unknown.is_empty() {
        let why = format!(
            "Failed to initialize cipher suites {}. The following ciphers were rejected when tried individually: {}",
            asked.join(":"),
            found.unknown.join(", ")
        );
        return Err(Rejection::new(path, why));
    }
    let is_asked = asked.iter().any(|entry| !entry.is_empty());
    if is_asked && found.ours.is_empty() && minimum < TlsVersion::V1_3 {
        let why = format!("this build has none of the suites {}", asked.join(":"));
        return Err(Rejection::not_served(path, why));
    }
    if !found.lacking.is_empty() {
        cx.report(path, format!("this build does not have {}", found.lacking.join(", ")));
    }
    Ok(found.ours)
}

fn curves(asked: &[String], path: &Path, cx: &mut Context) -> Result<Vec<Curve>, Rejection> {
    let all = asked.join(":");
    let found = looked_up(&all, ':', CURVES, path, cx, "curves")?;
    let repeated = (1..found.len()).any(|i| found[..i].contains(&found[i]));
    match repeated {
        true => Err(Rejection::new(path, format!("Failed to initialize ECDH curves {all}"))),
        false => Ok(found),
    }
}

fn schemes(asked: &[String], path: &Path, cx: &mut Context) -> Result<Vec<SignatureScheme>, Rejection> {
    let found = looked_up(&asked.join(":"), ':', SCHEMES, path, cx, "signature algorithms")?;
    Ok(found.into_iter().map(SignatureScheme).collect())
}

fn looked_up<T: Copy>(
    all: &str,
    separator: char,
    known: &[(&str, Option<T>)],
    path: &Path,
    cx: &mut Context,
    what: &str,
) -> Result<Vec<T>, Rejection> {
    let mut found = Vec::new();
    let mut lacking = Vec::new();
    for name in all.split(separator).filter(|name| !name.is_empty()) {
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, Some(value))) => found.push(*value),
            Some((_, None)) => lacking.push(name),
            None => {
                let kind = if what == "curves" { "ECDH curves" } else { "TLS signature algorithms" };
                return Err(Rejection::new(path, format!("Failed to initialize {kind} {all}")));
            }
        }
    }
    if found.is_empty() && !lacking.is_empty() {
        return Err(Rejection::not_served(path, format!("this build has none of the {what} {all}")));
    }
    if !lacking.is_empty() {
        cx.report(path, format!("this build does not have {}", lacking.join(", ")));
    }
    Ok(found)
}
