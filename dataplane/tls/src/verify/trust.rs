//! Trusted roots, read once for all contexts of a shard that hold the same bundle.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use rustls::DistinguishedName;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;

use super::known::KnownChains;
use super::rules::{self, CertificateRules, Place, RuleBreach};
use crate::certificate::CertificateError;
use crate::certificate::x509::parse;

type Bundle = [Arc<[u8]>];

/// What BoringSSL asks of a root, and webpki does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RootFacts {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// It may issue certificates.
    pub(super) issues: bool,
    /// It may sign revocation lists.
    pub(super) signs_lists: bool,
    /// Intermediates that may follow.
    pub(super) path_length: Option<u32>,
    /// The rule that it breaks, for each of [`CertificateRules::ALL`].
    breaches: [Option<RuleBreach>; 3],
}

impl RootFacts {
    /// The rule of a profile that it breaks.
    pub(super) fn breach(&self, held_to: CertificateRules) -> Option<RuleBreach> {
        CertificateRules::ALL
            .iter()
            .zip(self.breaches)
            .find_map(|(rules, breach)| if *rules == held_to { breach } else { None })
    }
}

/// The roots of one bundle.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Certificates that can be roots.
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// Of each of [`Self::anchors`].
    pub(super) facts: Vec<RootFacts>,
    /// The DER of each of [`Self::anchors`].
    pub(super) certificates: Vec<Arc<[u8]>>,
    /// Chains that lead here: with the roots they end.
    pub(super) known: KnownChains,
}

impl Roots {
    /// What cannot be a root is left out, since bundles hold such certificates; but one must be left.
    pub(super) fn new(bundle: &Bundle) -> Result<Self, CertificateError> {
        let mut roots = Self::default();
        for der in bundle {
            let certificate = CertificateDer::from(&**der);
            let (Ok(anchor), Ok(parsed)) = (anchor_from_trusted_cert(&certificate), parse(der)) else {
                continue;
            };
            roots.anchors.push(anchor.to_owned());
            roots.facts.push(facts(&parsed));
            roots.certificates.push(der.clone());
        }
        if roots.anchors.is_empty() { Err(CertificateError::TrustedCa) } else { Ok(roots) }
    }

    /// Subjects, each once.
    pub(super) fn subjects(&self) -> Vec<DistinguishedName> {
        let mut subjects: Vec<DistinguishedName> = Vec::new();
        for anchor in &self.anchors {
            let name = DistinguishedName::in_sequence(&anchor.subject);
            if !subjects.iter().any(|known| known.as_ref() == name.as_ref()) {
                subjects.push(name);
            }
        }
        subjects
    }
}

fn facts(certificate: &X509Certificate<'_>) -> RootFacts {
    let constraints = certificate.basic_constraints().ok().flatten();
    // Without the extensions, of which roots of version 1 have none, a trusted root may issue, as in BoringSSL.
    let (signs_certificates, signs_lists) = match certificate.key_usage() {
        Ok(usage) => {
            usage.map_or((true, true), |usage| (usage.value.key_cert_sign(), usage.value.crl_sign()))
        }
        Err(_) => (false, false),
    };
    // BoringSSL finds no issuer in a certificate that says so (RFC 5280 4.2.1.2 forbids it).
    let mut extensions = certificate.extensions().iter();
    let critical_key_id =
        extensions.any(|one| one.critical && one.oid == OID_X509_EXT_SUBJECT_KEY_IDENTIFIER);
    let may_issue = signs_certificates && !critical_key_id;
    RootFacts {
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        issues: may_issue && constraints.as_ref().is_none_or(|constraints| constraints.value.ca),
        signs_lists,
        path_length: constraints.and_then(|constraints| constraints.value.path_len_constraint),
        breaches: CertificateRules::ALL.map(|held_to| rules::check(held_to, certificate, Place::Root).err()),
    }
}

/// Roots of bundles that some context of this shard still holds.
#[derive(Debug, Default)]
pub struct TrustCache {
    known: RefCell<Vec<(Weak<Bundle>, Weak<Roots>)>>,
}

impl TrustCache {
    /// The roots of `bundle`, which is known by its address.
    pub(super) fn roots(&self, bundle: &Arc<Bundle>) -> Result<Arc<Roots>, CertificateError> {
        let mut known = self.known.borrow_mut();
        known.retain(|(bundle, roots)| bundle.strong_count() > 0 && roots.strong_count() > 0);
        let found = known.iter().find(|(other, _)| std::ptr::addr_eq(other.as_ptr(), Arc::as_ptr(bundle)));
        if let Some(roots) = found.and_then(|(_, roots)| roots.upgrade()) {
            return Ok(roots);
        }
        let roots = Arc::new(Roots::new(bundle)?);
        known.push((Arc::downgrade(bundle), Arc::downgrade(&roots)));
        Ok(roots)
    }
}
