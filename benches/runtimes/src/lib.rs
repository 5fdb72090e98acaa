//! What all relays share: their two arguments, their listener and the size of a receive.

use std::net::{SocketAddr, TcpListener};

/// Octets that one receive may take; as many as `dataplane/ring` gives a receive buffer.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Whatever ends a relay.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where to listen and where to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Accepts here.
    pub listen: SocketAddr,
    /// One connection to this for each accepted one.
    pub upstream: SocketAddr,
}

impl Ends {
    /// From the command line: `<listen ip:port> <upstream ip:port>`.
    ///
    /// # Errors
    /// Says what is wrong with the command line.
    pub fn from_command_line() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self::parse(&arguments)
    }

    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let [listen, upstream] = arguments else {
            return Err("usage: relay-<runtime> <listen ip:port> <upstream ip:port>".into());
        };
        let address = |text: &String| text.parse().map_err(|e| format!("{text:?}: {e}"));
        Ok(Self { listen: address(listen)?, upstream: address(upstream)? })
    }

    /// A listener with the longest backlog that the kernel allows; whether it blocks is up to the runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn listener(&self) -> Result<TcpListener, Failure> {
        let listener = TcpListener::bind(self.listen)?;
        // Listening again changes the backlog, which the standard library fixes at 128 or so.
        rustix::net::listen(&listener, i32::MAX)?;
        Ok(listener)
    }
}

/// Says why a connection failed, unless a peer just left.
pub fn report(result: std::io::Result<()>) {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    if let Err(error) = result
        && ![BrokenPipe, ConnectionReset, NotConnected].contains(&error.kind())
    {
        eprintln!("relay: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_needed() {
        let parse = |line: &str| Ends::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(parse("127.0.0.1:1 127.0.0.1:2").is_ok_and(|ends| ends.upstream.port() == 2));
        assert!(parse("127.0.0.1:1").is_err_and(|e| e.to_string().contains("usage")));
        assert!(parse("127.0.0.1:1 here").is_err_and(|e| e.to_string().contains("here")));
    }
}
