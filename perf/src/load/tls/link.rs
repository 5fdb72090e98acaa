//! One TLS connection of the client: a socket that does not block, and rustls.

use std::io::{BufRead, Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

/// A connection whose ClientHello is on its way.
pub(super) struct Link {
    stream: TcpStream,
    tls: ClientConnection,
}

/// What one look at the socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Something, or nothing yet.
    Open,
    /// The peer sends no more.
    End,
}

impl Link {
    pub(super) fn open(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(Error::other)?;
        let mut link = Self { stream, tls };
        link.flush()?;
        Ok(link)
    }

    /// Asks to be told under a key when there is something to read.
    pub(super) fn watch(&self, poll: &OwnedFd, key: usize) -> Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(poll, &self.stream, data, epoll::EventFlags::IN)?)
    }

    /// Reads once from the socket, hands all plaintext on, and sends what TLS itself has to say.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut plaintext: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Received> {
        let n = match self.stream.read(buffer) {
            Ok(0) => return Ok(Received::End),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(Received::Open);
            }
            Err(e) => return Err(e),
        };
        let mut bytes = &buffer[..n];
        while !bytes.is_empty() {
            if self.tls.read_tls(&mut bytes)? == 0 {
                break;
            }
            let state = match self.tls.process_new_packets() {
                Ok(state) => state,
                Err(e) => {
                    // The alert; whether it gets through changes nothing.
                    let _ = self.flush();
                    return Err(Error::new(ErrorKind::InvalidData, e));
                }
            };
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let mut reader = self.tls.reader();
                let got = reader.fill_buf()?;
                plaintext(got)?;
                let n = got.len();
                reader.consume(n);
                left = left.saturating_sub(n);
            }
        }
        self.flush()?;
        Ok(Received::Open)
    }

    /// Nothing while the handshake goes on.
    pub(super) fn established(&self) -> Option<HandshakeKind> {
        if self.tls.is_handshaking() { None } else { self.tls.handshake_kind() }
    }

    pub(super) fn send(&mut self, plaintext: &[u8]) -> Result<()> {
        self.tls.writer().write_all(plaintext)?;
        self.flush()
    }

    /// The client's end: close_notify and FIN. The peer's is still read.
    pub(super) fn close(&mut self) -> Result<()> {
        self.tls.send_close_notify();
        self.flush()?;
        self.stream.shutdown(Shutdown::Write)
    }

    /// What the client has to send is small and fits a socket buffer; the rest would go with the next event.
    fn flush(&mut self) -> Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
