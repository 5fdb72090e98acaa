//! `CertificateValidationContext`: whom we believe.

use std::sync::Arc;

use millrace_config::{SanKind, SanMatcher, ValidationContext};
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use millrace_tls::certificate::{CertificateError, MAX_CRLS, parse_bundle, parse_crls};

use super::{data, spiffe};
use crate::context::Context;
use crate::error::Rejection;
use crate::matcher;

/// Where distributions keep the authorities that the system trusts.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What one message says. It may be a part of a combined context, so [`check`] looks at the whole.
pub(crate) fn validation(
    from: &pb::CertificateValidationContext,
    path: &Path,
    cx: &mut Context,
) -> Result<ValidationContext, Rejection> {
    let mut built = ValidationContext {
        origin: data::INLINE.into(),
        only_leaf_crl: from.only_verify_leaf_cert_crl,
        allow_expired: from.allow_expired_certificate,
        accept_untrusted: from.trust_chain_verification() == TrustChainVerification::AcceptUntrusted,
        max_verify_depth: from.max_verify_depth.as_ref().map(|depth| depth.value),
        ..ValidationContext::default()
    };
    let ca_path = path.join("trusted_ca");
    if let Some(ca) = data::required(from.trusted_ca.as_ref(), &ca_path)? {
        let bundle = parse_bundle(&ca.bytes).map_err(|error| ca.refusal(error, &ca_path))?;
        built.crls = parse_crls(&ca.bytes).map_err(|error| ca.refusal(error, &ca_path))?;
        built.trusted_ca = Some(cx.credentials.bundle(bundle));
        built.origin = Arc::clone(&ca.origin);
    } else if from.system_root_certs.is_some() {
        system_roots(&mut built, &path.join("system_root_certs"), cx)?;
    }
    let crl_path = path.join("crl");
    if let Some(crl) = data::optional(from.crl.as_ref(), &crl_path)? {
        let lists = parse_crls(&crl.bytes).map_err(|error| crl.refusal(error, &crl_path))?;
        if lists.is_empty() {
            return Err(Rejection::new(&crl_path, format!("no revocation list in {}", crl.origin)));
        }
        built.crls.extend(lists);
        if built.crls.len() > MAX_CRLS {
            return Err(crl.refusal(CertificateError::TooLarge, &crl_path));
        }
    }
    built.san_matchers = san_matchers(from, path)?;
    built.spki_hashes = hashes(
        &from.verify_certificate_spki,
        base64_32,
        "base64-encoded",
        &path.join("verify_certificate_spki"),
    )?;
    built.certificate_hashes =
        hashes(&from.verify_certificate_hash, hex_32, "hex-encoded", &path.join("verify_certificate_hash"))?;
    if let Some(custom) = &from.custom_validator_config {
        built.spiffe = spiffe::trust_domains(custom, &path.join("custom_validator_config"), cx)?;
    }
    Ok(built)
}

/// What makes no sense without an authority, of a context as a whole; `path` is where it stands.
///
/// # Errors
/// Names, revocation lists and lenience about time that need an authority which is not there.
pub fn check(context: &ValidationContext, path: &Path) -> Result<(), Rejection> {
    if context.trusted_ca.is_some() || context.spiffe.is_some() {
        return Ok(());
    }
    if !context.san_matchers.is_empty() {
        let why = CertificateError::MatchersWithoutAuthority.message(data::INLINE);
        return Err(Rejection::new(path, why));
    }
    if context.allow_expired {
        let why = "Certificate validity period is always ignored without trusted CA";
        return Err(Rejection::new(&path.join("allow_expired_certificate"), why));
    }
    if !context.crls.is_empty() {
        return Err(Rejection::new(&path.join("crl"), "Failed to load CRL without trusted CA"));
    }
    Ok(())
}

/// The system's authorities, if it has any where distributions keep them.
fn system_roots(built: &mut ValidationContext, path: &Path, cx: &mut Context) -> Result<(), Rejection> {
    let Some(file) = SYSTEM_ROOTS.iter().find(|file| std::path::Path::new(file).is_file()) else {
        let why = format!("the system has no authorities in {}", SYSTEM_ROOTS.join(", "));
        return Err(Rejection::new(path, why));
    };
    let bytes = std::fs::read(file)
        .map_err(|error| Rejection::new(path, format!("unable to read file {file}: {error}")))?;
    let bundle = parse_bundle(&bytes).map_err(|error| Rejection::new(path, error.message(file)))?;
    built.trusted_ca = Some(cx.credentials.bundle(bundle));
    built.origin = (*file).into();
    Ok(())
}

fn san_matchers(from: &pb::CertificateValidationContext, path: &Path) -> Result<Vec<SanMatcher>, Rejection> {
    let mut out = Vec::new();
    let typed = path.join("match_typed_subject_alt_names");
    for (i, san) in from.match_typed_subject_alt_names.iter().enumerate() {
        let path = typed.at(i);
        let kind = match san.san_type() {
            SanType::Dns => SanKind::Dns,
            SanType::Uri => SanKind::Uri,
            SanType::Email => SanKind::Email,
            SanType::IpAddress => SanKind::IpAddress,
            SanType::OtherName if is_oid(&san.oid) => SanKind::OtherName(san.oid.as_str().into()),
            SanType::OtherName => {
                let why = format!("Failed to create SAN matcher for OTHER_NAME with OID: {}", san.oid);
                return Err(Rejection::new(&path.join("oid"), why));
            }
            SanType::Unspecified => {
                return Err(Rejection::new(&path.join("san_type"), "value must not be in list [0]"));
            }
        };
        let by = san.matcher.clone().unwrap_or_default();
        out.push(SanMatcher { kind, matcher: matcher::string(&by, &path.join("matcher"))? });
    }
    let untyped = path.join("match_subject_alt_names");
    for (i, by) in from.match_subject_alt_names.iter().enumerate() {
        let by = matcher::string(by, &untyped.at(i))?;
        for kind in [SanKind::Dns, SanKind::Uri, SanKind::Email, SanKind::IpAddress] {
            out.push(SanMatcher { kind, matcher: by.clone() });
        }
    }
    Ok(out)
}

/// Dotted numbers, two at least.
fn is_oid(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('.') && text.split('.').all(is_number)
}

fn hashes(
    from: &[String],
    decode: fn(&str) -> Option<[u8; 32]>,
    what: &str,
    path: &Path,
) -> Result<Vec<[u8; 32]>, Rejection> {
    let one = |(i, text): (usize, &String)| {
        decode(text).ok_or_else(|| Rejection::new(&path.at(i), format!("Invalid {what} SHA-256 {text}")))
    };
    from.iter().enumerate().map(one).collect()
}

/// 64 digits, or 32 pairs with colons between them.
fn hex_32(text: &str) -> Option<[u8; 32]> {
    let step = match text.len() {
        64 => 2,
        95 => 3,
        _ => return None,
    };
    let bytes = text.as_bytes();
    let mut out = [0; 32];
    for (i, byte) in out.iter_mut().enumerate() {
        let at = i * step;
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()?;
        if step == 3 && i < 31 && bytes.get(at + 2) != Some(&b':') {
            return None;
        }
    }
    Some(out)
}

/// 43 digits and one `=`.
fn base64_32(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43)?;
    let mut out = Vec::with_capacity(33);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    out.try_into().ok()
}
