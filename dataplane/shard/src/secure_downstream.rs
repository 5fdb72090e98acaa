//! TLS of connections that clients opened: the handshake, and what is made of received ciphertext.

use std::borrow::Cow;

use millrace_base::Key;
use millrace_observe::stats::listener as metric;
use millrace_ring::{Filled, IoError};
use millrace_tls::Session;

use crate::downstream::{Protocol, first_protocol};
use crate::origin::Origin;
use crate::secure::{Failure, Opened};
use crate::shard::Shard;

/// The chain's TLS context cannot be made: a secret has not come, or is unusable.
#[derive(Debug)]
pub(crate) struct NotReady;

impl Shard {
    /// A session for a new connection of the chain; `None` where the chain speaks clear text.
    pub(crate) fn server_session(&mut self, origin: &Origin) -> Result<Option<Session>, NotReady> {
        let Some(config) = &origin.chain.tls else { return Ok(None) };
        match self.tls.server(config, &mut origin.tls.borrow_mut(), &self.snapshot) {
            Ok(context) => Ok(Some(Session::server(&context))),
            Err(_) => {
                self.stats.inc(origin.listener.scope, metric::DOWNSTREAM_CX_DESTROY);
                self.count_secrets_not_ready(origin.listener.scope, true);
                Err(NotReady)
            }
        }
    }

    /// Waits for the client's hello.
    pub(crate) fn begin_downstream_handshake(&mut self, key: Key, session: Session) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.link.secure(session, Vec::new(), &mut self.io);
        downstream.link.set_single(true);
        downstream.link.resume(&mut self.io);
    }

    pub(crate) fn secure_downstream_data(&mut self, key: Key, data: Filled) {
        if let Some(data) = self.admit_handshake(key, data) {
            self.open_downstream_data(key, data);
        }
    }

    /// As [`Shard::secure_downstream_data`], for bytes whose turn has come.
    pub(crate) fn open_downstream_data(&mut self, key: Key, data: Filled) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let mut pieces = std::mem::take(&mut self.pieces);
        let opened = downstream.link.open(data, &mut pieces, &mut self.io);
        if opened.established {
            self.downstream_secured(key);
        }
        for piece in pieces.drain(..) {
            self.downstream_plaintext(key, piece);
        }
        self.pieces = pieces;
        self.downstream_session_ended(key, &opened);
    }

    /// Acts on the end of a session, clean or not, once its plaintext was passed on.
    fn downstream_session_ended(&mut self, key: Key, opened: &Opened) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        if let Some(failure) = &opened.error {
            let words = failure.words();
            let scope = downstream.origin.listener.scope;
            downstream.transport_failed(&words);
            let securing = matches!(downstream.protocol, Protocol::Securing(_));
            self.count_tls_failure(scope, failure);
            match securing {
                true => self.close_downstream(key, false),
                false => self.downstream_ended(key, Err(IoError::RESET)),
            }
        } else if opened.close_notify {
            self.downstream_ended(key, Ok(()));
        }
    }

    /// The handshake is through: the chain's terminal filter takes over.
    fn downstream_secured(&mut self, key: Key) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Some(protocol) = first_protocol(&downstream.origin, now, &mut self.rng) else {
            return self.close_downstream(key, false);
        };
        let facts = downstream.tls().cloned();
        downstream.protocol = protocol;
        downstream.link.set_single(false);
        if let Some(timer) = downstream.timer.disarm() {
            self.wheel.cancel(timer);
        }
        let scope = downstream.origin.listener.scope;
        if let Some(facts) = facts {
            if let Protocol::Http(http) = &mut downstream.protocol {
                http.agreed_on(&facts.alpn);
            }
            self.count_handshake(scope, &facts);
        }
        self.write_handshake_state(key);
        self.protocol_opened(key);
        self.rearm_downstream(key);
    }

    /// The client went away during the handshake.
    pub(crate) fn handshake_abandoned(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.transport_failed("connection closed during the TLS handshake");
        self.close_downstream(key, false);
    }

    /// `transport_socket_connect_timeout`.
    pub(crate) fn handshake_timer(&mut self, key: Key) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Securing(deadline) = downstream.protocol else { return };
        if deadline <= now {
            let scope = downstream.origin.listener.scope;
            downstream.transport_failed("transport socket timeout was reached");
            self.stats.inc(scope, metric::DOWNSTREAM_CX_TRANSPORT_SOCKET_CONNECT_TIMEOUT);
            self.close_downstream(key, true);
        }
    }
}

impl Failure {
    /// Why, for logs: `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub(crate) fn words(&self) -> Cow<'static, str> {
        match self {
            Self::Session(error) => error.details(),
            Self::OutOfBuffers => "out of buffers".into(),
        }
    }
}
