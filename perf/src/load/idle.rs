//! Memory: connections that have each served one request and then stay.

use std::any::Any;
use std::io::{Error, ErrorKind, Read, Result as IoResult, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::credentials::Caller;
use crate::peer::Running;
use crate::process::resident_kib;
use crate::result::Sample;
use crate::scenario::Load;

/// After so many failures a turn is given up.
const ERRORS_MAX: u64 = 5;

/// With a caller over TLS.
pub(super) fn measure(proxy: &Running, load: &Load, caller: Option<&Caller>) -> Result<Sample, String> {
    let secured = match caller {
        Some(caller) => Some((caller.config()?, server_name(caller)?)),
        None => None,
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = resident_kib(proxy.measured());
    let mut held: Vec<Box<dyn Any>> = Vec::with_capacity(load.connections);
    let mut errors = 0;
    for _ in 0..load.connections {
        let opened = match &secured {
            Some((config, name)) => tls_request_once(proxy.address(), config, name),
            None => request_once(proxy.address(), "perf.test").map(|stream| Box::new(stream) as Box<dyn Any>),
        };
        match opened {
            Ok(connection) => held.push(connection),
            Err(error) => {
                eprintln!("connection {}: {error}", held.len());
                errors += 1;
            }
        }
        // Each of them may have taken its whole time limit.
        if errors == ERRORS_MAX {
            return Err(format!("{errors} connections failed after {} good ones", held.len()));
        }
    }
    std::thread::sleep(Duration::from_millis(if held.is_empty() { 100 } else { 1000 }));
    let after = resident_kib(proxy.measured());
    let grown = after.saturating_sub(before) as f64;
    Ok(Sample {
        operations: held.len() as f64,
        rss_mib: after as f64 / 1024.0,
        errors,
        kib_per_connection: (!held.is_empty()).then(|| grown / held.len() as f64),
        ..Sample::default()
    })
}

fn server_name(caller: &Caller) -> Result<ServerName<'static>, String> {
    ServerName::try_from(caller.name.clone()).map_err(|e| e.to_string())
}

fn connect(address: SocketAddr) -> IoResult<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// One request and its whole response on a connection that stays open.
pub(super) fn request_once(address: SocketAddr, host: &str) -> IoResult<TcpStream> {
    let mut stream = connect(address)?;
    exchange(&mut stream, host)?;
    Ok(stream)
}

/// The same over TLS.
fn tls_request_once(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> IoResult<Box<dyn Any>> {
    let tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(Error::other)?;
    let mut stream = StreamOwned::new(tls, connect(address)?);
    exchange(&mut stream, "perf.test")?;
    Ok(Box::new(stream))
}

fn exchange(stream: &mut (impl Read + Write), host: &str) -> IoResult<()> {
    // In one piece, and with it in one record.
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
    let mut received = Vec::new();
    let mut buffer = [0u8; 4096];
    while !complete(&received) {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..n]);
    }
    if received.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// True when a response by `content-length` is whole.
fn complete(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|v| v.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_its_body_is() {
        assert!(!complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"));
        assert!(!complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"));
        assert!(complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxy"));
    }
}
