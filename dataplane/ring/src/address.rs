//! Socket addresses of the three families that a listener or a cluster may name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An IP address and port, or a Unix socket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketAddress {
    /// IPv4 or IPv6.
    Inet(SocketAddr),
    /// `AF_UNIX`.
    Unix(UnixAddress),
}

/// Name of a Unix stream socket: a path, an abstract name, or nothing (an unbound peer).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixAddress(Box<[u8]>);

impl UnixAddress {
    /// Longest name the kernel takes, bytes (`sun_path` less its terminating zero).
    pub const BYTES_MAX: usize = 107;

    /// From a configured path; a leading `@` means an abstract name, as Envoy has it. `None` when it is too
    /// long or holds a zero byte.
    pub fn new(path: &[u8]) -> Option<Self> {
        let fits = path.len() <= Self::BYTES_MAX && !path.contains(&0);
        fits.then(|| Self(path.into()))
    }

    /// The name as configured: a path, `@name` for an abstract one, empty for an unbound peer.
    pub fn name(&self) -> &[u8] {
        &self.0
    }

    /// The abstract name without its `@`.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        self.0.strip_prefix(b"@")
    }
}

impl SocketAddress {
    /// The IP address and port, unless it is a Unix socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The IP address, unless it is a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.inet().map(|a| a.ip())
    }

    /// The port, unless it is a Unix socket.
    pub fn port(&self) -> Option<u16> {
        self.inet().map(|a| a.port())
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for SocketAddress {
    /// As Envoy prints it: `ip:port`, `[v6]:port`, the path, `@abstract`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(SocketAddr::V6(v6)) => write!(f, "[{}]:{}", v6.ip(), v6.port()),
            Self::Inet(v4) => v4.fmt(f),
            Self::Unix(unix) => unix.fmt(f),
        }
    }
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_as_envoy_prints_them() {
        let print = |text: &str| SocketAddress::Inet(text.parse().unwrap()).to_string();
        assert_eq!(print("127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(print("[::1]:8080"), "[::1]:8080");
        let unix = |name: &[u8]| SocketAddress::Unix(UnixAddress::new(name).unwrap()).to_string();
        assert_eq!(unix(b"/run/a.sock"), "/run/a.sock");
        assert_eq!(unix(b"@mesh"), "@mesh");
        assert!(UnixAddress::new(&[b'a'; 108]).is_none() && UnixAddress::new(b"a\0b").is_none());
    }
}
