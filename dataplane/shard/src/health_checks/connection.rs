//! What is said to an endpoint under check, on a connection that is kept for the next check.

use std::borrow::Cow;
use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Cluster, HealthCheck, ProxyProtocolVersion};
use millrace_inspect::proxy_protocol;
use millrace_upstream::health_check::{Conversation, Failure, FailureKind, Reply, Verdict};

use super::{HealthChecks, request};
use crate::address::inet;
use crate::own_connection::{Owner, Target};
use crate::shard::Shard;

/// Contexts of checks are compiled apart: a cluster that warms has others than the one that serves.
const CONTEXT_OF_CHECKS: usize = 1 << 24;

/// A connection to an endpoint under check.
#[derive(Debug)]
pub(super) struct Talk {
    connection: Key,
    conversation: Conversation,
}

/// What a conversation needs of the configuration.
struct Facts {
    cluster: Arc<Cluster>,
    check: Arc<HealthCheck>,
}

impl HealthChecks {
    /// Where an endpoint is checked.
    pub(crate) fn target(&self, probe: Key) -> Option<Target<'_>> {
        let probe = self.probes.get(probe)?;
        let checks = self.clusters.get(&probe.cluster)?;
        Some(Target {
            cluster: &checks.cluster,
            endpoint: &probe.endpoint,
            address: probe.endpoint.check_address(),
            transport_match: checks.check.transport_match.as_deref(),
            alpn: checks.check.alpn.as_deref().map(Cow::Borrowed),
            contexts: CONTEXT_OF_CHECKS,
        })
    }
}

impl Shard {
    fn check_facts(&self, probe: Key) -> Option<Facts> {
        let probe = self.health_checks.probes.get(probe)?;
        let checks = self.health_checks.clusters.get(&probe.cluster)?;
        Some(Facts { cluster: Arc::clone(&checks.cluster), check: Arc::clone(&checks.check) })
    }

    /// Opens the connection of a check.
    pub(super) fn open_check(&mut self, probe: Key) {
        let Some(Facts { cluster, check }) = self.check_facts(probe) else { return };
        let Some(connection) = self.open_own(Owner::Check(probe)) else {
            return self.check_failed(probe, Failure::of(FailureKind::Network));
        };
        let conversation = Conversation::new(&check, &cluster, self.io.now);
        if let Some(probe) = self.health_checks.probes.get_mut(probe) {
            probe.talk = Some(Talk { connection, conversation });
        }
    }

    /// Begins a check on a connection, once it is open.
    pub(crate) fn converse(&mut self, key: Key) {
        let Some(probe) = self.health_checks.probes.get(key) else { return };
        let Some(connection) = probe.talk.as_ref().map(|talk| talk.connection) else { return };
        let Some(Facts { check, .. }) = self.check_facts(key).filter(|_| self.is_own_open(connection)) else {
            return;
        };
        if Conversation::is_connect_only(&check) {
            self.close_check(key);
            return self.check_is_over(key, Verdict::Passed { degraded: false, status: 0 }, false);
        }
        let Some(target) = self.health_checks.target(key) else { return };
        let request = request::head(&check, &target, &self.names).unwrap_or_default();
        let mut wire = Vec::new();
        if let Some(version) = request::proxy_protocol(&check) {
            let ends = self.own_local(connection).zip(inet(&target.address));
            let ends = ends.map(|(source, destination)| proxy_protocol::Addresses { source, destination });
            match version {
                ProxyProtocolVersion::V1 => proxy_protocol::encode_v1(ends, &mut wire),
                ProxyProtocolVersion::V2 => {
                    // LOCAL, without addresses: it always fits.
                    let _ = proxy_protocol::encode_v2(None, std::iter::empty(), &mut wire);
                }
            }
        }
        let Some(talk) = self.talk(key) else { return };
        let reply = talk.conversation.begin(&check, &request, &mut wire);
        self.answer_check(key, reply, &wire);
    }

    fn talk(&mut self, probe: Key) -> Option<&mut Talk> {
        self.health_checks.probes.get_mut(probe)?.talk.as_mut()
    }

    /// The endpoint said something.
    pub(crate) fn check_heard(&mut self, key: Key, bytes: &[u8]) {
        let Some(Facts { check, .. }) = self.check_facts(key) else { return };
        let now = self.io.now;
        let Some(talk) = self.talk(key) else { return };
        let mut wire = Vec::new();
        let reply = talk.conversation.receive(&check, bytes, now, &mut wire);
        self.answer_check(key, reply, &wire);
    }

    /// The endpoint ended the connection.
    pub(crate) fn check_has_ended(&mut self, key: Key, clean: bool) {
        let Some(Facts { check, .. }) = self.check_facts(key) else { return };
        let Some(talk) = self.talk(key) else { return };
        let reply = talk.conversation.ended(&check, clean);
        self.answer_check(key, Reply { close: true, ..reply }, &[]);
    }

    /// There is no connection, or none that can be spoken on.
    pub(crate) fn check_is_broken(&mut self, key: Key) {
        let failed = Verdict::Failed(Failure::of(FailureKind::Network));
        self.answer_check(key, Reply { verdict: Some(failed), close: true, verified: false }, &[]);
    }

    /// Sends what the conversation says next, and takes what it has found.
    fn answer_check(&mut self, key: Key, reply: Reply, wire: &[u8]) {
        let Some(connection) = self.talk(key).map(|talk| talk.connection) else { return };
        self.write_own(connection, wire);
        if reply.close {
            self.close_check(key);
        }
        if let Some(verdict) = reply.verdict {
            self.check_is_over(key, verdict, reply.verified);
        }
    }

    /// No answer came in time.
    pub(super) fn give_up_check(&mut self, key: Key) {
        let Some(Facts { check, .. }) = self.check_facts(key) else { return };
        let Some(talk) = self.talk(key) else { return };
        let (connection, mut wire) = (talk.connection, Vec::new());
        let keep = talk.conversation.time_out(&check, &mut wire) && self.is_own_open(connection);
        self.answer_check(key, Reply { close: !keep, ..Reply::default() }, &wire);
    }

    /// Closes the connection.
    pub(super) fn close_check(&mut self, key: Key) {
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
        if let Some(talk) = probe.talk.take() {
            self.close_own(talk.connection);
        }
    }
}
