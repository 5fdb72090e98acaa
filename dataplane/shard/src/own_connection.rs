//! A connection that the shard opens for itself, for a health check or a stream of load reports: connect, what comes
//! before the first byte (the PROXY protocol, the handshake of TLS), bytes in and out, close.
//!
//! What is said on it, how long that may take and what an end means is its owner's business.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Address, Cluster, Endpoint, ProxyProtocolVersion, UpstreamTransport};
use millrace_ring::{Filled, IoError, Op, Payload, RecvEnd, Socket};

use crate::address::{from_ring, inet, to_ring};
use crate::health_checks::HealthChecks;
use crate::link::Link;
use crate::load_reports::LoadReports;
use crate::secure_upstream::{own_session, proxy_protocol_header, transport};
use crate::shard::Shard;
use crate::token::Kind;
use crate::upstream::connect_options;

/// Who speaks on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The probe of an endpoint under health check.
    Check(Key),
    /// The session of an endpoint that reports its load.
    LoadReports(Key),
}

/// Where it leads, as the configuration now says.
#[derive(Debug)]
pub(crate) struct Target<'c> {
    pub(crate) cluster: &'c Cluster,
    pub(crate) endpoint: &'c Endpoint,
    pub(crate) address: Address,
    /// `transport_socket_match_criteria`; without it, what the endpoint says of itself decides.
    pub(crate) transport_match: Option<&'c [(Arc<str>, Arc<str>)]>,
    pub(crate) alpn: Option<Cow<'c, [Arc<[u8]>]>>,
    /// Contexts of TLS from here on are this owner's: the cluster may have others for its traffic.
    pub(crate) contexts: usize,
}

impl<'c> Target<'c> {
    /// The transport socket's place and options.
    pub(crate) fn transport(&self) -> (usize, &'c UpstreamTransport) {
        let metadata = self.transport_match.or(self.endpoint.transport_metadata.as_deref());
        transport(self.cluster, metadata.unwrap_or_default())
    }

    /// `:scheme` of what is asked there.
    pub(crate) fn scheme(&self) -> &'static [u8] {
        if self.transport().1.tls.is_some() { b"https" } else { b"http" }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct OwnConnection {
    owner: Owner,
    /// `None` while connecting.
    link: Option<Link>,
    local: Option<SocketAddr>,
    handshaking: bool,
}

fn target<'c>(owner: Owner, checks: &'c HealthChecks, streams: &'c LoadReports) -> Option<Target<'c>> {
    match owner {
        Owner::Check(probe) => checks.target(probe),
        Owner::LoadReports(session) => streams.target(session),
    }
}

impl Shard {
    fn own_target(&self, owner: Owner) -> Option<Target<'_>> {
        target(owner, &self.health_checks, &self.load_reports)
    }

    /// Opens a connection; `None` when the endpoint's address is none that a socket may have.
    pub(crate) fn open_own(&mut self, owner: Owner) -> Option<Key> {
        let target = self.own_target(owner)?;
        let address = to_ring(&target.address)?;
        let options = Box::new(connect_options(target.cluster, &address));
        let connection = OwnConnection { owner, link: None, local: None, handshaking: false };
        let key = self.own_connections.insert(Box::new(connection));
        self.io.ops.push(Op::Connect { token: Kind::Own.token(key), address, options });
        Some(key)
    }

    pub(crate) fn on_own_connected(&mut self, key: Key, result: Result<Socket, IoError>) {
        let Some(connection) = self.own_connections.get_mut(key) else {
            if let Ok(socket) = result {
                self.io.ops.push(Op::Close { socket, reset: false });
            }
            return;
        };
        let owner = connection.owner;
        let Ok(socket) = result else { return self.own_is_broken(owner) };
        connection.link = Some(Link::new(socket, Kind::Own.token(key)));
        let local = (self.socket_facts.local)(socket).map(|at| from_ring(&at));
        connection.local = local.as_ref().and_then(inet);
        match self.begin_own_handshake(key) {
            Ok(true) => {}
            Ok(false) => self.own_is_open(key),
            Err(_) => self.own_is_broken(owner),
        }
    }

    /// Sends what comes before the owner's first byte; true when a TLS handshake has begun.
    fn begin_own_handshake(&mut self, key: Key) -> Result<bool, Rc<str>> {
        let gone = || Rc::from("the endpoint is gone");
        let connection = self.own_connections.get_mut(key).ok_or_else(gone)?;
        let target = target(connection.owner, &self.health_checks, &self.load_reports).ok_or_else(gone)?;
        let (at, transport) = target.transport();
        let mut wire = Vec::new();
        if let Some(options) = &transport.proxy_protocol {
            let ends = connection.local.zip(inet(&target.address));
            let ends = ends.filter(|_| options.version == ProxyProtocolVersion::V1);
            proxy_protocol_header(options, ends, &[], &mut wire)?;
        }
        let link = connection.link.as_mut().ok_or_else(gone)?;
        let Some(config) = &transport.tls else {
            if !wire.is_empty() {
                link.write(&mut self.io, |out| out.push_bytes(&wire));
            }
            return Ok(false);
        };
        let at = (target.cluster.id, target.contexts + at);
        let context = match self.tls.client(at, config, &self.snapshot) {
            Ok(context) => context,
            Err(error) => {
                let scope = target.cluster.scope;
                self.count_secrets_not_ready(scope, false);
                return Err(error.to_string().into());
            }
        };
        let session =
            own_session(&context, config, &target.endpoint.hostname, target.alpn.as_deref(), &mut wire)?;
        connection.handshaking = true;
        link.secure(session, wire, &mut self.io);
        link.resume(&mut self.io);
        Ok(true)
    }

    /// The owner may speak.
    fn own_is_open(&mut self, key: Key) {
        let Some(connection) = self.own_connections.get_mut(key) else { return };
        connection.handshaking = false;
        if let Some(link) = &mut connection.link {
            link.resume(&mut self.io);
        }
        match connection.owner {
            Owner::Check(probe) => self.converse(probe),
            Owner::LoadReports(session) => self.ask_for_load(session),
        }
    }

    fn own_is_secure(&mut self, key: Key) {
        let Some(connection) = self.own_connections.get(key) else { return };
        let told = connection.link.as_ref().and_then(|link| link.tls_facts().cloned());
        let scope = self.own_target(connection.owner).map(|target| target.cluster.scope);
        if let Some((told, scope)) = told.zip(scope) {
            self.count_handshake(scope, &told);
        }
        self.own_is_open(key);
    }

    pub(crate) fn on_own_data(&mut self, key: Key, data: Filled) {
        let Some(link) = self.own_connections.get_mut(key).and_then(|own| own.link.as_mut()) else { return };
        if !link.is_secure() {
            return self.own_plaintext(key, &data);
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        let opened = link.open(data, &mut pieces, &mut self.io);
        if opened.established {
            self.own_is_secure(key);
        }
        for piece in pieces.drain(..) {
            self.own_plaintext(key, &piece);
        }
        self.pieces = pieces;
        if let Some(failure) = &opened.error {
            let owner = self.own_connections.get(key).map(|connection| connection.owner);
            let target = owner.and_then(|owner| self.own_target(owner));
            if let Some(scope) = target.map(|target| target.cluster.scope) {
                self.count_tls_failure(scope, failure);
            }
            self.own_has_ended(key, false);
        } else if opened.close_notify {
            self.own_has_ended(key, true);
        }
    }

    fn own_plaintext(&mut self, key: Key, bytes: &[u8]) {
        match self.own_connections.get(key).map(|connection| connection.owner) {
            Some(Owner::Check(probe)) => self.check_heard(probe, bytes),
            Some(Owner::LoadReports(session)) => self.load_stream_heard(session, bytes),
            None => {}
        }
    }

    pub(crate) fn on_own_recv_ended(&mut self, key: Key, reason: RecvEnd) {
        let Some(link) = self.own_connections.get_mut(key).and_then(|own| own.link.as_mut()) else { return };
        let Some(end) = link.receive_ended(reason, &mut self.io) else { return };
        let clean = end.is_ok() && !link.is_truncated();
        self.own_has_ended(key, clean);
    }

    /// The endpoint ended the connection.
    fn own_has_ended(&mut self, key: Key, clean: bool) {
        let Some(connection) = self.own_connections.get(key) else { return };
        match connection.owner {
            owner if connection.handshaking => self.own_is_broken(owner),
            Owner::Check(probe) => self.check_has_ended(probe, clean),
            Owner::LoadReports(session) => self.load_stream_is_lost(session),
        }
    }

    /// There is no connection, or none that can be spoken on.
    fn own_is_broken(&mut self, owner: Owner) {
        match owner {
            Owner::Check(probe) => self.check_is_broken(probe),
            Owner::LoadReports(session) => self.load_stream_is_lost(session),
        }
    }

    pub(crate) fn on_own_sent(&mut self, key: Key, payload: Payload) {
        match self.own_connections.get_mut(key).and_then(|own| own.link.as_mut()) {
            // A failed send shows as a failed receive, too.
            Some(link) => {
                link.sent(payload, &mut self.io);
            }
            None => self.sent_by_none(Kind::Own.token(key), payload),
        }
    }

    pub(crate) fn flush_own(&mut self, key: Key) {
        if let Some(link) = self.own_connections.get_mut(key).and_then(|own| own.link.as_mut()) {
            link.flush(&mut self.io);
        }
    }

    /// True once the owner may speak.
    pub(crate) fn is_own_open(&self, key: Key) -> bool {
        self.own_connections.get(key).is_some_and(|own| own.link.is_some() && !own.handshaking)
    }

    /// Our end's address, where it is known.
    pub(crate) fn own_local(&self, key: Key) -> Option<SocketAddr> {
        self.own_connections.get(key)?.local
    }

    /// Sends bytes of the owner.
    pub(crate) fn write_own(&mut self, key: Key, bytes: &[u8]) {
        if let Some(link) = self.own_connections.get_mut(key).and_then(|own| own.link.as_mut())
            && !bytes.is_empty()
        {
            link.write(&mut self.io, |out| out.push_bytes(bytes));
        }
    }

    /// Closes the connection, whether it is there or yet to come. The owner hears no more of it.
    pub(crate) fn close_own(&mut self, key: Key) {
        match self.own_connections.remove(key).map(|connection| connection.link) {
            Some(Some(mut link)) => link.close(&mut self.io, false),
            Some(None) => self.io.ops.push(Op::CancelConnect { token: Kind::Own.token(key) }),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_as_small_as_docs_limits_says() {
        assert!(size_of::<OwnConnection>() <= 192, "{}", size_of::<OwnConnection>());
    }
}
