//! `UpstreamTlsContext` of a control plane. Data-plane traffic over TLS is another matter: see `transport_socket`.

use std::sync::Arc;

use millrace_ads::source::{DataSource, PathSource, SanKind, SanMatcher, SanPattern, Tls};
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use millrace_proto::pb::envoy::config::core::v3::data_source::Specifier;
use millrace_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use millrace_proto::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use millrace_proto::pb::envoy::r#type::matcher::v3 as matcher;
use millrace_proto::{Message, Path, schema};

use super::statics::Kind;
use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, fields, transport_socket, value};

const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
const UPSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// `None` for clear text.
pub(super) fn upstream(
    socket: Option<&core::TransportSocket>,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<Tls>, Rejection> {
    let any = socket.and_then(|s| s.config_type.as_ref()).map(|ConfigType::TypedConfig(any)| any);
    match any.filter(|any| extension::type_of(any) == UPSTREAM) {
        None => transport_socket::plain(socket, path).map(|()| None),
        Some(any) => {
            let path = path.join("typed_config");
            let context: pb::UpstreamTlsContext = extension::open(any, &path)?;
            let mut tls = Tls { sni: context.sni.clone(), ..Tls::default() };
            if let Some(common) = &context.common_tls_context {
                common_context(common, &path.join("common_tls_context"), &mut tls, cx)?;
            }
            Ok(Some(tls))
        }
    }
}

fn common_context(
    common: &pb::CommonTlsContext,
    path: &Path,
    tls: &mut Tls,
    cx: &mut Context,
) -> Result<(), Rejection> {
    if let Some(params) = &common.tls_params {
        parameters(params, &path.join("tls_params"))?;
    }
    let (inline, sds) = (&common.tls_certificates, &common.tls_certificate_sds_secret_configs);
    if inline.len() + sds.len() > 1 {
        let why = "Multiple TLS certificates are not supported for client contexts";
        return Err(Rejection::new(path, why));
    }
    if let Some(certificate) = inline.first() {
        tls.identity = Some(identity(certificate, &path.join("tls_certificates").at(0))?);
    }
    if let Some(config) = sds.first() {
        let path = path.join("tls_certificate_sds_secret_configs").at(0);
        match found(config, Kind::Certificate, &path, cx)? {
            Found::Static(at, secret) => match *secret {
                pb::secret::Type::TlsCertificate(certificate) => {
                    tls.identity = Some(identity(&certificate, &at.join("tls_certificate"))?);
                }
                _ => return Err(Rejection::new(&at, "not a TLS certificate")),
            },
            Found::File(file) => tls.identity_sds = Some((file, config.name.clone())),
        }
    }
    validation_type(common, path, tls, cx)?;
    let trusts = tls.trusted_ca.is_some() || tls.system_roots || tls.validation_sds.is_some();
    if !trusts && !tls.san_matchers.is_empty() {
        let why =
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed";
        return Err(Rejection::new(path, why));
    }
    Ok(())
}

fn validation_type(
    common: &pb::CommonTlsContext,
    path: &Path,
    tls: &mut Tls,
    cx: &mut Context,
) -> Result<(), Rejection> {
    match &common.validation_context_type {
        Some(ValidationContextType::ValidationContext(context)) => {
            validation(context, &path.join("validation_context"), tls)
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            validation_sds(config, &path.join("validation_context_sds_secret_config"), tls, cx)
        }
        Some(ValidationContextType::CombinedValidationContext(both)) => {
            let path = path.join("combined_validation_context");
            if let Some(context) = &both.default_validation_context {
                validation(context, &path.join("default_validation_context"), tls)?;
            }
            let config = both.validation_context_sds_secret_config.clone().unwrap_or_default();
            validation_sds(&config, &path.join("validation_context_sds_secret_config"), tls, cx)
        }
        Some(_) => Err(Rejection::not_served(path, "certificate providers are not served by this build")),
        None => Ok(()),
    }
}

/// TLS 1.2 and 1.3 are offered, so limits that leave out one of them cannot be kept.
fn parameters(params: &pb::TlsParameters, path: &Path) -> Result<(), Rejection> {
    use pb::tls_parameters::TlsProtocol as Version;
    let (low, high) = (params.tls_minimum_protocol_version(), params.tls_maximum_protocol_version());
    let why = "connections to control planes offer TLS 1.2 and 1.3";
    if low == Version::TlSv13 {
        return Err(Rejection::not_served(&path.join("tls_minimum_protocol_version"), why));
    }
    if matches!(high, Version::TlSv10 | Version::TlSv11 | Version::TlSv12) {
        return Err(Rejection::not_served(&path.join("tls_maximum_protocol_version"), why));
    }
    Ok(())
}

enum Found {
    Static(Path, Box<pb::secret::Type>),
    File(PathSource),
}

fn found(
    config: &pb::SdsSecretConfig,
    kind: Kind,
    path: &Path,
    cx: &mut Context,
) -> Result<Found, Rejection> {
    let Some(source) = &config.sds_config else {
        let statics = Arc::clone(&cx.statics);
        let secret = statics.secret(&config.name, kind);
        return match secret.and_then(|(at, secret)| Some((at, secret, secret.r#type.clone()?))) {
            Some((at, secret, found)) => {
                let message = schema::Message::by_name(SECRET)
                    .ok_or_else(|| Rejection::new(&at, "this build has no schema of secrets"))?;
                fields::check_control(message, &secret.encode_to_vec(), &at, cx)?;
                Ok(Found::Static(at, Box::new(found)))
            }
            None => {
                let what = match kind {
                    Kind::Certificate => "secret provider",
                    Kind::Validation | Kind::TicketKeys | Kind::Other => "certificate validation context",
                };
                Err(Rejection::new(&path.join("name"), format!("Unknown static {what}: {}", config.name)))
            }
        };
    };
    let path = path.join("sds_config");
    let file = match &source.config_source_specifier {
        Some(ConfigSourceSpecifier::PathConfigSource(file)) => {
            super::path_source(file, &path.join("path_config_source"))?
        }
        Some(ConfigSourceSpecifier::Path(name)) => {
            let file = core::PathConfigSource { path: name.clone(), ..Default::default() };
            super::path_source(&file, &path)?
        }
        Some(_) => {
            let why = "certificates for a control plane come from files only";
            return Err(Rejection::not_served(&path, why));
        }
        None => {
            let why = "Missing config source specifier in envoy.config.core.v3.ConfigSource";
            return Err(Rejection::new(&path, why));
        }
    };
    Ok(Found::File(file))
}

fn validation_sds(
    config: &pb::SdsSecretConfig,
    path: &Path,
    tls: &mut Tls,
    cx: &mut Context,
) -> Result<(), Rejection> {
    match found(config, Kind::Validation, path, cx)? {
        Found::Static(at, secret) => match *secret {
            pb::secret::Type::ValidationContext(context) => {
                validation(&context, &at.join("validation_context"), tls)
            }
            _ => Err(Rejection::new(&at, "not a validation context")),
        },
        Found::File(file) => {
            tls.validation_sds = Some((file, config.name.clone()));
            Ok(())
        }
    }
}

fn identity(certificate: &pb::TlsCertificate, path: &Path) -> Result<(DataSource, DataSource), Rejection> {
    let part = |source: Option<&core::DataSource>, name: &'static str, what: &str| {
        let path = path.join(name);
        match optional(source, &path)? {
            Some(found) => Ok(found),
            None => Err(Rejection::new(&path, format!("a TLS certificate needs its {what}"))),
        }
    };
    Ok((
        part(certificate.certificate_chain.as_ref(), "certificate_chain", "chain")?,
        part(certificate.private_key.as_ref(), "private_key", "private key")?,
    ))
}

fn validation(
    context: &pb::CertificateValidationContext,
    path: &Path,
    tls: &mut Tls,
) -> Result<(), Rejection> {
    if let Some(ca) = optional(context.trusted_ca.as_ref(), &path.join("trusted_ca"))? {
        tls.trusted_ca = Some(ca);
    }
    tls.system_roots |= context.system_root_certs.is_some();
    let typed = path.join("match_typed_subject_alt_names");
    for (i, san) in context.match_typed_subject_alt_names.iter().enumerate() {
        let path = typed.at(i);
        let kind = match san.san_type() {
            pb::subject_alt_name_matcher::SanType::Dns => SanKind::Dns,
            pb::subject_alt_name_matcher::SanType::Uri => SanKind::Uri,
            pb::subject_alt_name_matcher::SanType::Email => SanKind::Email,
            pb::subject_alt_name_matcher::SanType::IpAddress => SanKind::IpAddress,
            pb::subject_alt_name_matcher::SanType::OtherName => {
                return Err(Rejection::not_served(&path.join("san_type"), "other names are not checked"));
            }
            pb::subject_alt_name_matcher::SanType::Unspecified => {
                return Err(Rejection::new(&path.join("san_type"), "value must not be in list [0]"));
            }
        };
        let by = san.matcher.clone().unwrap_or_default();
        tls.san_matchers.push(SanMatcher { kind, pattern: pattern(&by, &path.join("matcher"))? });
    }
    let untyped = path.join("match_subject_alt_names");
    for (i, by) in context.match_subject_alt_names.iter().enumerate() {
        let pattern = pattern(by, &untyped.at(i))?;
        for kind in [SanKind::Dns, SanKind::Uri, SanKind::Email, SanKind::IpAddress] {
            tls.san_matchers.push(SanMatcher { kind, pattern: pattern.clone() });
        }
    }
    Ok(())
}

fn pattern(by: &matcher::StringMatcher, path: &Path) -> Result<SanPattern, Rejection> {
    use matcher::string_matcher::MatchPattern as By;
    if by.ignore_case {
        let why = "names in certificates are compared with their case";
        return Err(Rejection::not_served(&path.join("ignore_case"), why));
    }
    match &by.match_pattern {
        Some(By::Exact(text)) => Ok(SanPattern::Exact(text.clone())),
        Some(By::Prefix(text)) => Ok(SanPattern::Prefix(text.clone())),
        Some(By::Suffix(text)) => Ok(SanPattern::Suffix(text.clone())),
        Some(By::Contains(text)) => Ok(SanPattern::Contains(text.clone())),
        Some(By::SafeRegex(regex)) => {
            crate::regex_util::full(regex, &path.join("safe_regex"))?;
            Ok(SanPattern::Regex(regex.regex.clone()))
        }
        Some(By::Custom(_)) => {
            let why = "custom string matchers are not served by this build";
            Err(Rejection::not_served(&path.join("custom"), why))
        }
        None => Err(Rejection::new(&path.join("match_pattern"), "is required")),
    }
}

/// A source that may be absent. A file must exist, and stays a file, so that every connection reads it anew.
pub(super) fn optional(
    source: Option<&core::DataSource>,
    path: &Path,
) -> Result<Option<DataSource>, Rejection> {
    let Some(source) = source else {
        return Ok(None);
    };
    let found = match &source.specifier {
        Some(Specifier::Filename(name)) => {
            if !std::path::Path::new(name).is_file() {
                return Err(Rejection::new(&path.join("filename"), format!("Invalid path: {name}")));
            }
            DataSource::File(name.into())
        }
        Some(_) => DataSource::Inline(value::data_source(source, path)?),
        None => return Ok(None),
    };
    match &found {
        DataSource::Inline(bytes) if bytes.is_empty() => {
            Err(Rejection::new(path, "DataSource cannot be empty"))
        }
        _ => Ok(Some(found)),
    }
}
