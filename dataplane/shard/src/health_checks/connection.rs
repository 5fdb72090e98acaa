//! The socket of a check: opened like any other connection to an endpoint, TLS included, and kept for the next check.

use std::rc::Rc;
use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Cluster, HealthCheck, ProxyProtocolVersion, UpstreamProxyProtocol};
use millrace_inspect::proxy_protocol;
use millrace_ring::{Filled, IoError, Op, Payload, RecvEnd, Socket as RingSocket};
use millrace_upstream::health_check::{Conversation, Failure, FailureKind, Reply, Verdict};

use super::request;
use crate::address::{inet, to_ring};
use crate::link::Link;
use crate::secure_upstream::{own_session, proxy_protocol_header, transport};
use crate::shard::Shard;
use crate::token::Kind;
use crate::upstream::connect_options;

/// Contexts of checks are compiled apart: a cluster that warms has others than the one that serves.
const CONTEXT_OF_CHECKS: usize = 1 << 24;

/// One connection to an endpoint under check.
#[derive(Debug)]
pub(super) struct Socket {
    probe: Key,
    /// `None` while connecting.
    link: Option<Link>,
    local: Option<std::net::SocketAddr>,
    handshaking: bool,
    conversation: Conversation,
}

/// What a connection needs of the configuration.
struct Facts {
    cluster: Arc<Cluster>,
    check: Arc<HealthCheck>,
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
        let now = self.io.now;
        let Some(entry) = self.health_checks.probes.get_mut(probe) else { return };
        let Some(address) = to_ring(&entry.endpoint.check_address()) else {
            return self.check_failed(probe, Failure::of(FailureKind::Network));
        };
        let key = self.health_checks.sockets.insert(Box::new(Socket {
            probe,
            link: None,
            local: None,
            handshaking: false,
            conversation: Conversation::new(&check, &cluster, now),
        }));
        entry.socket = Some(key);
        let options = Box::new(connect_options(&cluster, &address));
        self.io.ops.push(Op::Connect { token: Kind::HealthCheck.token(key), address, options });
    }

    pub(crate) fn on_check_connected(&mut self, key: Key, result: Result<RingSocket, IoError>) {
        let Some(socket) = self.health_checks.sockets.get_mut(key) else {
            if let Ok(socket) = result {
                self.io.ops.push(Op::Close { socket, reset: false });
            }
            return;
        };
        match result {
            Ok(connected) => {
                socket.link = Some(Link::new(connected, Kind::HealthCheck.token(key)));
                let local = (self.socket_facts.local)(connected).map(|at| crate::address::from_ring(&at));
                socket.local = local.as_ref().and_then(inet);
                match self.begin_check_handshake(key) {
                    Ok(true) => {}
                    Ok(false) => self.check_is_open(key),
                    Err(_) => self.check_is_broken(key),
                }
            }
            Err(_) => self.check_is_broken(key),
        }
    }

    /// Sends what comes before the first check; true when a TLS handshake has begun.
    fn begin_check_handshake(&mut self, key: Key) -> Result<bool, Rc<str>> {
        let gone = || Rc::from("the endpoint is gone");
        let socket = self.health_checks.sockets.get_mut(key).ok_or_else(gone)?;
        let probe = self.health_checks.probes.get(socket.probe).ok_or_else(gone)?;
        let checks = self.health_checks.clusters.get(&probe.cluster).ok_or_else(gone)?;
        let own = probe.endpoint.transport_metadata.as_deref();
        let metadata = checks.check.transport_match.as_deref().or(own);
        let (at, transport) = transport(&checks.cluster, metadata.unwrap_or_default());
        let mut wire = Vec::new();
        if let Some(options) = &transport.proxy_protocol {
            let ends = socket.local.zip(inet(&probe.endpoint.check_address()));
            let ends = ends.filter(|_| options.version == ProxyProtocolVersion::V1);
            proxy_protocol_header(options, ends, &[], &mut wire)?;
        }
        let link = socket.link.as_mut().ok_or_else(gone)?;
        let Some(config) = &transport.tls else {
            if !wire.is_empty() {
                link.write(&mut self.io, |out| out.push_bytes(&wire));
            }
            return Ok(false);
        };
        let at = (probe.cluster, CONTEXT_OF_CHECKS + at);
        let scope = checks.cluster.scope;
        let context = match self.tls.client(at, config, &self.snapshot) {
            Ok(context) => context,
            Err(error) => {
                self.count_secrets_not_ready(scope, false);
                return Err(error.to_string().into());
            }
        };
        let alpn = checks.check.alpn.as_ref();
        let alpn: Option<Vec<Arc<[u8]>>> =
            alpn.map(|names| names.iter().map(|name| Arc::from(&name[..])).collect());
        let session = own_session(&context, config, &probe.endpoint.hostname, alpn.as_deref(), &mut wire)?;
        socket.handshaking = true;
        link.secure(session, wire, &mut self.io);
        link.resume(&mut self.io);
        Ok(true)
    }

    /// The connection is there: whoever waits for it begins.
    fn check_is_open(&mut self, key: Key) {
        let Some(socket) = self.health_checks.sockets.get_mut(key) else { return };
        socket.handshaking = false;
        if let Some(link) = &mut socket.link {
            link.resume(&mut self.io);
        }
        self.converse(key);
    }

    /// Begins a check on a connection, once it is open.
    pub(super) fn converse(&mut self, key: Key) {
        let Some(socket) = self.health_checks.sockets.get(key) else { return };
        if socket.link.is_none() || socket.handshaking {
            return;
        }
        let probe = socket.probe;
        let Some(Facts { cluster, check }) = self.check_facts(probe) else { return };
        if Conversation::is_connect_only(&check) {
            self.close_check(key);
            return self.check_is_over(probe, Verdict::Passed { degraded: false, status: 0 }, false);
        }
        let Some(entry) = self.health_checks.probes.get(probe) else { return };
        let request = request::head(&check, &cluster, &entry.endpoint, &self.names).unwrap_or_default();
        let Some(socket) = self.health_checks.sockets.get_mut(key) else { return };
        let mut wire = Vec::new();
        if let Some(version) = request::proxy_protocol(&check) {
            let options = UpstreamProxyProtocol { version, ..UpstreamProxyProtocol::default() };
            let ends = socket.local.zip(inet(&entry.endpoint.check_address()));
            let ends = ends.map(|(source, destination)| proxy_protocol::Addresses { source, destination });
            match options.version {
                ProxyProtocolVersion::V1 => proxy_protocol::encode_v1(ends, &mut wire),
                ProxyProtocolVersion::V2 => {
                    // LOCAL, without addresses: it always fits.
                    let _ = proxy_protocol::encode_v2(None, std::iter::empty(), &mut wire);
                }
            }
        }
        let reply = socket.conversation.begin(&check, &request, &mut wire);
        self.answer_check(key, reply, &wire);
    }

    pub(crate) fn on_check_data(&mut self, key: Key, data: Filled) {
        let Some(link) = self.health_checks.sockets.get_mut(key).and_then(|socket| socket.link.as_mut())
        else {
            return;
        };
        if !link.is_secure() {
            return self.check_plaintext(key, &data);
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        let opened = link.open(data, &mut pieces, &mut self.io);
        if opened.established {
            self.check_is_secure(key);
        }
        for piece in pieces.drain(..) {
            self.check_plaintext(key, &piece);
        }
        self.pieces = pieces;
        if let Some(failure) = &opened.error {
            let probe = self.health_checks.sockets.get(key).map(|socket| socket.probe);
            if let Some(Facts { cluster, .. }) = probe.and_then(|probe| self.check_facts(probe)) {
                self.count_tls_failure(cluster.scope, failure);
            }
            self.check_has_ended(key, false);
        } else if opened.close_notify {
            self.check_has_ended(key, true);
        }
    }

    fn check_is_secure(&mut self, key: Key) {
        let Some(socket) = self.health_checks.sockets.get(key) else { return };
        let told = socket.link.as_ref().and_then(|link| link.tls_facts().cloned());
        let facts = self.check_facts(socket.probe);
        if let Some((told, Facts { cluster, .. })) = told.zip(facts) {
            self.count_handshake(cluster.scope, &told);
        }
        self.check_is_open(key);
    }

    fn check_plaintext(&mut self, key: Key, bytes: &[u8]) {
        let Some(probe) = self.health_checks.sockets.get(key).map(|socket| socket.probe) else { return };
        let Some(Facts { check, .. }) = self.check_facts(probe) else { return };
        let now = self.io.now;
        let Some(socket) = self.health_checks.sockets.get_mut(key) else { return };
        let mut wire = Vec::new();
        let reply = socket.conversation.receive(&check, bytes, now, &mut wire);
        self.answer_check(key, reply, &wire);
    }

    pub(crate) fn on_check_recv_ended(&mut self, key: Key, reason: RecvEnd) {
        let Some(link) = self.health_checks.sockets.get_mut(key).and_then(|socket| socket.link.as_mut())
        else {
            return;
        };
        let Some(end) = link.receive_ended(reason, &mut self.io) else { return };
        let clean = end.is_ok() && !link.is_truncated();
        self.check_has_ended(key, clean);
    }

    pub(crate) fn on_check_sent(&mut self, key: Key, payload: Payload) {
        match self.health_checks.sockets.get_mut(key).and_then(|socket| socket.link.as_mut()) {
            // A failed send shows as a failed receive, too.
            Some(link) => {
                link.sent(payload, &mut self.io);
            }
            None => self.sent_by_none(Kind::HealthCheck.token(key), payload),
        }
    }

    pub(crate) fn flush_check(&mut self, key: Key) {
        if let Some(link) = self.health_checks.sockets.get_mut(key).and_then(|socket| socket.link.as_mut()) {
            link.flush(&mut self.io);
        }
    }

    /// The endpoint ended the connection.
    fn check_has_ended(&mut self, key: Key, clean: bool) {
        let Some(socket) = self.health_checks.sockets.get(key) else { return };
        let (probe, handshaking) = (socket.probe, socket.handshaking);
        let Some(Facts { check, .. }) = self.check_facts(probe) else { return };
        if handshaking {
            return self.check_is_broken(key);
        }
        let Some(socket) = self.health_checks.sockets.get_mut(key) else { return };
        let reply = socket.conversation.ended(&check, clean);
        self.answer_check(key, Reply { close: true, ..reply }, &[]);
    }

    /// There is no connection, or none that can be spoken on.
    fn check_is_broken(&mut self, key: Key) {
        let failed = Verdict::Failed(Failure::of(FailureKind::Network));
        self.answer_check(key, Reply { verdict: Some(failed), close: true, verified: false }, &[]);
    }

    /// Sends what the conversation says next, and takes what it has found.
    fn answer_check(&mut self, key: Key, reply: Reply, wire: &[u8]) {
        let Some(socket) = self.health_checks.sockets.get_mut(key) else { return };
        let probe = socket.probe;
        if let Some(link) = socket.link.as_mut().filter(|_| !wire.is_empty()) {
            link.write(&mut self.io, |out| out.push_bytes(wire));
        }
        if reply.close {
            self.close_check(key);
        }
        if let Some(verdict) = reply.verdict {
            self.check_is_over(probe, verdict, reply.verified);
        }
    }

    /// No answer came in time.
    pub(super) fn give_up_check(&mut self, key: Key) {
        let Some(socket) = self.health_checks.sockets.get(key) else { return };
        let Some(Facts { check, .. }) = self.check_facts(socket.probe) else { return };
        let Some(socket) = self.health_checks.sockets.get_mut(key) else { return };
        let mut wire = Vec::new();
        let open = socket.link.is_some() && !socket.handshaking;
        let keep = socket.conversation.time_out(&check, &mut wire) && open;
        self.answer_check(key, Reply { close: !keep, ..Reply::default() }, &wire);
    }

    /// Closes the connection.
    pub(super) fn close_check(&mut self, key: Key) {
        let Some(mut socket) = self.health_checks.sockets.remove(key) else { return };
        if let Some(probe) = self.health_checks.probes.get_mut(socket.probe) {
            probe.socket = None;
        }
        match &mut socket.link {
            Some(link) => link.close(&mut self.io, false),
            None => self.io.ops.push(Op::CancelConnect { token: Kind::HealthCheck.token(key) }),
        }
    }
}
