//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Error, Header, Step, V1_BYTES_MAX, Version, unicast};

/// What every header of version 1 starts with.
pub const PREFIX: &[u8] = b"PROXY ";

/// Reads a line that starts with [`PREFIX`].
pub fn parse(bytes: &[u8]) -> Result<Step, Error> {
    let seen = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() < V1_BYTES_MAX { Ok(Step::NeedMore) } else { Err(Error::Line) };
    };
    let line = seen[PREFIX.len()..end].strip_suffix(b"\r").ok_or(Error::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| Error::Line)?;
    let addresses =
        if line == "UNKNOWN" || line.starts_with("UNKNOWN ") { None } else { Some(proxied(line)?) };
    Ok(Step::Header(Header { version: Version::V1, consumed: end + 1, addresses, tlvs: 0..0 }))
}

/// `TCP4 source destination port port`, each once and with single spaces between.
fn proxied(line: &str) -> Result<Addresses, Error> {
    let mut parts = line.split(' ');
    let mut next = || parts.next().ok_or(Error::Line);
    let (family, source, destination) = (next()?, next()?, next()?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if parts.next().is_some() {
        return Err(Error::Line);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Error::Line),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Error::Line),
        _ => Err(Error::Line),
    };
    let addresses = Addresses {
        source: SocketAddr::new(address(source)?, source_port),
        destination: SocketAddr::new(address(destination)?, destination_port),
    };
    unicast(Version::V1, addresses)
}

/// Decimal, without sign or leading zeros.
fn port(text: &str) -> Result<u16, Error> {
    let canonical = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).ok_or(Error::Line)
}
