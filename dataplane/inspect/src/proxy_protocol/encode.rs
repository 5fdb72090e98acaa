//! Writing headers towards an upstream (`ProxyProtocolUpstreamTransport`).

use std::fmt;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Addresses, tlv, v2};

/// Why a header cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A TLV or all of them are longer than two octets of length can tell.
    TooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the TLVs do not fit into a PROXY protocol header")
    }
}

impl std::error::Error for EncodeError {}

/// Appends a header of version 1; `UNKNOWN` without addresses.
pub fn encode_v1(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    let Some(addresses) = addresses.map(of_one_family) else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let (source, destination) = (addresses.source, addresses.destination);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let mut line = String::with_capacity(super::V1_BYTES_MAX);
    // Writing to a string never fails.
    let _ = write!(
        line,
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    out.extend_from_slice(line.as_bytes());
}

/// Appends a header of version 2 with `tlvs` (type, value) in their order; `LOCAL` and without TLVs when there are no
/// addresses. Nothing is appended on an error.
pub fn encode_v2<'a>(
    addresses: Option<Addresses>,
    tlvs: impl Iterator<Item = (u8, &'a [u8])> + Clone,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let Some(addresses) = addresses.map(of_one_family) else {
        out.extend_from_slice(v2::SIGNATURE);
        out.extend_from_slice(&[v2::LOCAL, 0, 0, 0]);
        return Ok(());
    };
    let (family, address_bytes) = if addresses.source.is_ipv4() { (v2::INET, 12) } else { (v2::INET6, 36) };
    let tlv_bytes: usize = tlvs.clone().map(|(_, value)| tlv::HEADER_BYTES + value.len()).sum();
    let length = u16::try_from(address_bytes + tlv_bytes).map_err(|_| EncodeError::TooLong)?;
    out.extend_from_slice(v2::SIGNATURE);
    out.extend_from_slice(&[v2::PROXY, family | v2::STREAM]);
    out.extend_from_slice(&length.to_be_bytes());
    for address in [addresses.source, addresses.destination] {
        match address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&addresses.source.port().to_be_bytes());
    out.extend_from_slice(&addresses.destination.port().to_be_bytes());
    for (kind, value) in tlvs {
        let length = u16::try_from(value.len()).map_err(|_| EncodeError::TooLong)?;
        out.push(kind);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value);
    }
    Ok(())
}

/// Addresses of two families cannot share a header: the IPv4 one is written as IPv4-mapped IPv6.
fn of_one_family(addresses: Addresses) -> Addresses {
    if addresses.source.is_ipv4() == addresses.destination.is_ipv4() {
        return addresses;
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    Addresses { source: mapped(addresses.source), destination: mapped(addresses.destination) }
}
