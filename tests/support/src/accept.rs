//! Accepting as every server of the tests does: a failure that passes does not end it.

use std::net::{TcpListener, TcpStream};

use crate::wait;

/// The next connection; `None` once accepting has failed for as long as anybody waits. A process that is out of files
/// for a moment, because tests beside this one need them, would otherwise never answer again.
pub fn next(listener: &TcpListener) -> Option<TcpStream> {
    wait::until(wait::PATIENCE, || listener.accept().ok()).map(|(stream, _)| stream)
}
