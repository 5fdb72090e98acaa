//! Secrets that are files: a `DiscoveryResponse` of `Secret`s whose certificates are inline or further files.

use std::path::{Path, PathBuf};

use millrace_ads::source::{DataSource, SanKind, SanMatcher, SanPattern};
use millrace_proto::Message as _;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::service::discovery::v3::Resource;
use millrace_proto::pb::envoy::r#type::matcher::v3 as matcher;
use millrace_proto::pb_any::type_name;

use super::{FILE_BYTES_MAX, TlsError, Validation, certificates, read};
use crate::xds::read_file::read_response;

use pb::certificate_validation_context::TrustChainVerification;
use pb::subject_alt_name_matcher::SanType;

const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
const WRAPPER: &str = "envoy.service.discovery.v3.Resource";

/// `tls_certificate`: chain and key.
pub(super) fn identity(path: &Path, name: &str) -> Result<(DataSource, DataSource), TlsError> {
    let refuse = |reason: &str| TlsError::Secret { name: name.to_owned(), reason: reason.to_owned() };
    let Some(pb::secret::Type::TlsCertificate(certificate)) = find(path, name)?.r#type else {
        return Err(refuse("is no tls_certificate"));
    };
    let unsupported = [
        ("pkcs12", certificate.pkcs12.is_some()),
        ("private_key_provider", certificate.private_key_provider.is_some()),
        ("password", certificate.password.is_some()),
        ("ocsp_staple", certificate.ocsp_staple.is_some()),
        ("signed_certificate_timestamp", !certificate.signed_certificate_timestamp.is_empty()),
        ("tls_params", certificate.tls_params.is_some()),
    ];
    refuse_any(name, &unsupported)?;
    let chain =
        data_source(certificate.certificate_chain).ok_or_else(|| refuse("has no certificate_chain"))?;
    let key = data_source(certificate.private_key).ok_or_else(|| refuse("has no private_key"))?;
    Ok((chain, key))
}

/// `validation_context`: trusted authorities and names.
pub(super) fn validation(path: &Path, name: &str) -> Result<Validation, TlsError> {
    let refuse = |reason: &str| TlsError::Secret { name: name.to_owned(), reason: reason.to_owned() };
    let Some(pb::secret::Type::ValidationContext(context)) = find(path, name)?.r#type else {
        return Err(refuse("is no validation_context"));
    };
    let unsupported = [
        ("ca_certificate_provider_instance", context.ca_certificate_provider_instance.is_some()),
        ("system_root_certs", context.system_root_certs.is_some()),
        ("verify_certificate_spki", !context.verify_certificate_spki.is_empty()),
        ("verify_certificate_hash", !context.verify_certificate_hash.is_empty()),
        (
            "require_signed_certificate_timestamp",
            context.require_signed_certificate_timestamp.is_some_and(|value| value.value),
        ),
        ("crl", context.crl.is_some()),
        ("allow_expired_certificate", context.allow_expired_certificate),
        ("custom_validator_config", context.custom_validator_config.is_some()),
        ("max_verify_depth", context.max_verify_depth.is_some()),
    ];
    refuse_any(name, &unsupported)?;
    if context.trust_chain_verification == TrustChainVerification::AcceptUntrusted as i32 {
        return Ok(Validation::default());
    }
    let mut matchers = Vec::new();
    for typed in &context.match_typed_subject_alt_names {
        matchers.push(san_matcher(typed).map_err(|reason| refuse(&reason))?);
    }
    let authorities = match data_source(context.trusted_ca) {
        Some(source) => Some(certificates("trusted_ca", &read(&source)?)?),
        None => None,
    };
    Ok(Validation { authorities, matchers })
}

/// Fields that would change what is accepted must not be passed over.
fn refuse_any(name: &str, unsupported: &[(&str, bool)]) -> Result<(), TlsError> {
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => {
            Err(TlsError::Secret { name: name.to_owned(), reason: format!("{field} is not supported") })
        }
        None => Ok(()),
    }
}

fn find(path: &Path, name: &str) -> Result<pb::Secret, TlsError> {
    let response = read_response(path, FILE_BYTES_MAX)?;
    let broken =
        |error: &dyn std::fmt::Display| TlsError::Secret { name: name.to_owned(), reason: error.to_string() };
    for mut any in response.resources {
        if type_name(&any.type_url) == WRAPPER {
            let wrapper = Resource::decode(any.value.as_slice()).map_err(|error| broken(&error))?;
            let Some(inner) = wrapper.resource else { continue };
            any = inner;
        }
        if type_name(&any.type_url) != SECRET {
            continue;
        }
        let secret = pb::Secret::decode(any.value.as_slice()).map_err(|error| broken(&error))?;
        // One file often holds one secret, and the name in the reference is that of the secret.
        if secret.name == name {
            return Ok(secret);
        }
    }
    Err(broken(&format_args!("not in {}", path.display())))
}

fn data_source(source: Option<core::DataSource>) -> Option<DataSource> {
    use core::data_source::Specifier;
    match source?.specifier? {
        Specifier::Filename(path) => Some(DataSource::File(PathBuf::from(path))),
        Specifier::InlineBytes(bytes) => Some(DataSource::Inline(bytes)),
        Specifier::InlineString(text) => Some(DataSource::Inline(text.into_bytes())),
        Specifier::EnvironmentVariable(name) => {
            use std::os::unix::ffi::OsStringExt as _;
            Some(DataSource::Inline(std::env::var_os(name)?.into_vec()))
        }
    }
}

fn san_matcher(typed: &pb::SubjectAltNameMatcher) -> Result<SanMatcher, String> {
    let kind = match SanType::try_from(typed.san_type) {
        Ok(SanType::Dns) => SanKind::Dns,
        Ok(SanType::Uri) => SanKind::Uri,
        Ok(SanType::Email) => SanKind::Email,
        Ok(SanType::IpAddress) => SanKind::IpAddress,
        Ok(SanType::OtherName | SanType::Unspecified) | Err(_) => {
            return Err(format!("san_type {} is not supported", typed.san_type));
        }
    };
    let matcher = typed.matcher.as_ref().ok_or("a matcher without a pattern")?;
    Ok(SanMatcher { kind, pattern: pattern(matcher)? })
}

fn pattern(matcher: &matcher::StringMatcher) -> Result<SanPattern, String> {
    use matcher::string_matcher::MatchPattern;
    let pattern = matcher.match_pattern.as_ref().ok_or("a matcher without a pattern")?;
    if matcher.ignore_case {
        let text = match pattern {
            MatchPattern::Exact(text) => regex::escape(text),
            MatchPattern::Prefix(text) => format!("{}.*", regex::escape(text)),
            MatchPattern::Suffix(text) => format!(".*{}", regex::escape(text)),
            MatchPattern::Contains(text) => format!(".*{}.*", regex::escape(text)),
            // `ignore_case` has no effect on expressions.
            MatchPattern::SafeRegex(regex) => return Ok(SanPattern::Regex(regex.regex.clone())),
            MatchPattern::Custom(_) => return Err("custom matchers are not supported".to_owned()),
        };
        return Ok(SanPattern::Regex(format!("(?is){text}")));
    }
    match pattern {
        MatchPattern::Exact(text) => Ok(SanPattern::Exact(text.clone())),
        MatchPattern::Prefix(text) => Ok(SanPattern::Prefix(text.clone())),
        MatchPattern::Suffix(text) => Ok(SanPattern::Suffix(text.clone())),
        MatchPattern::Contains(text) => Ok(SanPattern::Contains(text.clone())),
        MatchPattern::SafeRegex(regex) => Ok(SanPattern::Regex(regex.regex.clone())),
        MatchPattern::Custom(_) => Err("custom matchers are not supported".to_owned()),
    }
}
