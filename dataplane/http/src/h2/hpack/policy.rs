//! Which fields are worth an entry of the table, by name.
//!
//! Measured on a sidecar's head of 16 fields, 6 of them new each time, encoder and decoder together: entries at first sight
//! for varying values cost 2,100 instructions a head more (4,100 with REST paths) and change its octets by 4 %, never having
//! them costs 26 to 35 octets of 128, and Huffman code for what gets no entry saves 28 octets for 3,800 instructions.

use super::static_table::{Name, Pseudo};
use crate::HeaderId;

/// How the values of a name behave from message to message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The same for most messages: an entry at first sight.
    Stable,
    /// Sometimes the same, or one of many: an entry at second sight.
    Varying,
    /// Never the same, or too short to gain by an entry: not even looked for.
    Fresh,
    /// A secret: never indexed, here or further on (RFC 7541 section 7.1.3).
    Secret,
}

/// Shorter cookies may be guessed byte by byte (RFC 7541 section 7.1).
const GUESSABLE: usize = 20;

/// The kind of a field.
#[inline]
pub(super) fn kind(id: Name, value: &[u8]) -> Kind {
    match id {
        Name::Known(HeaderId::Cookie) if value.len() < GUESSABLE => Kind::Secret,
        Name::Known(id) => KINDS[id as usize & 127],
        Name::Pseudo(Pseudo::Path) | Name::Other => Kind::Varying,
        Name::Pseudo(_) => Kind::Stable,
    }
}

static KINDS: [Kind; 128] = {
    let mut kinds = [Kind::Varying; 128];
    let mut i = 0;
    while i < HeaderId::ALL.len() {
        kinds[i] = kind_of(HeaderId::ALL[i]);
        i += 1;
    }
    kinds
};

const fn kind_of(id: HeaderId) -> Kind {
    use HeaderId::*;
    match id {
        Authorization | ProxyAuthorization => Kind::Secret,
        XRequestId
        | XClientTraceId
        | Traceparent
        | XB3TraceId
        | XB3SpanId
        | XB3ParentSpanId
        | B3
        | SetCookie
        | SecWebsocketKey
        | SecWebsocketAccept
        | XEnvoyUpstreamServiceTime
        | XEnvoyUpstreamStreamDurationMs => Kind::Fresh,
        ContentLength
        | ContentRange
        | Range
        | Date
        | Etag
        | Age
        | Expires
        | LastModified
        | IfMatch
        | IfNoneMatch
        | IfModifiedSince
        | Location
        | Referer
        | Forwarded
        | XForwardedFor
        | XForwardedClientCert
        | XEnvoyExternalAddress
        | XEnvoyOriginalPath
        | XEnvoyOriginalUrl
        | XEnvoyExpectedRqTimeoutMs
        | GrpcTimeout
        | GrpcMessage
        | GrpcStatusDetailsBin
        | Tracestate => Kind::Varying,
        _ => Kind::Stable,
    }
}
