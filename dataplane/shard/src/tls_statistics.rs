//! `ssl.*` statistics of listeners and clusters.

use millrace_base::TlsFacts;
use millrace_config::ScopeId;

use crate::secure::Failure;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn count_listener_handshake(&mut self, _scope: ScopeId, _facts: &TlsFacts) {}
    pub(crate) fn count_listener_tls_failure(&mut self, _scope: ScopeId, _failure: &Failure) {}
    pub(crate) fn count_listener_abandoned(&mut self, _scope: ScopeId) {}
    pub(crate) fn count_cluster_handshake(&mut self, _scope: ScopeId, _facts: &TlsFacts) {}
    pub(crate) fn count_cluster_tls_failure(&mut self, _scope: ScopeId, _failure: &Failure) {}
    pub(crate) fn count_cluster_abandoned(&mut self, _scope: ScopeId) {}
}
