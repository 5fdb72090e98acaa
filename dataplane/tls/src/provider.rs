//! `TlsParameters` as rustls's provider: suites, groups and versions in the order of preference.

use std::sync::Arc;

use millrace_config::{CipherSuite, Curve, TlsParams, TlsVersion};
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{NamedGroup, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::error::ContextError;
use crate::key_derivation::tls13_suites;

/// Envoy's default order, as far as its suites are here.
const TLS12_SUITES: [CipherSuite; 6] = [
    CipherSuite::EcdheEcdsaAes128Gcm,
    CipherSuite::EcdheEcdsaChacha20,
    CipherSuite::EcdheRsaAes128Gcm,
    CipherSuite::EcdheRsaChacha20,
    CipherSuite::EcdheEcdsaAes256Gcm,
    CipherSuite::EcdheRsaAes256Gcm,
];
/// A server takes what protects best among the groups that it is offered.
const SERVER_CURVES: [Curve; 3] = [Curve::X25519MlKem768, Curve::X25519, Curve::P256];
/// A client offers what Envoy offers.
const CLIENT_CURVES: [Curve; 2] = [Curve::X25519, Curve::P256];

/// Which side of a handshake a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Server,
    Client,
}

/// The provider that speaks what `params` allow.
pub(crate) fn provider(params: &TlsParams, end: End) -> Result<Arc<CryptoProvider>, ContextError> {
    let suites = match params.cipher_suites.as_slice() {
        [] => &TLS12_SUITES,
        configured => configured,
    };
    let curves = match (params.curves.as_slice(), end) {
        ([], End::Server) => &SERVER_CURVES[..],
        ([], End::Client) => &CLIENT_CURVES[..],
        (configured, _) => configured,
    };
    let kx_groups: Vec<_> = curves.iter().filter_map(|curve| group(*curve)).collect();
    if kx_groups.is_empty() {
        return Err(ContextError::Parameters);
    }
    let cipher_suites = tls13_suites().into_iter().chain(suites.iter().map(|suite| tls12(*suite))).collect();
    Ok(Arc::new(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() }))
}

/// The versions between minimum and maximum.
pub(crate) fn versions(params: &TlsParams) -> Result<Vec<&'static SupportedProtocolVersion>, ContextError> {
    let all = [(TlsVersion::V1_3, &version::TLS13), (TlsVersion::V1_2, &version::TLS12)];
    let allowed = all
        .into_iter()
        .filter(|(version, _)| (params.minimum..=params.maximum).contains(version))
        .map(|(_, version)| version)
        .collect::<Vec<_>>();
    if allowed.is_empty() { Err(ContextError::Parameters) } else { Ok(allowed) }
}

/// `signature_algorithms`; `None` when all are welcome.
pub(crate) fn schemes(params: &TlsParams) -> Option<Arc<[SignatureScheme]>> {
    let configured = &params.signature_schemes;
    (!configured.is_empty()).then(|| configured.iter().map(|scheme| scheme.0.into()).collect())
}

fn tls12(configured: CipherSuite) -> SupportedCipherSuite {
    match configured {
        CipherSuite::EcdheEcdsaAes128Gcm => suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheEcdsaAes256Gcm => suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheEcdsaChacha20 => suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdheRsaAes128Gcm => suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaAes256Gcm => suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaChacha20 => suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

/// The group of a curve; P-521 is none that this build exchanges keys with.
fn group(curve: Curve) -> Option<&'static dyn SupportedKxGroup> {
    match curve {
        Curve::X25519MlKem768 => Some(kx_group::X25519MLKEM768),
        Curve::X25519 => Some(kx_group::X25519),
        Curve::P256 => Some(kx_group::SECP256R1),
        Curve::P384 => Some(kx_group::SECP384R1),
        Curve::P521 => None,
    }
}

/// BoringSSL's name of a group: `ssl.curves.<name>`.
pub(crate) fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => "",
    }
}

/// OpenSSL's name of a suite: `%DOWNSTREAM_TLS_CIPHER%`.
pub(crate) fn suite_name(suite: SupportedCipherSuite) -> &'static str {
    use rustls::CipherSuite as Suite;
    match suite.suite() {
        Suite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        Suite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        Suite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}
