//! `grpc-status` and what it is in HTTP, both ways.

use millrace_http::{HeaderId, HeaderMap};

/// The statuses that gRPC defines, 0 to 16.
pub const KNOWN: usize = 17;

/// One `grpc-status` as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrpcStatus {
    /// 0 to 16.
    Known(u8),
    /// Anything else, also what is no number.
    Other,
}

impl GrpcStatus {
    /// The one of a head's fields or of trailers.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get(HeaderId::GrpcStatus).map(Self::parse)
    }

    /// Reads the value of `grpc-status`.
    pub fn parse(value: &[u8]) -> Self {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u8>().ok());
        match number.filter(|status| usize::from(*status) < KNOWN) {
            Some(status) => Self::Known(status),
            None => Self::Other,
        }
    }

    /// 0: the call succeeded.
    pub fn is_ok(self) -> bool {
        self == Self::Known(0)
    }
}

/// The HTTP status that stands for a gRPC status, as Envoy maps it: outlier detection and load reports judge a call
/// by it.
pub fn grpc_to_http_status(status: GrpcStatus) -> u16 {
    match status {
        GrpcStatus::Known(0) => 200,
        GrpcStatus::Known(1) => 499,
        GrpcStatus::Known(3 | 9 | 11) => 400,
        GrpcStatus::Known(4) => 504,
        GrpcStatus::Known(5) => 404,
        GrpcStatus::Known(6 | 10) => 409,
        GrpcStatus::Known(7) => 403,
        GrpcStatus::Known(8) => 429,
        GrpcStatus::Known(12) => 501,
        GrpcStatus::Known(14) => 503,
        GrpcStatus::Known(16) => 401,
        GrpcStatus::Known(_) | GrpcStatus::Other => 500,
    }
}

/// The gRPC status of an HTTP one (gRPC's `http-grpc-status-mapping.md`).
pub fn http_to_grpc_status(http: u16) -> &'static str {
    match http {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 | 504 => "14",
        _ => "2",
    }
}

/// `Percent-Encoded` of the gRPC wire protocol: everything but 0x20-0x7e without `%`.
pub fn percent_encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in text {
        if (0x20..0x7f).contains(&b) && b != b'%' {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_strictly() {
        for (value, status) in [
            ("0", GrpcStatus::Known(0)),
            ("16", GrpcStatus::Known(16)),
            ("17", GrpcStatus::Other),
            ("", GrpcStatus::Other),
            ("-1", GrpcStatus::Other),
            ("abc", GrpcStatus::Other),
        ] {
            assert_eq!(GrpcStatus::parse(value.as_bytes()), status, "{value}");
        }
        assert!(GrpcStatus::Known(0).is_ok() && !GrpcStatus::Other.is_ok());
    }

    #[test]
    fn http_statuses_follow_the_mapping_document() {
        for (http, grpc) in [
            (400, "13"),
            (401, "16"),
            (403, "7"),
            (404, "12"),
            (429, "14"),
            (502, "14"),
            (503, "14"),
            (504, "14"),
            (200, "2"),
            (408, "2"),
            (413, "2"),
            (500, "2"),
        ] {
            assert_eq!(http_to_grpc_status(http), grpc, "{http}");
        }
    }

    #[test]
    fn grpc_statuses_have_an_http_status() {
        let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (status, http) in expected.into_iter().enumerate() {
            assert_eq!(grpc_to_http_status(GrpcStatus::Known(status as u8)), http, "{status}");
        }
        assert_eq!(grpc_to_http_status(GrpcStatus::Other), 500);
    }

    #[test]
    fn grpc_messages_are_percent_encoded() {
        let mut out = Vec::new();
        percent_encode("50% \u{e9}\n~".as_bytes(), &mut out);
        assert_eq!(out, b"50%25 %C3%A9%0A~");
    }
}
