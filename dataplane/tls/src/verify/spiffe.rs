//! SPIFFE identities (X.509-SVID 4 and 5): one URI, whose trust domain chooses the roots, of a leaf that issues nothing.

use std::sync::Arc;

use millrace_config::SpiffeTrustDomain;
use x509_parser::certificate::X509Certificate;

use super::SpiffeFault;
use super::trust::Roots;
use crate::certificate::CertificateError;
use crate::certificate::x509::San;

/// The roots of every trust domain.
#[derive(Debug)]
pub(super) struct TrustDomains(Vec<(Arc<str>, Roots)>);

impl TrustDomains {
    pub(super) fn new(domains: &[SpiffeTrustDomain]) -> Result<Self, CertificateError> {
        let read = |domain: &SpiffeTrustDomain| {
            let roots = Roots::new(&domain.bundle).map_err(|_| CertificateError::EmptyTrustBundle)?;
            Ok((domain.name.clone(), roots))
        };
        domains.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Roots> {
        self.0.iter().map(|(_, roots)| roots)
    }

    /// The roots that `leaf`'s identity belongs to.
    pub(super) fn roots(&self, leaf: &X509Certificate<'_>, sans: &[San<'_>]) -> Result<&Roots, SpiffeFault> {
        if leaf
            .basic_constraints()
            .map_err(|_| SpiffeFault::LeafIsAuthority)?
            .is_some_and(|found| found.value.ca)
        {
            return Err(SpiffeFault::LeafIsAuthority);
        }
        let usage = leaf.key_usage().map_err(|_| SpiffeFault::LeafSigns)?;
        // Envoy takes a leaf without key usage for one that may do anything.
        if usage.is_none_or(|usage| usage.value.key_cert_sign() || usage.value.crl_sign()) {
            return Err(SpiffeFault::LeafSigns);
        }
        let name = trust_domain(sans).ok_or(SpiffeFault::NoTrustDomain)?;
        let found = self.0.iter().find(|(known, _)| **known == *name);
        found.map(|(_, roots)| roots).ok_or(SpiffeFault::UnknownTrustDomain)
    }
}

/// The trust domain of the only URI among the names.
fn trust_domain<'a>(sans: &[San<'a>]) -> Option<&'a str> {
    let mut uris = sans.iter().filter_map(|san| match san {
        San::Uri(uri) => Some(*uri),
        _ => None,
    });
    let (uri, None) = (uris.next()?, uris.next()) else { return None };
    let (name, _) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_comes_from_the_one_uri() {
        assert_eq!(trust_domain(&[San::Dns("x"), San::Uri("spiffe://td.example/ns/a")]), Some("td.example"));
        for sans in [
            &[San::Uri("spiffe://td.example")] as &[San<'_>],
            &[San::Uri("spiffe:///a")],
            &[San::Uri("https://td.example/a")],
            &[San::Uri("spiffe://a/b"), San::Uri("spiffe://a/c")],
            &[San::Dns("td.example")],
        ] {
            assert_eq!(trust_domain(sans), None, "{sans:?}");
        }
    }
}
