//! Which certificate a server shows (`extensions.transport_sockets.tls` default certificate selector).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millrace_base::LocalCertificate;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::identity::Identity;

/// The certificates of one context. First by server name, exact and then with one label as a wildcard; among those
/// an ECDSA one for clients that can verify it, and RSA otherwise. Nothing found is the first certificate, unless
/// no name was asked for or `full_scan_certs_on_sni_mismatch` is set: then all are looked at.
#[derive(Debug)]
pub(crate) struct Selection {
    keys: Vec<(Arc<CertifiedKey>, Arc<Identity>)>,
    full_scan: bool,
    /// What was shown last. Only this shard's thread chooses, and it asks at once.
    last: AtomicUsize,
}

impl Selection {
    pub(crate) fn new(keys: Vec<(Arc<CertifiedKey>, Arc<Identity>)>, full_scan: bool) -> Self {
        Self { keys, full_scan, last: AtomicUsize::new(0) }
    }

    /// The certificate that was chosen by the last call into rustls.
    pub(crate) fn last(&self) -> Option<Arc<LocalCertificate>> {
        let (_, identity) = self.keys.get(self.last.load(Ordering::Relaxed))?;
        Some(identity.local.clone())
    }

    fn choose(&self, server_name: Option<&str>, schemes: &[SignatureScheme]) -> usize {
        let Some(name) = server_name.map(str::to_ascii_lowercase) else {
            return self.among(|_| true, schemes).unwrap_or(0);
        };
        let wildcard = name.find('.').map(|dot| format!("*{}", &name[dot..]));
        let named = |wanted: &str| {
            let wanted = wanted.to_owned();
            move |identity: &Identity| identity.names.iter().any(|name| **name == *wanted)
        };
        let exists = |wanted: &str| self.keys.iter().any(|(_, identity)| named(wanted)(identity));
        let by_name = if exists(&name) {
            self.among(named(&name), schemes)
        } else {
            wildcard
                .filter(|wildcard| exists(wildcard))
                .and_then(|wildcard| self.among(named(&wildcard), schemes))
        };
        by_name.or_else(|| self.full_scan.then(|| self.among(|_| true, schemes)).flatten()).unwrap_or(0)
    }

    /// The first ECDSA certificate that the client can verify, or else the first of RSA, among some.
    fn among(&self, wanted: impl Fn(&Identity) -> bool, schemes: &[SignatureScheme]) -> Option<usize> {
        let find = |ecdsa: bool| {
            self.keys.iter().position(|(key, identity)| {
                identity.ecdsa == ecdsa && wanted(identity) && key.key.choose_scheme(schemes).is_some()
            })
        };
        find(true).or_else(|| find(false))
    }
}

impl ResolvesServerCert for Selection {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(client_hello.server_name(), client_hello.signature_schemes());
        self.last.store(chosen, Ordering::Relaxed);
        self.keys.get(chosen).map(|(key, _)| key.clone())
    }
}
