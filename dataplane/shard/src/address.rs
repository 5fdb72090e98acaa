//! Between the configuration's addresses and the ring's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use millrace_config::Address;
use millrace_ring::{SocketAddress, UnixAddress};

/// For connecting or listening; `None` when a path is too long for a socket.
pub(crate) fn to_ring(address: &Address) -> Option<SocketAddress> {
    match address {
        Address::Inet(inet) => Some(SocketAddress::Inet(*inet)),
        Address::Pipe { path, .. } => UnixAddress::new(path.as_bytes()).map(SocketAddress::Unix),
    }
}

/// For logs and templates.
pub(crate) fn from_ring(address: &SocketAddress) -> Address {
    match address {
        SocketAddress::Inet(inet) => Address::Inet(canonical(*inet)),
        SocketAddress::Unix(unix) => {
            let path: Arc<str> = String::from_utf8_lossy(unix.name()).into();
            Address::Pipe { path, mode: 0 }
        }
    }
}

/// An IPv4 peer of a dual-stack socket is an IPv4 peer.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            IpAddr::V6(_) => address,
        },
    }
}

/// Address and port; a Unix peer counts as the unspecified address, which no prefix but `/0` holds.
pub(crate) fn ip_port(address: &Address) -> (IpAddr, u16) {
    match address {
        Address::Inet(inet) => (inet.ip(), inet.port()),
        Address::Pipe { .. } => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    }
}

/// The IP address and port, unless it is a Unix socket.
pub(crate) fn inet(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Inet(inet) => Some(*inet),
        Address::Pipe { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = SocketAddress::Inet("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(from_ring(&mapped).to_string(), "10.0.0.1:80");
        let unix = Address::Pipe { path: "@x".into(), mode: 0 };
        assert_eq!(from_ring(&to_ring(&unix).unwrap()), unix);
    }
}
