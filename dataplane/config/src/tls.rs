//! TLS as listeners and clusters configure it (`extensions.transport_sockets.tls.v3`): what is offered, who we are and
//! whom we believe. Certificates are DER here and were checked; nothing in this crate computes with them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{SecretId, StringMatcher};

/// `TlsParameters.TlsProtocol`, as far as it is safe to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// `cipher_suites` that this build has (TLS 1.2; those of TLS 1.3 are not configurable, as in Envoy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CipherSuite {
    EcdheEcdsaAes128Gcm,
    EcdheEcdsaAes256Gcm,
    EcdheEcdsaChacha20,
    EcdheRsaAes128Gcm,
    EcdheRsaAes256Gcm,
    EcdheRsaChacha20,
}

/// `ecdh_curves` that this build has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Curve {
    X25519MlKem768,
    X25519,
    P256,
    P384,
    P521,
}

/// `signature_algorithms` that this build has, by their IANA numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureScheme(pub u16);

/// `TlsParameters`. Empty lists mean the defaults of this build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsParams {
    /// `tls_minimum_protocol_version`; TLS 1.2 by default on both sides.
    pub minimum: TlsVersion,
    /// `tls_maximum_protocol_version`; servers TLS 1.3, clients TLS 1.2 in Envoy's default and 1.3 in ours.
    pub maximum: TlsVersion,
    /// `cipher_suites`, in order of preference.
    pub cipher_suites: Vec<CipherSuite>,
    /// `ecdh_curves`, in order of preference.
    pub curves: Vec<Curve>,
    /// `signature_algorithms`.
    pub signature_schemes: Vec<SignatureScheme>,
}

impl Default for TlsParams {
    fn default() -> Self {
        Self {
            minimum: TlsVersion::V1_2,
            maximum: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
            signature_schemes: Vec::new(),
        }
    }
}

/// A private key: PKCS#8, PKCS#1 or SEC1 DER. Never printed; overwritten when the last holder drops it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Vec<u8>);

impl PrivateKey {
    /// Takes DER that was checked.
    pub fn new(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// The DER.
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from dropping the writes above.
        std::hint::black_box(&self.0);
    }
}

/// `TlsCertificate`: a chain and the key of its leaf, which fit together.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsCertificate {
    /// DER, leaf first.
    pub chain: Vec<Arc<[u8]>>,
    /// The leaf's key.
    pub key: PrivateKey,
    /// `ocsp_staple`, DER.
    pub ocsp_staple: Option<Arc<[u8]>>,
    /// Where the chain came from, for `/certs`: a file name or `<inline>`.
    pub origin: Arc<str>,
}

/// `SubjectAltNameMatcher.SanType`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SanKind {
    Email,
    Dns,
    Uri,
    IpAddress,
    /// `OTHER_NAME` with its `oid`, dotted.
    OtherName(Arc<str>),
}

/// One of `match_typed_subject_alt_names`. DNS names match exact patterns as Envoy's do: `*` of the certificate
/// stands for one label.
#[derive(Clone, Debug)]
pub struct SanMatcher {
    /// Which names are looked at.
    pub kind: SanKind,
    /// What one of them must be like.
    pub matcher: StringMatcher,
}

/// One of `SPIFFECertValidatorConfig.trust_domains`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeTrustDomain {
    /// `name`.
    pub name: Arc<str>,
    /// `trust_bundle`: DER certificates.
    pub bundle: Vec<Arc<[u8]>>,
}

/// `CertificateValidationContext`. Empty lists ask for nothing.
#[derive(Clone, Debug, Default)]
pub struct ValidationContext {
    /// `trusted_ca` (or the system's roots): DER certificates. `None` when there is none to chain to.
    pub trusted_ca: Option<Arc<[Arc<[u8]>]>>,
    /// Where `trusted_ca` came from, for `/certs`: a file name or `<inline>`.
    pub origin: Arc<str>,
    /// `crl`: DER lists.
    pub crls: Vec<Arc<[u8]>>,
    /// `only_verify_leaf_cert_crl`.
    pub only_leaf_crl: bool,
    /// `match_typed_subject_alt_names` (any one of them).
    pub san_matchers: Vec<SanMatcher>,
    /// `verify_certificate_spki`: SHA-256 of SubjectPublicKeyInfo.
    pub spki_hashes: Vec<[u8; 32]>,
    /// `verify_certificate_hash`: SHA-256 of the DER. Either list may vouch, as in Envoy.
    pub certificate_hashes: Vec<[u8; 32]>,
    /// `allow_expired_certificate`.
    pub allow_expired: bool,
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
    /// `max_verify_depth`: intermediates at most.
    pub max_verify_depth: Option<u32>,
    /// `custom_validator_config` SPIFFE: replaces `trusted_ca`.
    pub spiffe: Option<Arc<[SpiffeTrustDomain]>>,
}

impl ValidationContext {
    /// What `default_validation_context` becomes with the one that came over SDS: lists are joined, anything else
    /// that `dynamic` has replaces (protobuf's merge, as Envoy does it).
    #[must_use]
    pub fn merged(&self, dynamic: &Self) -> Self {
        let mut merged = self.clone();
        if dynamic.trusted_ca.is_some() {
            merged.trusted_ca.clone_from(&dynamic.trusted_ca);
            merged.origin = dynamic.origin.clone();
        }
        if !dynamic.crls.is_empty() {
            merged.crls.clone_from(&dynamic.crls);
        }
        merged.only_leaf_crl |= dynamic.only_leaf_crl;
        merged.san_matchers.extend(dynamic.san_matchers.iter().cloned());
        merged.spki_hashes.extend_from_slice(&dynamic.spki_hashes);
        merged.certificate_hashes.extend_from_slice(&dynamic.certificate_hashes);
        merged.allow_expired |= dynamic.allow_expired;
        merged.accept_untrusted |= dynamic.accept_untrusted;
        merged.max_verify_depth = dynamic.max_verify_depth.or(self.max_verify_depth);
        if dynamic.spiffe.is_some() {
            merged.spiffe.clone_from(&dynamic.spiffe);
        }
        merged
    }
}

/// `TlsSessionTicketKeys`: 80 bytes each (name 16, HMAC 32, AES 32); the first encrypts, all decrypt.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKeys(pub Vec<[u8; 80]>);

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} redacted]", self.0.len())
    }
}

impl Drop for TicketKeys {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|key| key.fill(0));
        std::hint::black_box(&self.0);
    }
}

/// A secret as it came over SDS (`transport_sockets.tls.v3.Secret`).
#[derive(Clone, Debug)]
pub enum Secret {
    /// `tls_certificate`.
    Certificate(Arc<TlsCertificate>),
    /// `validation_context`.
    Validation(Arc<ValidationContext>),
    /// `session_ticket_keys`.
    TicketKeys(Arc<TicketKeys>),
}

/// Where a part of a context comes from.
#[derive(Debug)]
pub enum SecretSource<T> {
    /// It stands in the configuration (inline, a file, or a static secret of the bootstrap).
    Inline(Arc<T>),
    /// It comes over SDS: until then there is none, and handshakes fail closed.
    Sds(SecretId),
}

impl<T> Clone for SecretSource<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Inline(value) => Self::Inline(value.clone()),
            Self::Sds(id) => Self::Sds(*id),
        }
    }
}

/// `validation_context_type`.
#[derive(Clone, Debug, Default)]
pub enum ValidationSource {
    /// None: no peer certificate is asked for (downstream) or every one accepted (upstream).
    #[default]
    None,
    /// `validation_context`.
    Inline(Arc<ValidationContext>),
    /// `validation_context_sds_secret_config` (then the default is empty) or `combined_validation_context`.
    Sds {
        /// `default_validation_context`.
        default: Arc<ValidationContext>,
        /// What is merged into it.
        secret: SecretId,
    },
}

/// `CommonTlsContext`.
#[derive(Clone, Debug, Default)]
pub struct TlsCommon {
    /// `tls_params`.
    pub params: TlsParams,
    /// `tls_certificates` or `tls_certificate_sds_secret_configs`.
    pub certificates: Vec<SecretSource<TlsCertificate>>,
    /// `validation_context` and its relatives.
    pub validation: ValidationSource,
    /// `alpn_protocols`.
    pub alpn: Vec<Arc<[u8]>>,
}

impl TlsCommon {
    /// Every secret that must have come before a handshake can succeed.
    pub fn secrets(&self) -> impl Iterator<Item = SecretId> {
        let validation = match &self.validation {
            ValidationSource::Sds { secret, .. } => Some(*secret),
            ValidationSource::None | ValidationSource::Inline(_) => None,
        };
        let certificates = self.certificates.iter().filter_map(|source| match source {
            SecretSource::Sds(id) => Some(*id),
            SecretSource::Inline(_) => None,
        });
        certificates.chain(validation)
    }
}

/// How a server lets sessions resume without state of its own.
#[derive(Clone, Debug, Default)]
pub enum SessionTickets {
    /// Keys of our own, rotated.
    #[default]
    Own,
    /// `session_ticket_keys` or `session_ticket_keys_sds_secret_config`.
    Keys(SecretSource<TicketKeys>),
    /// `disable_stateless_session_resumption`.
    Disabled,
}

/// `DownstreamTlsContext`.
#[derive(Clone, Debug, Default)]
pub struct DownstreamTls {
    /// `common_tls_context`.
    pub common: TlsCommon,
    /// `require_client_certificate`.
    pub require_client_certificate: bool,
    /// `session_ticket_keys_type`.
    pub tickets: SessionTickets,
    /// `session_timeout`: how long a ticket is good for; `None` for the default (7,200 s).
    pub session_timeout: Option<Duration>,
    /// `prefer_client_ciphers`.
    pub prefer_client_ciphers: bool,
    /// `full_scan_certs_on_sni_mismatch`.
    pub full_scan_certs_on_sni_mismatch: bool,
}

impl DownstreamTls {
    /// Every secret that must have come before a handshake can succeed.
    pub fn secrets(&self) -> impl Iterator<Item = SecretId> {
        let tickets = match &self.tickets {
            SessionTickets::Keys(SecretSource::Sds(id)) => Some(*id),
            _ => None,
        };
        self.common.secrets().chain(tickets)
    }
}

/// `UpstreamTlsContext`.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// `common_tls_context`; at most one certificate.
    pub common: TlsCommon,
    /// `sni`; empty for none.
    pub sni: Arc<str>,
    /// `auto_host_sni`: the endpoint's hostname is the server name, if it has one.
    pub auto_host_sni: bool,
    /// `auto_sni_san_validation`: the server name must be among the certificate's DNS names.
    pub auto_sni_san_validation: bool,
    /// `max_session_keys`, default 1; 0 turns resumption off.
    pub max_session_keys: u32,
}
