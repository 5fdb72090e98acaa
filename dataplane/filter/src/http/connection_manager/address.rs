//! Trusted client addresses out of `x-forwarded-for`.

use std::net::{IpAddr, SocketAddr};

use millrace_http::{HeaderId, HeaderMap};

/// The address found by [`last_address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The address; port 0 unless the field carried one.
    pub address: SocketAddr,
    /// The field held exactly this one address, so that it may decide whether the request is internal.
    pub only: bool,
}

/// The address `skip` hops before the end of `x-forwarded-for`; several fields count as one list.
pub fn last_address(headers: &HeaderMap, skip: u32) -> Option<Forwarded> {
    let mut values = headers.values(HeaderId::XForwardedFor);
    let first = values.next()?;
    if values.next().is_none() {
        return last_of(first, skip);
    }
    let mut joined = Vec::new();
    headers.joined(HeaderId::XForwardedFor.name().as_bytes(), &mut joined);
    last_of(&joined, skip)
}

fn last_of(list: &[u8], skip: u32) -> Option<Forwarded> {
    let mut rest = list;
    for _ in 0..skip {
        rest = &rest[..rest.iter().rposition(|b| *b == b',')?];
    }
    let comma = rest.iter().rposition(|b| *b == b',');
    let text = match comma {
        // A comma at the very end is kept and spoils the address, as in Envoy.
        Some(at) if at + 1 < rest.len() => &rest[at + 1..],
        _ => rest,
    };
    let address = parse(text.trim_ascii())?;
    Some(Forwarded { address, only: comma.is_none() && skip == 0 })
}

/// An IPv4 or IPv6 address without port.
fn parse(text: &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(SocketAddr::new(ip, 0))
}

/// Appends `peer` to the list in `x-forwarded-for`, making one field of several. `scratch` is cleared.
pub fn append(headers: &mut HeaderMap, peer: IpAddr, scratch: &mut Vec<u8>) {
    use std::io::Write as _;
    scratch.clear();
    if headers.joined(HeaderId::XForwardedFor.name().as_bytes(), scratch) && !scratch.is_empty() {
        scratch.push(b',');
    }
    // Writing to a Vec cannot fail.
    let _ = write!(scratch, "{peer}");
    headers.set_id(HeaderId::XForwardedFor, scratch);
}
