//! The path from a leaf to a trusted root: webpki builds it within its budgets, and what BoringSSL asks for beyond
//! webpki is looked at on every path that it finds.

use std::cell::Cell;
use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::rules::{self, CertificateRules, Place, RuleBreach};
use super::trust::{RootFacts, Roots};
use super::{ChainFault, PeerRole, VerifyError, descent};
use crate::certificate::x509::{parse, tlv};
use crate::certificate::{MAX_CHAIN, MAX_CHAIN_BYTES};

/// How a chain is verified: the part of a context that is not about names.
#[derive(Debug)]
pub(super) struct ChainRules {
    pub(super) role: PeerRole,
    pub(super) certificate_rules: CertificateRules,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) crls: Vec<CertRevocationList<'static>>,
    pub(super) only_leaf_crl: bool,
    pub(super) allow_expired: bool,
    pub(super) max_depth: Option<u32>,
}

/// Chains are bounded before anything is computed with them.
pub(super) fn check_size(chain: &[&[u8]]) -> Result<(), VerifyError> {
    let bytes: usize = chain.iter().map(|der| der.len()).sum();
    if chain.len() > MAX_CHAIN || bytes > MAX_CHAIN_BYTES {
        return Err(VerifyError::Chain { fault: ChainFault::TooLong, depth: 0 });
    }
    Ok(())
}

impl ChainRules {
    /// Verifies `chain`, of which `leaf` is the first, at `now` seconds since 1970.
    pub(super) fn verify(
        &self,
        roots: &Roots,
        chain: &[&[u8]],
        leaf: &X509Certificate<'_>,
        now: i64,
    ) -> Result<(), VerifyError> {
        self.check_leaf_usage(leaf)?;
        if self.crls.is_empty() && roots.certificates.iter().any(|root| **root == *chain[0]) {
            return self.trusted_leaf(leaf, now);
        }
        let at_leaf = |fault| VerifyError::Chain { fault, depth: 0 };
        let end_entity = CertificateDer::from(chain[0]);
        let end_entity = EndEntityCert::try_from(&end_entity).map_err(|error| at_leaf(fault(&error)))?;
        let rest: Vec<_> = chain[1..].iter().map(|der| CertificateDer::from(*der)).collect();
        let breach = Cell::new(None);
        let search = Search { roots, leaf, breach: &breach };
        let Err(error) = self.find_path(&search, &end_entity, &rest, now) else { return Ok(()) };
        if let Some((breach, depth)) = breach.get() {
            return Err(VerifyError::Chain { fault: ChainFault::Rule(breach), depth });
        }
        descent::find(self, roots, chain, now).unwrap_or_else(|| {
            let fault = match fault(&error) {
                ChainFault::BadSignature if !issuer_is_meant(roots, chain) => ChainFault::UnknownIssuer,
                fault => fault,
            };
            Err(VerifyError::Chain { fault, depth: depth(fault, chain, now) })
        })
    }

    /// A leaf that is itself trusted needs no path (`X509_V_FLAG_PARTIAL_CHAIN`): self-signed certificates. The rules
    /// of the mesh ask nothing of one that somebody listed.
    fn trusted_leaf(&self, leaf: &X509Certificate<'_>, now: i64) -> Result<(), VerifyError> {
        let validity = leaf.validity();
        let listed = self.certificate_rules == CertificateRules::Mesh;
        let rules = rules::check(self.certificate_rules, leaf, Place::Leaf);
        let fault = if let (false, Err(breach)) = (listed, rules) {
            ChainFault::Rule(breach)
        } else if self.allow_expired {
            return Ok(());
        } else if now < validity.not_before.timestamp() {
            ChainFault::NotYetValid
        } else if now > validity.not_after.timestamp() {
            ChainFault::Expired
        } else {
            return Ok(());
        };
        Err(VerifyError::Chain { fault, depth: 0 })
    }

    /// Key usage and its extension, for the leaf's side of the handshake.
    fn check_leaf_usage(&self, leaf: &X509Certificate<'_>) -> Result<(), VerifyError> {
        let usage =
            leaf.key_usage().map_err(|_| VerifyError::Chain { fault: ChainFault::Malformed, depth: 0 })?;
        let usage_fits = usage.is_none_or(|usage| {
            let usage = usage.value;
            let either = usage.digital_signature() || usage.key_agreement();
            either || self.role == PeerRole::Server && usage.key_encipherment()
        });
        let extended = leaf
            .extended_key_usage()
            .map_err(|_| VerifyError::Chain { fault: ChainFault::Malformed, depth: 0 })?;
        let extended_fits = extended.is_none_or(|extended| match self.role {
            PeerRole::Client => extended.value.client_auth,
            PeerRole::Server => extended.value.server_auth,
        });
        if usage_fits && extended_fits {
            return Ok(());
        }
        Err(VerifyError::Chain { fault: ChainFault::Purpose, depth: 0 })
    }

    /// With `allow_expired` other moments are tried, one for each certificate that was not valid, since webpki has no
    /// verification without a clock: chains whose certificates were never valid together are refused.
    fn find_path(
        &self,
        search: &Search<'_>,
        leaf: &EndEntityCert<'_>,
        rest: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<(), Error> {
        let mut time = unix(now);
        let mut tries = if self.allow_expired { rest.len() + 2 } else { 1 };
        loop {
            let error = match self.find_path_at(search, leaf, rest, time) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tries -= 1;
            match error {
                Error::CertExpired { not_after, .. } if tries > 0 => time = not_after,
                Error::CertNotValidYet { not_before, .. } if tries > 0 => time = not_before,
                error => return Err(error),
            }
        }
    }

    fn find_path_at(
        &self,
        search: &Search<'_>,
        leaf: &EndEntityCert<'_>,
        rest: &[CertificateDer<'_>],
        time: UnixTime,
    ) -> Result<(), Error> {
        let crls: Vec<_> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            let depth = if self.only_leaf_crl {
                RevocationCheckDepth::EndEntity
            } else {
                RevocationCheckDepth::Chain
            };
            let expired =
                if self.allow_expired { ExpirationPolicy::Ignore } else { ExpirationPolicy::Enforce };
            let options = options.with_depth(depth).with_status_policy(UnknownStatusPolicy::Deny);
            options.with_expiration_policy(expired).build()
        });
        let usage = match self.role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        let anchors = &search.roots.anchors;
        let check = |path: &VerifiedPath<'_>| {
            let at = anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
            let root = at.map(|at| search.roots.facts[at]).ok_or(Error::UnknownIssuer)?;
            self.check_path(path, root, time)?;
            search.keeps_rules(self.certificate_rules, path, root)
        };
        leaf.verify_for_usage(self.algorithms.all, anchors, rest, time, usage, revocation, Some(&check))
            .map(drop)
    }

    /// What webpki leaves out: depth as configured, the root's own validity and constraints, and key usage of issuers.
    fn check_path(&self, path: &VerifiedPath<'_>, root: RootFacts, time: UnixTime) -> Result<(), Error> {
        let mut length = 0;
        let mut counted = 0;
        for intermediate in path.intermediate_certificates() {
            let der = intermediate.der();
            let certificate = parse(&der).map_err(|_| Error::BadDer)?;
            let usage = certificate.key_usage().map_err(|_| Error::BadDer)?;
            if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
                return Err(Error::EndEntityUsedAsCa);
            }
            length += 1;
            // Self-issued certificates do not count for path lengths (RFC 5280 4.2.1.9).
            counted += u32::from(certificate.subject() != certificate.issuer());
        }
        // Measured: Envoy counts the root, and takes 0 for 1.
        if self.max_depth.is_some_and(|most| length >= most.max(1)) {
            return Err(Error::MaximumPathDepthExceeded);
        }
        if !root.issues {
            return Err(Error::EndEntityUsedAsCa);
        }
        let root_lists = !self.crls.is_empty() && (length == 0 || !self.only_leaf_crl);
        if root_lists && !root.signs_lists {
            return Err(Error::IssuerNotCrlSigner);
        }
        if root.path_length.is_some_and(|most| counted > most) {
            return Err(Error::PathLenConstraintViolated);
        }
        if self.allow_expired {
            return Ok(());
        }
        let (not_before, not_after) = (unix(root.not_before), unix(root.not_after));
        if time < not_before {
            return Err(Error::CertNotValidYet { time, not_before });
        }
        if time > not_after {
            return Err(Error::CertExpired { time, not_after });
        }
        Ok(())
    }
}

/// One search for a path, and the rule that a path broke which was good otherwise.
struct Search<'a> {
    roots: &'a Roots,
    leaf: &'a X509Certificate<'a>,
    breach: &'a Cell<Option<(RuleBreach, u8)>>,
}

impl Search<'_> {
    fn keeps_rules(
        &self,
        held_to: CertificateRules,
        path: &VerifiedPath<'_>,
        root: RootFacts,
    ) -> Result<(), Error> {
        let refuse = |breach, depth| {
            self.breach.set(Some((breach, depth)));
            Error::UnknownIssuer
        };
        rules::check(held_to, self.leaf, Place::Leaf).map_err(|breach| refuse(breach, 0))?;
        let ders: Vec<_> = path.intermediate_certificates().map(|one| one.der()).collect();
        let above = ders.iter().map(|der| parse(der)).collect::<Result<Vec<_>, _>>();
        let above = above.map_err(|_| Error::BadDer)?;
        let mut depth = 1;
        for certificate in &above {
            rules::check(held_to, certificate, Place::Intermediate)
                .map_err(|breach| refuse(breach, depth))?;
            depth += 1;
        }
        let in_root = path.anchor().name_constraints.as_ref().map(AsRef::as_ref);
        if !descent::constraints_hold(self.leaf, &above, in_root) {
            return Err(Error::NameConstraintViolation);
        }
        root.breach(held_to).map_or(Ok(()), |breach| Err(refuse(breach, depth)))
    }
}

/// False where key identifiers (RFC 5280 4.2.1.1) say that the signature was made by none of the roots of that
/// name: another key of a rotated authority. BoringSSL then knows no issuer.
fn issuer_is_meant(roots: &Roots, chain: &[&[u8]]) -> bool {
    let last = chain.iter().filter_map(|der| parse(der).ok()).find(|one| {
        roots.anchors.iter().any(|anchor| anchor.subject.as_ref() == content(one.issuer().as_raw()))
    });
    let Some(wanted) = last.as_ref().and_then(authority_key_id) else { return true };
    roots.certificates.iter().filter_map(|der| parse(der).ok()).any(|root| {
        let same_name = last.as_ref().is_some_and(|last| last.issuer().as_raw() == root.subject().as_raw());
        same_name && subject_key_id(&root).is_none_or(|id| id == wanted)
    })
}

/// What a SEQUENCE holds.
pub(super) fn content(der: &[u8]) -> &[u8] {
    tlv(der).map_or(&[], |(_, content, _)| content)
}

fn authority_key_id<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}

fn subject_key_id<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

pub(super) fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

fn fault(error: &Error) -> ChainFault {
    match error {
        Error::CertExpired { .. } | Error::InvalidCertValidity => ChainFault::Expired,
        Error::CertNotValidYet { .. } => ChainFault::NotYetValid,
        Error::UnknownIssuer => ChainFault::UnknownIssuer,
        Error::CertRevoked => ChainFault::Revoked,
        Error::UnknownRevocationStatus => ChainFault::RevocationUnknown,
        Error::CrlExpired { .. } => ChainFault::CrlExpired,
        Error::InvalidSignatureForPublicKey | Error::InvalidCrlSignatureForPublicKey => {
            ChainFault::BadSignature
        }
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => ChainFault::UnsupportedSignature,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => ChainFault::Purpose,
        Error::EndEntityUsedAsCa => ChainFault::NotAnAuthority,
        Error::IssuerNotCrlSigner => ChainFault::CrlSigner,
        Error::CaUsedAsEndEntity => ChainFault::AuthorityAsLeaf,
        Error::PathLenConstraintViolated => ChainFault::PathLength,
        Error::NameConstraintViolation | Error::MalformedNameConstraint => ChainFault::NameConstraints,
        Error::UnsupportedCriticalExtension => ChainFault::UnknownCriticalExtension,
        Error::MaximumPathDepthExceeded => ChainFault::TooLong,
        Error::MaximumNameConstraintComparisonsExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded => ChainFault::TooMuchWork,
        _ => ChainFault::Malformed,
    }
}

/// Which certificate of the chain is at fault, for the log: webpki does not tell.
fn depth(fault: ChainFault, chain: &[&[u8]], now: i64) -> u8 {
    let certificates: Vec<_> = chain.iter().map_while(|der| parse(der).ok()).collect();
    let at = match fault {
        ChainFault::Expired => certificates.iter().position(|one| one.validity().not_after.timestamp() < now),
        ChainFault::NotYetValid => {
            certificates.iter().position(|one| one.validity().not_before.timestamp() > now)
        }
        ChainFault::UnknownIssuer => {
            let linked = |pair: &&[X509Certificate<'_>]| pair[0].issuer() == pair[1].subject();
            Some(certificates.windows(2).take_while(linked).count())
        }
        _ => Some(0),
    };
    // Nothing in the chain is at fault: it is the root.
    u8::try_from(at.unwrap_or(chain.len())).unwrap_or(u8::MAX)
}
