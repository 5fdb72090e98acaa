//! How a body is delimited, decided once at the head (RFC 9112 section 6.3).

use super::error::{RequestError, ResponseError};
use crate::h1::field::trim;
use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::header::{HeaderId, HeaderMap, is_token};

/// How the bytes after a head are delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body and no trailers.
    None,
    /// Exactly this many bytes; 0 is an explicitly empty body.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection ends; responses only.
    UntilClose,
    /// No HTTP any more: after a 101 or a 2xx to CONNECT.
    Tunnel,
}

/// What a response parser must know about the request that it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The request was HEAD.
    pub head: bool,
    /// The request was CONNECT.
    pub connect: bool,
    /// The request that was sent upstream asked for an upgrade.
    pub upgrade: bool,
}

impl RequestInfo {
    /// What the request as sent upstream says; an upgrade counts only if its fields are still there.
    pub fn of(head: &RequestHead) -> Self {
        let kind = head.method_kind();
        Self {
            head: kind == Method::Head,
            connect: kind == Method::Connect,
            upgrade: super::connection::upgrade_type(&head.headers).is_some(),
        }
    }
}

/// Trouble with Content-Length or Transfer-Encoding, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Length,
    UnknownCoding,
    Coding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    Nothing,
    Length(u64),
    Chunked,
    ChunkedOverLength,
}

/// RFC 9112 section 6.3 rules 3 to 6, without the repairs that they allow.
#[inline]
fn declared(headers: &HeaderMap, version: Version) -> Result<Declared, Trouble> {
    let mask = HeaderId::ContentLength.bit() | HeaderId::TransferEncoding.bit();
    if headers.present() & mask == 0 {
        return Ok(Declared::Nothing);
    }
    let mut lengths = headers.values(HeaderId::ContentLength);
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(value), None) => Some(parse_length(value).ok_or(Trouble::Length)?),
        (Some(_), Some(_)) => return Err(Trouble::Length),
    };
    let mut codings = headers.values(HeaderId::TransferEncoding);
    let Some(coding) = codings.next() else {
        return Ok(length.map_or(Declared::Nothing, Declared::Length));
    };
    if codings.next().is_some() || version == Version::Http10 {
        return Err(Trouble::Coding);
    }
    if !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(classify_coding(coding));
    }
    Ok(if length.is_some() { Declared::ChunkedOverLength } else { Declared::Chunked })
}

/// A plain decimal number without sign, list, or leading zeros.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || (value[0] == b'0' && value.len() > 1) {
        return None;
    }
    value.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// 501 for a well-formed list that ends in `chunked` or has a coding that we do not know; else 400.
fn classify_coding(value: &[u8]) -> Trouble {
    let mut unknown = false;
    let mut chunked = 0;
    let mut last_is_chunked = false;
    for item in value.split(|b| *b == b',') {
        let coding = trim(item);
        if !is_token(coding) || coding.eq_ignore_ascii_case(b"identity") {
            return Trouble::Coding;
        }
        last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(last_is_chunked);
        unknown |= !last_is_chunked;
    }
    match unknown && (chunked == 0 || (chunked == 1 && last_is_chunked)) {
        true => Trouble::UnknownCoding,
        false => Trouble::Coding,
    }
}

/// The framing of a request body (RFC 9112 section 6.3). `Err` means 400 or 501 and close.
pub fn request_framing(head: &RequestHead) -> Result<BodyFraming, RequestError> {
    match declared(&head.headers, head.version) {
        Ok(Declared::Nothing) => Ok(BodyFraming::None),
        Ok(Declared::Length(n)) => Ok(BodyFraming::Length(n)),
        Ok(Declared::Chunked) => Ok(BodyFraming::Chunked),
        Ok(Declared::ChunkedOverLength) => Err(RequestError::LengthAndChunked),
        Err(Trouble::Length) => Err(RequestError::BadContentLength),
        Err(Trouble::UnknownCoding) => Err(RequestError::UnknownTransferEncoding),
        Err(Trouble::Coding) => Err(RequestError::BadTransferEncoding),
    }
}

/// The framing of a response body (RFC 9112 section 6.3). `Err` means 502 and close.
pub fn response_framing(head: &ResponseHead, request: &RequestInfo) -> Result<BodyFraming, ResponseError> {
    let declared = declared(&head.headers, head.version).map_err(|trouble| match trouble {
        Trouble::Length => ResponseError::BadContentLength,
        Trouble::UnknownCoding | Trouble::Coding => ResponseError::BadTransferEncoding,
    })?;
    if declared == Declared::ChunkedOverLength {
        return Err(ResponseError::LengthAndChunked);
    }
    let bodyless = matches!(head.status, 100..=199 | 204);
    if bodyless && declared == Declared::Chunked {
        return Err(ResponseError::TransferEncodingNotAllowed);
    }
    if bodyless && !matches!(declared, Declared::Nothing | Declared::Length(0)) {
        return Err(ResponseError::LengthNotAllowed);
    }
    if head.status == 101 {
        return if request.upgrade { Ok(BodyFraming::Tunnel) } else { Err(ResponseError::UnexpectedUpgrade) };
    }
    if request.connect && matches!(head.status, 200..=299) {
        return Ok(BodyFraming::Tunnel);
    }
    if bodyless || head.status == 304 || request.head {
        return Ok(BodyFraming::None);
    }
    Ok(match declared {
        Declared::Nothing => BodyFraming::UntilClose,
        Declared::Length(n) => BodyFraming::Length(n),
        Declared::Chunked | Declared::ChunkedOverLength => BodyFraming::Chunked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, fields: &[(&str, &str)]) -> Result<BodyFraming, RequestError> {
        let mut head = RequestHead::new();
        head.version = version;
        for (n, v) in fields {
            head.headers.append(n.as_bytes(), v.as_bytes());
        }
        request_framing(&head)
    }

    #[test]
    fn content_length_is_one_plain_number() {
        let one = |v: &str| request(Version::Http11, &[("content-length", v)]);
        assert_eq!(request(Version::Http11, &[]), Ok(BodyFraming::None));
        assert_eq!(one("0"), Ok(BodyFraming::Length(0)));
        assert_eq!(one("9223372036854775807"), Ok(BodyFraming::Length(i64::MAX as u64)));
        for bad in [
            "",
            "+5",
            "-0",
            "0x5",
            "5_0",
            "5 0",
            "05",
            "00",
            "5, 5",
            "5,5",
            "5.0",
            "99999999999999999999",
            "٣",
        ] {
            assert_eq!(one(bad), Err(RequestError::BadContentLength), "{bad:?}");
        }
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert_eq!(request(Version::Http11, &twice), Err(RequestError::BadContentLength));
    }

    #[test]
    fn transfer_encoding_is_chunked_alone() {
        let te = |v: &str| request(Version::Http11, &[("transfer-encoding", v)]);
        assert_eq!(te("chunked"), Ok(BodyFraming::Chunked));
        assert_eq!(te("ChUnKeD"), Ok(BodyFraming::Chunked));
        for unknown in ["gzip", "gzip, chunked", "xchunked", "deflate,gzip , chunked"] {
            assert_eq!(te(unknown), Err(RequestError::UnknownTransferEncoding), "{unknown:?}");
        }
        let bad = [
            "",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked, gzip",
            "identity",
            "identity, chunked",
        ];
        for bad in
            bad.iter().chain(&["\"chunked\"", "chunked;q=1", "chun ked", "chunked chunked", "[chunked]"])
        {
            assert_eq!(te(bad), Err(RequestError::BadTransferEncoding), "{bad:?}");
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(request(Version::Http11, &twice), Err(RequestError::BadTransferEncoding));
        assert_eq!(request(Version::Http10, &twice[..1]), Err(RequestError::BadTransferEncoding));
        let both = [("transfer-encoding", "chunked"), ("content-length", "3")];
        assert_eq!(request(Version::Http11, &both), Err(RequestError::LengthAndChunked));
    }

    fn response(
        status: u16,
        info: RequestInfo,
        fields: &[(&str, &str)],
    ) -> Result<BodyFraming, ResponseError> {
        let mut head = ResponseHead::new();
        head.status = status;
        for (n, v) in fields {
            head.headers.append(n.as_bytes(), v.as_bytes());
        }
        response_framing(&head, &info)
    }

    #[test]
    fn response_bodies_depend_on_the_request() {
        let plain = RequestInfo::default();
        let head = RequestInfo { head: true, ..plain };
        let connect = RequestInfo { connect: true, ..plain };
        let upgrade = RequestInfo { upgrade: true, ..plain };
        let five = [("content-length", "5")];
        let chunked = [("transfer-encoding", "chunked")];
        assert_eq!(response(200, plain, &five), Ok(BodyFraming::Length(5)));
        assert_eq!(response(200, plain, &chunked), Ok(BodyFraming::Chunked));
        assert_eq!(response(200, plain, &[]), Ok(BodyFraming::UntilClose));
        assert_eq!(response(200, head, &five), Ok(BodyFraming::None));
        assert_eq!(response(304, plain, &five), Ok(BodyFraming::None));
        assert_eq!(response(204, plain, &five), Err(ResponseError::LengthNotAllowed));
        assert_eq!(response(204, plain, &[("content-length", "0")]), Ok(BodyFraming::None));
        assert_eq!(response(103, plain, &chunked), Err(ResponseError::TransferEncodingNotAllowed));
        assert_eq!(response(101, upgrade, &[]), Ok(BodyFraming::Tunnel));
        assert_eq!(response(101, plain, &[]), Err(ResponseError::UnexpectedUpgrade));
        assert_eq!(response(200, connect, &[]), Ok(BodyFraming::Tunnel));
        assert_eq!(response(403, connect, &five), Ok(BodyFraming::Length(5)));
        assert_eq!(response(200, plain, &[five[0], chunked[0]]), Err(ResponseError::LengthAndChunked));
        assert_eq!(response(200, plain, &[five[0], five[0]]), Err(ResponseError::BadContentLength));
        assert_eq!(
            response(200, plain, &[("transfer-encoding", "gzip")]),
            Err(ResponseError::BadTransferEncoding)
        );
    }
}
