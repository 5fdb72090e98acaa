//! Socket addresses and prefixes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// `envoy.config.core.v3.Address`: an IP socket address or a Unix domain socket path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// `socket_address` with an IP address.
    Inet(SocketAddr),
    /// `pipe`; a leading `@` means the abstract namespace. Relative paths count from the working directory.
    Pipe {
        /// The path as configured.
        path: Arc<str>,
        /// Permission bits for a listening socket, 0 to leave them to the umask.
        mode: u32,
    },
}

impl fmt::Display for Address {
    /// As Envoy prints addresses: `1.2.3.4:80`, `[::1]:80`, or the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(addr) => write!(f, "{addr}"),
            Self::Pipe { path, .. } => f.write_str(path),
        }
    }
}

/// `envoy.config.core.v3.CidrRange`, host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// Clears the host bits; `None` when `prefix_len` is longer than the address.
    pub fn new(address: IpAddr, prefix_len: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(a) if prefix_len <= 32 => IpAddr::V4((u32::from(a) & mask_v4(prefix_len)).into()),
            IpAddr::V6(a) if prefix_len <= 128 => IpAddr::V6((u128::from(a) & mask_v6(prefix_len)).into()),
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, prefix_len })
    }

    /// True when `ip` lies in the range; the families must be the same.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::new(ip, self.prefix_len).is_some_and(|other| other.address == self.address)
    }

    /// The network address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }
}

fn mask_v4(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn mask_v6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        let net = Cidr::new("10.1.2.3".parse().unwrap(), 8).unwrap();
        assert_eq!(net.address().to_string(), "10.0.0.0");
        assert!(net.contains("10.255.0.1".parse().unwrap()));
        assert!(!net.contains("11.0.0.1".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        assert!(Cidr::new("0.0.0.0".parse().unwrap(), 0).unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!(Cidr::new("1.2.3.4".parse().unwrap(), 33).is_none());
        assert!(Cidr::new("::".parse().unwrap(), 0).unwrap().contains("fe80::1".parse().unwrap()));
    }
}
