//! The verifier of one validation context.

use std::sync::Arc;

use aws_lc_rs::digest;
use millrace_config::{SanKind, SanMatcher, ValidationContext};
use rustls::{DistinguishedName, SignatureScheme};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::X509Extension;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::chain::{ChainRules, check_size};
use super::known::Standing;
use super::spiffe::TrustDomains;
use super::trust::Roots;
use super::{CertificateRules, ChainFault, TrustCache, VerifyError, names};
use crate::certificate::x509::{San, parse, sans};
use crate::certificate::{CertificateError, key};

/// Which side of the handshake the certificate is of: decides about key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PeerRole {
    Client,
    Server,
}

/// What a verifier needs to know beside the context.
#[derive(Clone, Debug)]
pub struct VerifierOptions {
    /// Whose certificates it will see.
    pub role: PeerRole,
    /// `require_client_certificate`.
    pub required: bool,
    /// What certificates must look like.
    pub rules: CertificateRules,
    /// Signature algorithms of the provider.
    pub algorithms: rustls::crypto::WebPkiSupportedAlgorithms,
    /// `signature_algorithms`: what a handshake may be signed with. `None`: all of the provider's.
    pub schemes: Option<Arc<[SignatureScheme]>>,
}

/// A peer that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Something vouched for it: a trusted root, or a fingerprint. False where everything is accepted.
    pub validated: bool,
}

/// Where trust comes from.
#[derive(Debug)]
enum Trust {
    /// No `trusted_ca`: no chain is looked at.
    Anything,
    Roots(Arc<Roots>),
    Spiffe(TrustDomains),
}

/// Verifies peers for one `CertificateValidationContext`; immutable.
#[derive(Debug)]
pub struct Verifier {
    options: VerifierOptions,
    rules: ChainRules,
    standing: Standing,
    trust: Trust,
    accept_untrusted: bool,
    matchers: Vec<SanMatcher>,
    certificate_hashes: Vec<[u8; 32]>,
    spki_hashes: Vec<[u8; 32]>,
    hints: Vec<DistinguishedName>,
}

impl Verifier {
    /// Reads the roots and lists of `context`. `None` stands for a transport socket without a context: everything
    /// is accepted.
    pub fn new(
        context: Option<&ValidationContext>,
        options: VerifierOptions,
        cache: &TrustCache,
    ) -> Result<Arc<Self>, CertificateError> {
        let nothing = ValidationContext::default();
        let context = context.unwrap_or(&nothing);
        let trust = trust(context, cache)?;
        let crls = context.crls.iter().map(|der| read_crl(der, options.rules)).collect::<Result<_, _>>()?;
        let hints = match &trust {
            Trust::Anything => Vec::new(),
            Trust::Roots(roots) => roots.subjects(),
            Trust::Spiffe(domains) => domains.all().flat_map(Roots::subjects).collect(),
        };
        let spiffe = matches!(trust, Trust::Spiffe(_));
        // SPIFFE says nothing of other names, so that the validator looks at URIs only.
        let applies = |matcher: &&SanMatcher| !spiffe || matcher.kind == SanKind::Uri;
        let rules = ChainRules {
            role: options.role,
            certificate_rules: options.rules,
            algorithms: options.algorithms,
            crls,
            only_leaf_crl: context.only_leaf_crl,
            allow_expired: context.allow_expired,
            max_depth: context.max_verify_depth,
        };
        Ok(Arc::new(Self {
            options,
            standing: Standing::new(&rules, &context.crls),
            rules,
            trust,
            accept_untrusted: context.accept_untrusted && !spiffe,
            matchers: context.san_matchers.iter().filter(applies).cloned().collect(),
            certificate_hashes: context.certificate_hashes.clone(),
            spki_hashes: context.spki_hashes.clone(),
            hints,
        }))
    }

    /// Verifies `chain` (DER, leaf first) at `now_unix` seconds. `extra_dns_san` must be among the DNS names as well.
    pub fn verify(
        &self,
        chain: &[&[u8]],
        now_unix: i64,
        extra_dns_san: Option<&str>,
    ) -> Result<Verified, VerifyError> {
        let Some(leaf) = chain.first() else { return Err(VerifyError::NoCertificate) };
        check_size(chain)?;
        let malformed = VerifyError::Chain { fault: ChainFault::Malformed, depth: 0 };
        let certificate = parse(leaf).map_err(|_| malformed)?;
        if !key::is_usable(&certificate) {
            return Err(malformed);
        }
        let sans = sans(&certificate);
        let judged = self.judge(chain, &certificate, &sans, now_unix, extra_dns_san);
        match judged {
            Err(_) if self.accept_untrusted => Ok(Verified { validated: false }),
            judged => judged,
        }
    }

    fn judge(
        &self,
        chain: &[&[u8]],
        leaf: &X509Certificate<'_>,
        sans: &[San<'_>],
        now: i64,
        extra_dns_san: Option<&str>,
    ) -> Result<Verified, VerifyError> {
        let mut validated = true;
        match &self.trust {
            Trust::Anything => validated = false,
            Trust::Roots(roots) => self.check_chain(roots, chain, leaf, now)?,
            Trust::Spiffe(domains) => {
                let roots = domains.roots(leaf, sans).map_err(VerifyError::Spiffe)?;
                self.check_chain(roots, chain, leaf, now)?;
            }
        }
        if extra_dns_san.is_some_and(|wanted| !names::covers(wanted, sans)) {
            return Err(VerifyError::SubjectAltName);
        }
        if !self.matchers.is_empty() && !names::any_matches(&self.matchers, sans) {
            return Err(VerifyError::SubjectAltName);
        }
        if self.asks_for_hashes() {
            if !self.hash_vouches(chain[0], leaf) {
                return Err(VerifyError::Hash);
            }
            validated = true;
        }
        Ok(Verified { validated })
    }

    /// The chain check, unless the same bytes passed it before.
    fn check_chain(
        &self,
        roots: &Roots,
        chain: &[&[u8]],
        leaf: &X509Certificate<'_>,
        now: i64,
    ) -> Result<(), VerifyError> {
        roots.known.or_verify(
            self.standing.key(chain),
            now,
            || self.rules.verify(roots, chain, leaf, now),
            || self.standing.window(roots, chain, leaf, now),
        )
    }

    /// Whether `chain` passed the chain check before, with these rules, and would pass at `now_unix` without one.
    pub fn knows(&self, chain: &[&[u8]], now_unix: i64) -> bool {
        let Some(key) = self.standing.key(chain) else { return false };
        match &self.trust {
            Trust::Anything => false,
            Trust::Roots(roots) => roots.known.knows(&key, now_unix),
            Trust::Spiffe(domains) => domains.all().any(|roots| roots.known.knows(&key, now_unix)),
        }
    }

    fn asks_for_hashes(&self) -> bool {
        // The SPIFFE validator does not look at them.
        let looked_at = !matches!(self.trust, Trust::Spiffe(_));
        looked_at && !(self.certificate_hashes.is_empty() && self.spki_hashes.is_empty())
    }

    /// Either list may vouch.
    fn hash_vouches(&self, der: &[u8], leaf: &X509Certificate<'_>) -> bool {
        let among = |hashes: &[[u8; 32]], bytes: &[u8]| {
            !hashes.is_empty() && {
                let hash = digest::digest(&digest::SHA256, bytes);
                hashes.iter().any(|known| known == hash.as_ref())
            }
        };
        among(&self.certificate_hashes, der) || among(&self.spki_hashes, leaf.public_key().raw)
    }

    /// What it was made with.
    pub fn options(&self) -> &VerifierOptions {
        &self.options
    }

    /// Whether a server asks its clients for a certificate at all: as Envoy, only with something to hold it against,
    /// or when one is required.
    pub fn asks(&self) -> bool {
        self.requires() || self.accept_untrusted || !matches!(self.trust, Trust::Anything)
    }

    /// Whether a client without a certificate is refused: required, or names or fingerprints are asked for (as Envoy
    /// does), or its SPIFFE identity.
    pub fn requires(&self) -> bool {
        let named = !self.matchers.is_empty() || self.asks_for_hashes();
        self.options.required || named && !self.accept_untrusted || matches!(self.trust, Trust::Spiffe(_))
    }

    /// Subjects of the trusted roots, which a server tells its clients.
    pub fn root_hints(&self) -> &[DistinguishedName] {
        &self.hints
    }
}

fn trust(context: &ValidationContext, cache: &TrustCache) -> Result<Trust, CertificateError> {
    if let Some(domains) = &context.spiffe {
        return TrustDomains::new(domains).map(Trust::Spiffe);
    }
    if let Some(bundle) = &context.trusted_ca {
        return cache.roots(bundle).map(Trust::Roots);
    }
    if !context.san_matchers.is_empty() {
        return Err(CertificateError::MatchersWithoutAuthority);
    }
    if !context.crls.is_empty() {
        return Err(CertificateError::CrlWithoutAuthority);
    }
    if context.allow_expired {
        return Err(CertificateError::ExpiryWithoutAuthority);
    }
    Ok(Trust::Anything)
}

/// BoringSSL takes no list with a critical extension that it does not know; of the known ones, webpki refuses the
/// lists that it cannot use.
fn read_crl(der: &[u8], rules: CertificateRules) -> Result<CertRevocationList<'static>, CertificateError> {
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| CertificateError::Crl)?;
    let known = |extension: &X509Extension<'_>| extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
    if list.extensions().iter().any(|extension| extension.critical && !known(extension)) {
        return Err(CertificateError::Crl);
    }
    if rules.asks_for_crl_numbers() && list.crl_number().is_none() {
        return Err(CertificateError::Crl);
    }
    OwnedCertRevocationList::from_der(der).map(Into::into).map_err(|_| CertificateError::Crl)
}
