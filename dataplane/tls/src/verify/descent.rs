//! Paths that webpki cannot judge: with self-issued certificates, which count neither for path lengths nor for name
//! constraints, or with constraints on e-mail addresses, URIs and directory names.
//!
//! From each root down, every presented authority is checked as RFC 5280 6.1.3 and 6.1.4 say; the leaf is then
//! webpki's again, with the last authority for its root. Signatures and the reading of certificates are webpki's
//! throughout. Only a chain that holds such certificates, and that webpki has refused, comes here; with revocation lists
//! or `allow_expired_certificate` none does. See `docs/decisions/0015-certificate-rules.md`.

use std::cell::Cell;

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_EXT_NAME_CONSTRAINTS;

use super::chain::{ChainRules, content, unix};
use super::constraints::{COMPARISONS, beyond_webpki, fit, names_of};
use super::rules::{self, Place, RuleBreach};
use super::trust::{RootFacts, Roots};
use super::{ChainFault, PeerRole, VerifyError};
use crate::certificate::x509::{parse, tlv};

/// Signatures that one chain may cost; webpki has the same bound.
const SIGNATURES: u32 = 100;

/// The authority that is looked down from, and the state of RFC 5280 6.1.2.
struct Issuer<'a> {
    name: &'a [u8],
    key: &'a [u8],
    /// Authorities that may follow (`max_path_length`).
    remaining: u32,
    /// Authorities so far, self-issued ones apart.
    depth: u32,
    /// What the names below must fit: the constraints of each authority so far, which is the same as their
    /// intersection.
    constraints: Vec<&'a [u8]>,
}

struct Descent<'a> {
    rules: &'a ChainRules,
    chain: &'a [&'a [u8]],
    certificates: &'a [X509Certificate<'a>],
    now: i64,
    signatures: Cell<u32>,
    comparisons: Cell<u32>,
    breach: Cell<Option<(RuleBreach, usize)>>,
}

/// The content of a certificate's name constraints.
fn constraints_of<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    let mut extensions = certificate.extensions().iter();
    extensions.find(|one| one.oid == OID_X509_EXT_NAME_CONSTRAINTS).map(|one| content(one.value))
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == certificate.subject().as_raw()
}

/// Whether there is something in the chain, or in a root that it may lead to, that webpki lacks.
fn is_needed(roots: &Roots, certificates: &[X509Certificate<'_>]) -> bool {
    let beyond = |certificate: &X509Certificate<'_>| {
        is_self_issued(certificate) || constraints_of(certificate).is_some_and(beyond_webpki)
    };
    let leads = |anchor: &TrustAnchor<'_>| {
        let constraints = anchor.name_constraints.as_ref();
        constraints.is_some_and(|constraints| beyond_webpki(constraints))
            && certificates.iter().any(|one| content(one.issuer().as_raw()) == anchor.subject.as_ref())
    };
    certificates.iter().skip(1).any(beyond) || roots.anchors.iter().any(leads)
}

/// Whether a path of webpki's keeps the constraints that webpki passes by: those on e-mail addresses count for the
/// subject, too. `above` leads from the leaf's issuer up to below the root.
pub(super) fn constraints_hold(
    leaf: &X509Certificate<'_>,
    above: &[X509Certificate<'_>],
    in_root: Option<&[u8]>,
) -> bool {
    let budget = Cell::new(COMPARISONS);
    let all = above.iter().map(constraints_of).chain([in_root]).enumerate();
    let mut told = all.filter_map(|(at, found)| found.map(|found| (at, found)));
    told.all(|(at, constraints)| {
        let below = above[..at].iter().filter(|one| !is_self_issued(one)).chain([leaf]);
        let fits =
            |one: &X509Certificate<'_>| names_of(one).is_some_and(|names| fit(constraints, &names, &budget));
        !beyond_webpki(constraints) || below.into_iter().all(fits)
    })
}

/// Looks for a path that webpki could not find. `None`: there is none, or nothing here would make a difference.
pub(super) fn find(
    rules: &ChainRules,
    roots: &Roots,
    chain: &[&[u8]],
    now: i64,
) -> Option<Result<(), VerifyError>> {
    if !rules.crls.is_empty() || rules.allow_expired {
        return None;
    }
    let certificates: Vec<_> = chain.iter().map(|der| parse(der)).collect::<Result<_, _>>().ok()?;
    if !is_needed(roots, &certificates) {
        return None;
    }
    let descent = Descent {
        rules,
        chain,
        certificates: &certificates,
        now,
        signatures: Cell::new(SIGNATURES),
        comparisons: Cell::new(COMPARISONS),
        breach: Cell::new(None),
    };
    let found = (0..roots.anchors.len()).any(|at| descent.below_root(roots, at).is_some());
    match descent.breach.get() {
        _ if found => Some(Ok(())),
        Some((breach, depth)) => {
            let depth = u8::try_from(depth).unwrap_or(u8::MAX);
            Some(Err(VerifyError::Chain { fault: ChainFault::Rule(breach), depth }))
        }
        None => None,
    }
}

impl Descent<'_> {
    fn below_root(&self, roots: &Roots, at: usize) -> Option<()> {
        let (anchor, facts): (&TrustAnchor<'_>, RootFacts) = (&roots.anchors[at], roots.facts[at]);
        let issued = |one: &X509Certificate<'_>| content(one.issuer().as_raw()) == anchor.subject.as_ref();
        if !facts.issues || !(facts.not_before..=facts.not_after).contains(&self.now) {
            return None;
        }
        if !self.certificates.iter().any(issued) {
            return None;
        }
        let root = Issuer {
            name: &anchor.subject,
            key: &anchor.subject_public_key_info,
            remaining: facts.path_length.unwrap_or(u32::MAX),
            depth: 0,
            constraints: anchor.name_constraints.iter().map(AsRef::as_ref).collect(),
        };
        self.below(&root, &mut Vec::new())?;
        self.keeps(facts.breach(self.rules.certificate_rules), self.chain.len())
    }

    /// The leaf, or a path to it, of what this authority issued. `path` has the authorities so far.
    fn below(&self, issuer: &Issuer<'_>, path: &mut Vec<usize>) -> Option<()> {
        for (at, certificate) in self.certificates.iter().enumerate() {
            if path.contains(&at) || content(certificate.issuer().as_raw()) != issuer.name {
                continue;
            }
            if at == 0 {
                if self.leaf(issuer).is_some() {
                    return Some(());
                }
                continue;
            }
            let Some(next) = self.authority(issuer, at) else { continue };
            path.push(at);
            if self.below(&next, path).is_some() {
                return Some(());
            }
            path.pop();
        }
        None
    }

    /// RFC 5280 6.1.3 and 6.1.4 for one authority below `issuer`.
    fn authority<'a>(&'a self, issuer: &Issuer<'a>, at: usize) -> Option<Issuer<'a>> {
        let certificate = &self.certificates[at];
        self.check_authority(certificate)?;
        self.check_signature(issuer, at)?;
        let own = is_self_issued(certificate);
        if !own && !self.names_fit(issuer, certificate) {
            return None;
        }
        let mut remaining = issuer.remaining;
        let mut depth = issuer.depth;
        if !own {
            remaining = remaining.checked_sub(1)?;
            depth += 1;
        }
        // As where webpki found the path: the root counts, and 0 is taken for 1.
        if self.rules.max_depth.is_some_and(|most| depth >= most.max(1)) {
            return None;
        }
        let basic = certificate.basic_constraints().ok().flatten()?;
        remaining = remaining.min(basic.value.path_len_constraint.unwrap_or(u32::MAX));
        let mut constraints = issuer.constraints.clone();
        constraints.extend(constraints_of(certificate));
        self.keeps(rules::check(self.rules.certificate_rules, certificate, Place::Intermediate).err(), at)?;
        let key = content(certificate.public_key().raw);
        Some(Issuer { name: content(certificate.subject().as_raw()), key, remaining, depth, constraints })
    }

    /// What an authority must be, whoever issued it.
    fn check_authority(&self, certificate: &X509Certificate<'_>) -> Option<()> {
        let validity = certificate.validity();
        let valid = validity.not_before.timestamp()..=validity.not_after.timestamp();
        let usage = certificate.key_usage().ok()?;
        let purposes = certificate.extended_key_usage().ok()?;
        let serves = purposes.is_none_or(|purposes| match self.rules.role {
            PeerRole::Client => purposes.value.client_auth,
            PeerRole::Server => purposes.value.server_auth,
        });
        let authority = certificate.basic_constraints().ok().flatten()?.value.ca;
        let signs = usage.is_none_or(|usage| usage.value.key_cert_sign());
        (authority && signs && serves && valid.contains(&self.now)).then_some(())
    }

    /// Final certificates are held to constraints even if they issued themselves.
    fn names_fit(&self, issuer: &Issuer<'_>, certificate: &X509Certificate<'_>) -> bool {
        let Some(names) = names_of(certificate) else { return false };
        issuer.constraints.iter().all(|constraints| fit(constraints, &names, &self.comparisons))
    }

    /// The leaf is webpki's: signature, validity, purposes, extensions.
    fn leaf(&self, issuer: &Issuer<'_>) -> Option<()> {
        let certificate = &self.certificates[0];
        self.spend_signature()?;
        let anchors = [TrustAnchor {
            subject: issuer.name.into(),
            subject_public_key_info: issuer.key.into(),
            name_constraints: None,
        }];
        let usage = match self.rules.role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        let der = CertificateDer::from(self.chain[0]);
        let leaf = EndEntityCert::try_from(&der).ok()?;
        let algorithms = self.rules.algorithms.all;
        leaf.verify_for_usage(algorithms, &anchors, &[], unix(self.now), usage, None, None).ok()?;
        if !self.names_fit(issuer, certificate) {
            return None;
        }
        self.keeps(rules::check(self.rules.certificate_rules, certificate, Place::Leaf).err(), 0)
    }

    fn spend_signature(&self) -> Option<()> {
        self.signatures.set(self.signatures.get().checked_sub(1)?);
        Some(())
    }

    /// Webpki reads the certificate, which refuses critical extensions that it does not know, and checks its signature.
    fn check_signature(&self, issuer: &Issuer<'_>, at: usize) -> Option<()> {
        let der = CertificateDer::from(self.chain[at]);
        EndEntityCert::try_from(&der).ok()?;
        let signed = content(self.chain[at]);
        let (_, _, rest) = tlv(signed)?;
        let message = &signed[..signed.len() - rest.len()];
        let (0x30, algorithm, _) = tlv(rest)? else { return None };
        let key = sequence(issuer.key);
        let key = SubjectPublicKeyInfoDer::from(key.as_slice());
        let key = RawPublicKeyEntity::try_from(&key).ok()?;
        let signature = &self.certificates[at].signature_value.data;
        let algorithms = self.rules.algorithms.all.iter();
        for known in algorithms.filter(|known| known.signature_alg_id().as_ref() == algorithm) {
            self.spend_signature()?;
            if key.verify_signature(*known, message, signature).is_ok() {
                return Some(());
            }
        }
        None
    }

    /// Remembers the rule that a path breaks which is good otherwise.
    fn keeps(&self, breach: Option<RuleBreach>, depth: usize) -> Option<()> {
        let Some(breach) = breach else { return Some(()) };
        self.breach.set(Some((breach, depth)));
        None
    }
}

/// A SEQUENCE of this content, which is at most as long as the chain.
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    let skipped = length.iter().take_while(|byte| **byte == 0).count().min(3);
    let mut der = vec![0x30];
    if content.len() > 0x7f {
        der.push(0x80 | (4 - skipped as u8));
    }
    der.extend_from_slice(&length[skipped..]);
    der.extend_from_slice(content);
    der
}
