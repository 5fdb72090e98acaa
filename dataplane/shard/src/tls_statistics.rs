//! `ssl.*` statistics of listeners and clusters, and those of the listener filters.

use std::collections::BTreeMap;

use millrace_base::TlsFacts;
use millrace_config::ScopeId;
use millrace_observe::stats::{ScopeKind, TlsScopes, ssl, ssl_secrets};
use millrace_tls::FailureKind;

use crate::secure::Failure;
use crate::shard::Shard;

/// Scopes that were looked up before: the registry takes a lock.
#[derive(Debug, Default)]
pub(crate) struct KnownScopes {
    tls: BTreeMap<ScopeId, TlsScopes>,
    filters: BTreeMap<(ScopeKind, Box<str>), ScopeId>,
}

impl KnownScopes {
    /// Scopes may have been retired: all are looked up anew.
    pub(crate) fn forget(&mut self) {
        self.tls.clear();
        self.filters.clear();
    }
}

impl Shard {
    fn tls_scopes(&mut self, of: ScopeId) -> Option<TlsScopes> {
        if let Some(known) = self.scopes.tls.get(&of) {
            return Some(*known);
        }
        let found = self.stats.registry().tls_scopes(of)?;
        self.scopes.tls.insert(of, found);
        Some(found)
    }

    /// The scope of a listener filter's statistics.
    pub(crate) fn filter_scope(&mut self, kind: ScopeKind, name: &str) -> ScopeId {
        let key = (kind, Box::from(name));
        if let Some(known) = self.scopes.filters.get(&key) {
            return *known;
        }
        let found = self.stats.registry().scope(kind, name);
        self.scopes.filters.insert(key, found);
        found
    }

    /// A handshake with a client or an endpoint is through; `of` is the scope of the listener or the cluster.
    pub(crate) fn count_handshake(&mut self, of: ScopeId, facts: &TlsFacts) {
        let Some(scopes) = self.tls_scopes(of) else { return };
        for counter in ssl::handshake(facts) {
            self.stats.inc(scopes.ssl, counter);
        }
    }

    /// A session ended before its time. Each failure counts once, under what is known of it.
    pub(crate) fn count_tls_failure(&mut self, of: ScopeId, failure: &Failure) {
        let Some(scopes) = self.tls_scopes(of) else { return };
        let kind = match failure {
            Failure::Session(error) => error.counter(),
            Failure::OutOfBuffers => FailureKind::ConnectionError,
        };
        let counter = match kind {
            FailureKind::ConnectionError => ssl::CONNECTION_ERROR,
            FailureKind::VerifyNoCert => ssl::FAIL_VERIFY_NO_CERT,
            FailureKind::VerifyError => ssl::FAIL_VERIFY_ERROR,
            FailureKind::VerifySan => ssl::FAIL_VERIFY_SAN,
            FailureKind::VerifyCertHash => ssl::FAIL_VERIFY_CERT_HASH,
        };
        self.stats.inc(scopes.ssl, counter);
    }

    /// A connection was refused because a secret has not come.
    pub(crate) fn count_secrets_not_ready(&mut self, of: ScopeId, downstream: bool) {
        let Some(scopes) = self.tls_scopes(of) else { return };
        let counter = match downstream {
            true => ssl_secrets::DOWNSTREAM_CONTEXT_SECRETS_NOT_READY,
            false => ssl_secrets::UPSTREAM_CONTEXT_SECRETS_NOT_READY,
        };
        self.stats.inc(scopes.secrets, counter);
    }
}
