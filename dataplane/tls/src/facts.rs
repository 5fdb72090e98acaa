//! What a finished handshake tells of its connection.

use std::sync::Arc;

use millrace_base::{LocalCertificate, TlsFacts};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use crate::local::Local;
use crate::provider::{group_name, suite_name};

/// What the session knows beside rustls.
pub(crate) struct Known {
    pub(crate) server_name: Box<str>,
    pub(crate) certificate: Option<Arc<LocalCertificate>>,
    /// The verifier accepted the peer in this handshake, and something vouched for it.
    pub(crate) validated: bool,
    /// The context accepts only what it validated, so a resumed session was.
    pub(crate) validates: bool,
    /// With which algorithm the peer signed; 0 if it did not.
    pub(crate) signature_scheme: u16,
}

pub(crate) fn facts(state: &CommonState, known: Known, alpn: &[Arc<[u8]>], local: &Local) -> TlsFacts {
    let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    let peer = state.peer_certificates().filter(|chain| !chain.is_empty());
    let agreed = state.alpn_protocol().unwrap_or_default();
    TlsFacts {
        version: match state.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: state.negotiated_cipher_suite().map_or("", suite_name),
        // The context's own copy, where it is one of its protocols.
        alpn: alpn.iter().find(|ours| ***ours == *agreed).cloned().unwrap_or_else(|| agreed.into()),
        server_name: known.server_name,
        // Neither TLS 1.3 nor sessions in tickets have one, as in BoringSSL.
        session_id: Box::default(),
        curve: state.negotiated_key_exchange_group().map_or("", |group| group_name(group.name())),
        resumed,
        peer_signature_scheme: known.signature_scheme,
        peer_validated: peer.is_some() && (known.validated || (resumed && known.validates)),
        peer: peer.and_then(|chain| local.peer(chain)),
        local: known.certificate,
    }
}
