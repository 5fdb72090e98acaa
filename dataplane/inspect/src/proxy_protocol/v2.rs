//! Version 2: binary.

use std::net::{IpAddr, SocketAddr};

use super::{Addresses, Error, Header, Step, Version, tlv, unicast};

/// What every header of version 2 starts with.
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
pub const FIXED_BYTES: usize = 16;
/// Version 2, command LOCAL: the sender's own connection, a health check for instance.
pub const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
pub const PROXY: u8 = 0x21;
/// AF_INET; the lower half is the transport.
pub const INET: u8 = 0x10;
/// AF_INET6.
pub const INET6: u8 = 0x20;
/// AF_UNIX.
const UNIX: u8 = 0x30;
/// SOCK_STREAM.
pub const STREAM: u8 = 0x01;
/// SOCK_DGRAM, which Envoy takes as well.
const DATAGRAM: u8 = 0x02;
/// Two paths of 108 octets.
const UNIX_BYTES: usize = 216;

/// Reads a header that starts with [`SIGNATURE`]. Whatever is wrong is told as soon as it can be seen.
pub fn parse(bytes: &[u8]) -> Result<Step, Error> {
    let command = match bytes.get(SIGNATURE.len()) {
        None => return Ok(Step::NeedMore),
        Some(command) if [LOCAL, PROXY].contains(command) => *command,
        Some(_) => return Err(Error::Unsupported),
    };
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(Step::NeedMore) };
    let consumed = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    // Unspecified is as good as LOCAL: "the receiver should ignore address information" (2.2).
    let local = command == LOCAL || fixed[13] == 0;
    let address_bytes = if local { 0 } else { address_bytes(fixed[13])? };
    let tlvs = FIXED_BYTES + address_bytes..consumed;
    if tlvs.start > tlvs.end {
        return Err(Error::Length);
    }
    let Some(header) = bytes.get(..consumed) else { return Ok(Step::NeedMore) };
    if local {
        return Ok(Step::Header(Header { version: Version::V2, consumed, addresses: None, tlvs: 0..0 }));
    }
    tlv::check(header, tlvs.clone())?;
    let addresses =
        addresses(&header[FIXED_BYTES..tlvs.start]).map(|found| unicast(Version::V2, found)).transpose()?;
    Ok(Step::Header(Header { version: Version::V2, consumed, addresses, tlvs }))
}

/// Length of the address block for a family and a transport.
fn address_bytes(family: u8) -> Result<usize, Error> {
    match (family & 0xf0, family & 0x0f) {
        (INET, STREAM | DATAGRAM) => Ok(12),
        (INET6, STREAM | DATAGRAM) => Ok(36),
        (UNIX, STREAM | DATAGRAM) => Ok(UNIX_BYTES),
        _ => Err(Error::Unsupported),
    }
}

/// The addresses of a block of either family of the Internet.
fn addresses(block: &[u8]) -> Option<Addresses> {
    let (source, destination, ports): (IpAddr, IpAddr, &[u8]) = match block.len() {
        12 => (
            block.first_chunk::<4>().copied()?.into(),
            block[4..].first_chunk::<4>().copied()?.into(),
            &block[8..],
        ),
        36 => (
            block.first_chunk::<16>().copied()?.into(),
            block[16..].first_chunk::<16>().copied()?.into(),
            &block[32..],
        ),
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*ports.get(at)?, *ports.get(at + 1)?]));
    Some(Addresses {
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
    })
}
