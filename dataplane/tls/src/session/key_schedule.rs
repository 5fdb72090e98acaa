//! What stays of rustls behind an established connection: the traffic secrets of TLS 1.3, for key updates, and the
//! client's way to keep tickets.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use crate::error::TlsError;
use crate::record::Protection;

/// TLS 1.2 has none.
pub(super) enum KeySchedule {
    None,
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl KeySchedule {
    /// Keys that follow those with which we send.
    pub(super) fn next_sealing(&mut self) -> Option<Protection> {
        let (sequence, secrets) = match self {
            Self::None => return None,
            Self::Server(connection) => connection.update_tx_secret().ok()?,
            Self::Client(connection) => connection.update_tx_secret().ok()?,
        };
        Protection::new(sequence, &secrets, true)
    }

    /// Keys that follow those with which the peer sends.
    pub(super) fn next_opening(&mut self) -> Option<Protection> {
        let (sequence, secrets) = match self {
            Self::None => return None,
            Self::Server(connection) => connection.update_rx_secret().ok()?,
            Self::Client(connection) => connection.update_rx_secret().ok()?,
        };
        Protection::new(sequence, &secrets, true)
    }

    /// Keeps a ticket; `payload` is NewSessionTicket without its header (RFC 8446 4.6.1).
    pub(super) fn keep_ticket(&mut self, payload: &[u8]) -> Result<(), TlsError> {
        match self {
            Self::Client(connection) => {
                connection.handle_new_session_ticket(payload).map_err(|_| TlsError::Decode)
            }
            Self::None | Self::Server(_) => Err(TlsError::UnexpectedMessage),
        }
    }

    /// A client of TLS 1.3.
    pub(super) fn takes_tickets(&self) -> bool {
        matches!(self, Self::Client(_))
    }

    /// TLS 1.3.
    pub(super) fn updates(&self) -> bool {
        !matches!(self, Self::None)
    }
}
