//! Certificates made here: an authority that issues what a test asks for.

use std::sync::Arc;

use millrace_config::{SanKind, SanMatcher, StringMatcher, ValidationContext};
use millrace_tls::verify::{
    CertificateRules, PeerRole, TrustCache, Verified, Verifier, VerifierOptions, VerifyError,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber, date_time_ymd,
};

/// 2026-01-01, when everything is valid that says nothing else.
pub const NOW: i64 = 1_767_225_600;

pub struct Authority {
    pub der: Arc<[u8]>,
    pub issuer: Issuer<'static, KeyPair>,
}

/// Valid from 2025 to 2030.
pub fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

pub fn leaf(name: &str, sans: &[SanType]) -> CertificateParams {
    let mut params = params(name);
    params.subject_alt_names = sans.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

/// A leaf without names, changed.
pub fn leaf_with(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = leaf("leaf", &[]);
    change(&mut params);
    params
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("an ASCII URI"))
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("an ASCII name"))
}

impl Authority {
    pub fn root(name: &str) -> Self {
        Self::root_of(authority(name))
    }

    pub fn root_of(params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a root");
        Self { der: certificate.der().to_vec().into(), issuer: Issuer::new(params, key) }
    }

    /// An intermediate.
    pub fn under(&self, name: &str) -> Self {
        self.signs(authority(name))
    }

    /// An intermediate as described.
    pub fn signs(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate");
        Self { der: certificate.der().to_vec().into(), issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, params: &CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &self.issuer).expect("a leaf").der().to_vec()
    }

    /// A list of revoked serial numbers, valid until 2030.
    pub fn revoke(&self, serials: &[u64]) -> Arc<[u8]> {
        let revoked = serials.iter().map(|serial| rcgen::RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 2, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = rcgen::CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 2, 1),
            next_update: date_time_ymd(2030, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").der().to_vec().into()
    }

    /// A context that trusts this authority and asks for nothing else.
    pub fn context(&self) -> ValidationContext {
        ValidationContext { trusted_ca: Some([self.der.clone()].into()), ..ValidationContext::default() }
    }
}

pub fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub fn verifier(context: &ValidationContext, role: PeerRole) -> Arc<Verifier> {
    verifier_of(context, role, CertificateRules::default())
}

/// A verifier of a profile.
pub fn verifier_of(context: &ValidationContext, role: PeerRole, rules: CertificateRules) -> Arc<Verifier> {
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let options = VerifierOptions { role, required: false, rules, algorithms, schemes: None };
    Verifier::new(Some(context), options, &TrustCache::default()).expect("a verifier")
}

/// Verifies a client's chain at [`NOW`].
pub fn verify(context: &ValidationContext, chain: &[&[u8]]) -> Result<Verified, VerifyError> {
    verifier(context, PeerRole::Client).verify(chain, NOW, None)
}

pub fn exact(kind: SanKind, value: &str) -> SanMatcher {
    SanMatcher { kind, matcher: StringMatcher::Exact { value: value.as_bytes().into(), ignore_case: false } }
}
