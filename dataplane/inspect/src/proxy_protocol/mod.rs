//! The PROXY protocol, versions 1 and 2 (`envoy.filters.listener.proxy_protocol` and the upstream transport socket
//! `envoy.transport_sockets.upstream_proxy_protocol`), after HAProxy's `proxy-protocol.txt`.

mod encode;
#[cfg(test)]
mod tests;
mod text;
mod tlv;
mod v1;
mod v2;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

pub use encode::{EncodeError, encode_v1, encode_v2};
pub use text::{base64, sanitized};
pub use tlv::{CRC32C, Tlv, tlvs};

/// Longest header of version 1, with its line end.
pub const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2: the fixed part and what two octets of length can tell.
pub const V2_BYTES_MAX: usize = v2::FIXED_BYTES + u16::MAX as usize;

/// `ProxyProtocol.disallowed_versions` and `allow_requests_without_proxy_protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// A connection without a header is served with the addresses of its socket. Then a header that the rules refuse
    /// is data like any other, as in Envoy.
    pub allow_without: bool,
    /// Version 1 is refused.
    pub refuse_v1: bool,
    /// Version 2 is refused.
    pub refuse_v2: bool,
}

/// `PROXY_PROTOCOL_VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    V1,
    V2,
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call again with the same bytes and more behind them.
    NeedMore,
    /// There is no header and none is needed: every byte is the client's.
    Absent,
    /// A whole header.
    Header(Header),
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which form it had.
    pub version: Version,
    /// Its length in bytes; what follows is the client's.
    pub consumed: usize,
    /// Whose connection this is; `None` for `UNKNOWN`, `LOCAL` and addresses that are not of the Internet: the
    /// socket's own hold.
    pub addresses: Option<Addresses>,
    /// Where its TLVs stand, for [`tlvs`]; empty for version 1 and `LOCAL`, whose TLVs are ignored.
    pub tlvs: Range<usize>,
}

/// The connection that the header speaks of; both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who opened it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

/// Why a connection is closed. Envoy 1.40 counts [`Error::Missing`] as `proxy_proto.not_found_disallowed`,
/// [`Error::Disallowed`] as `versions.<v>.found` and `.disallowed`, the others as `versions.<v>.error`; all but a
/// disallowed one count as `downstream_cx_proxy_proto_error` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No header at all, and the rules want one.
    Missing,
    /// `disallowed_versions` has this one.
    Disallowed(Version),
    /// Version 1: the line is none of the grammar, or too long.
    Line,
    /// Version 2: wrong version, command, address family or transport.
    Unsupported,
    /// Version 2: the addresses or a TLV do not fit into the length.
    Length,
    /// Version 2: PP2_TYPE_CRC32C does not agree.
    Checksum,
    /// An address that no TCP connection has: multicast, broadcast or unspecified.
    Address(Version),
}

impl Error {
    /// Which version's counter it belongs to, where the bytes told.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Missing => None,
            Self::Disallowed(version) | Self::Address(version) => Some(version),
            Self::Line => Some(Version::V1),
            Self::Unsupported | Self::Length | Self::Checksum => Some(Version::V2),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no PROXY protocol header",
            Self::Disallowed(Version::V1) => "PROXY protocol version 1 is disallowed",
            Self::Disallowed(Version::V2) => "PROXY protocol version 2 is disallowed",
            Self::Line => "malformed line of PROXY protocol version 1",
            Self::Unsupported => {
                "unsupported version, command, family or transport in a PROXY protocol header"
            }
            Self::Length => "addresses or TLVs overrun the length of the PROXY protocol header",
            Self::Checksum => "the checksum of the PROXY protocol header does not agree",
            Self::Address(_) => "an address of the PROXY protocol header is not unicast",
        })
    }
}

impl std::error::Error for Error {}

/// Reads the header at the start of `bytes`, which is all that has come so far.
pub fn parse(bytes: &[u8], rules: &Rules) -> Result<Step, Error> {
    let version = if starts(bytes, v2::SIGNATURE) {
        Version::V2
    } else if starts(bytes, v1::PREFIX) {
        Version::V1
    } else {
        return if rules.allow_without { Ok(Step::Absent) } else { Err(Error::Missing) };
    };
    let (signature, refused) = match version {
        Version::V1 => (v1::PREFIX, rules.refuse_v1),
        Version::V2 => (v2::SIGNATURE, rules.refuse_v2),
    };
    if bytes.len() < signature.len() {
        return Ok(Step::NeedMore);
    }
    if refused {
        return if rules.allow_without { Ok(Step::Absent) } else { Err(Error::Disallowed(version)) };
    }
    match version {
        Version::V1 => v1::parse(bytes),
        Version::V2 => v2::parse(bytes),
    }
}

/// True when `bytes` is a beginning of `signature` or begins with it.
fn starts(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}

/// Both must be addresses that a TCP connection can have, as Envoy checks.
fn unicast(version: Version, addresses: Addresses) -> Result<Addresses, Error> {
    let sound = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast(),
        std::net::IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    let both = sound(addresses.source) && sound(addresses.destination);
    if both { Ok(addresses) } else { Err(Error::Address(version)) }
}
