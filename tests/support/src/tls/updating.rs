//! A blocking client that changes its keys whenever it is told to (RFC 8446 4.6.3).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::{Client, Version};
use crate::wait::PATIENCE;

/// A connection with TLS 1.3.
pub struct Updating(StreamOwned<ClientConnection, TcpStream>);

impl Updating {
    /// Shakes hands as `client` would.
    ///
    /// # Panics
    /// When the handshake fails.
    #[track_caller]
    pub fn connect(client: &Client, address: SocketAddr) -> Self {
        let config = client.clone().versions(&[Version::V13]).config();
        let tls = ClientConnection::new(Arc::new(config), client.server_name()).expect("a client");
        let socket = TcpStream::connect(address).expect("connect to the proxy");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        Self(stream)
    }

    /// Sends KeyUpdate and uses new keys from then on.
    pub fn update_keys(&mut self) {
        self.0.conn.refresh_traffic_keys().expect("TLS 1.3 is established");
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// When the peer is gone.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).expect("a peer that reads");
    }

    /// Reads until what came ends with `end`; false when the connection ends first.
    pub fn read_until(&mut self, end: &[u8]) -> bool {
        let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
        while !all.ends_with(end) {
            match self.0.read(&mut chunk) {
                Ok(0) | Err(_) => return false,
                Ok(n) => all.extend_from_slice(&chunk[..n]),
            }
        }
        true
    }
}
