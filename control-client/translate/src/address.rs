//! `core.v3.Address`, `SocketAddress`, `CidrRange`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use millrace_config::{Address, Cidr};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as core;

use crate::error::Rejection;

/// An address that must be an IP address or a pipe.
pub(crate) fn address(address: &core::Address, path: &Path) -> Result<Address, Rejection> {
    match &address.address {
        Some(core::address::Address::SocketAddress(socket)) => {
            Ok(Address::Inet(socket_address(socket, &path.join("socket_address"))?))
        }
        Some(core::address::Address::Pipe(pipe)) => {
            Ok(Address::Pipe { path: pipe.path.as_str().into(), mode: pipe.mode })
        }
        Some(core::address::Address::EnvoyInternalAddress(_)) => Err(Rejection::not_served(
            &path.join("envoy_internal_address"),
            "internal listeners are not served by this build",
        )),
        None => Err(Rejection::new(path, "address is necessary")),
    }
}

/// A socket address whose text must be an IP address.
pub(crate) fn socket_address(socket: &core::SocketAddress, path: &Path) -> Result<SocketAddr, Rejection> {
    let port = port(socket, path)?;
    let ip: IpAddr = socket.address.parse().map_err(|_| {
        Rejection::new(&path.join("address"), format!("malformed IP address: {}", socket.address))
    })?;
    // `ipv4_compat` lets `::` take IPv4 too; the kernel's default does the same for the wildcard.
    Ok(SocketAddr::new(ip, port))
}

/// The port of a socket address over TCP.
pub(crate) fn port(socket: &core::SocketAddress, path: &Path) -> Result<u16, Rejection> {
    if socket.protocol() == core::socket_address::Protocol::Udp {
        return Err(Rejection::not_served(&path.join("protocol"), "UDP is not served by this build"));
    }
    match &socket.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => u16::try_from(*port).map_err(|_| {
            Rejection::new(&path.join("port_value"), "value must be less than or equal to 65535")
        }),
        Some(core::socket_address::PortSpecifier::NamedPort(_)) => {
            Err(Rejection::new(&path.join("named_port"), "IP resolver can't handle port specifier type 4"))
        }
        None => Ok(0),
    }
}

/// A prefix.
pub(crate) fn cidr(range: &core::CidrRange, path: &Path) -> Result<Cidr, Rejection> {
    self::range(&range.address_prefix, range.prefix_len.as_ref().map(|len| len.value), path)
}

/// A prefix in two pieces.
pub(crate) fn range(address: &str, len: Option<u32>, path: &Path) -> Result<Cidr, Rejection> {
    let len = len.unwrap_or(0);
    let malformed = || {
        let why = format!("invalid ip/mask combo '{address}/{len}' (format is <ip>/<# mask bits>)");
        Rejection::new(path, why)
    };
    let ip: IpAddr = address.parse().map_err(|_| malformed())?;
    u8::try_from(len).ok().and_then(|len| Cidr::new(ip, len)).ok_or_else(malformed)
}

/// Several prefixes.
pub(crate) fn cidrs(ranges: &[core::CidrRange], path: &Path) -> Result<Vec<Cidr>, Rejection> {
    ranges.iter().enumerate().map(|(i, range)| cidr(range, &path.at(i))).collect()
}

/// An address that stands for one not yet known.
pub(crate) fn unspecified(port: u16, v6: bool) -> Address {
    let ip = if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    Address::Inet(SocketAddr::new(ip, port))
}
