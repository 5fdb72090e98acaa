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

/// The address `skip` hops before the end of the first `x-forwarded-for`; see [`join`].
pub fn last_address(headers: &HeaderMap, skip: u32) -> Option<Forwarded> {
    last_of(headers.get(HeaderId::XForwardedFor)?, skip)
}

/// Makes one `x-forwarded-for` of several, as Envoy forwards them. `scratch` is cleared if used.
pub fn join(headers: &mut HeaderMap, scratch: &mut Vec<u8>) {
    if headers.values(HeaderId::XForwardedFor).nth(1).is_some() {
        scratch.clear();
        headers.joined(HeaderId::XForwardedFor.name().as_bytes(), scratch);
        headers.set_id(HeaderId::XForwardedFor, scratch);
    }
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
