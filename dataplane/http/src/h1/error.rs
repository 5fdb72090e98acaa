//! Every way a message can be wrong, with the status and the details that Envoy reports for it.

use core::fmt;

use millrace_base::Origin;

/// Why a request head was refused. The connection must be closed after the local reply; nothing of the
/// request may be forwarded. Retrying the same bytes never helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// The request line is not `method SP target SP version CRLF` (RFC 9112 section 3).
    BadRequestLine,
    /// The method is not one that Envoy knows and `allow_custom_methods` is off.
    UnknownMethod,
    /// The target is in no form that fits the method (RFC 9112 section 3.2).
    BadTarget,
    /// An absolute-form target with a scheme other than http or https.
    BadScheme,
    /// The target exceeds `target_bytes_max`.
    TargetTooLong,
    /// HTTP/1.0 without `accept_http_10`.
    Http10NotAccepted,
    /// A version that is neither HTTP/1.0 nor HTTP/1.1.
    BadVersion,
    /// The head exceeds `head_bytes_max`.
    HeadTooLarge,
    /// More than `head_fields_max` fields.
    TooManyFields,
    /// A line that ends in a bare LF, is folded, or has no legal field name before its colon.
    BadField,
    /// A field value with a control byte (RFC 9110 section 5.5).
    BadValue,
    /// A name with an underscore that the configuration or the shadowing rule refuses.
    Underscore,
    /// No `Host` (RFC 9112 section 3.2). Method and path were understood.
    MissingHost,
    /// Several `Host` fields, or one that is no `uri-host [":" port]`.
    BadHost,
    /// Several Content-Length fields, or one that is no plain decimal number (RFC 9112 section 6.3).
    BadContentLength,
    /// Content-Length together with Transfer-Encoding.
    LengthAndChunked,
    /// A transfer coding that is not implemented: 501.
    UnknownTransferEncoding,
    /// Transfer-Encoding that is malformed, repeated, not final, or sent in HTTP/1.0.
    BadTransferEncoding,
    /// `Connection` names a framing or identity field, or too many fields.
    ConnectionRejected,
}

impl RequestError {
    /// The status of the local reply.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::Http10NotAccepted => 426,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::UnknownTransferEncoding => 501,
            Self::BadVersion => 505,
            _ => 400,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(self) -> &'static str {
        match self {
            Self::BadRequestLine | Self::UnknownMethod | Self::BadField | Self::BadContentLength => {
                "http1.codec_error"
            }
            Self::BadTarget => "http1.invalid_url",
            Self::BadScheme => "http1.invalid_scheme",
            Self::TargetTooLong | Self::HeadTooLarge => "http1.headers_too_large",
            Self::Http10NotAccepted | Self::BadVersion => "low_version",
            Self::TooManyFields => "http1.too_many_headers",
            Self::BadValue => "http1.invalid_characters",
            Self::Underscore => "http1.unexpected_underscore",
            Self::MissingHost => "missing_host_header",
            Self::BadHost => "http.invalid_authority",
            Self::LengthAndChunked => "http1.content_length_and_chunked_not_allowed",
            Self::UnknownTransferEncoding | Self::BadTransferEncoding => "http1.invalid_transfer_encoding",
            Self::ConnectionRejected => "http1.connection_header_rejected",
        }
    }

    /// True when Envoy treats the error as the codec's (flag `DPE`, an access log without request fields,
    /// the reason phrase as body); false for a complete request that the connection manager refused.
    pub fn is_protocol_error(self) -> bool {
        self != Self::MissingHost
    }

    /// Whose fault it is: always the client's.
    pub fn origin(self) -> Origin {
        Origin::Downstream
    }
}

/// Why a response head was refused. The upstream connection must be closed; the client gets 502 with
/// flag `UPE`. A retry on another connection is safe under the rules of the retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// The status line is not `version SP 3DIGIT [SP reason] CRLF` (RFC 9112 section 4).
    BadStatusLine,
    /// A version that is neither HTTP/1.0 nor HTTP/1.1.
    BadVersion,
    /// The head exceeds `head_bytes_max`.
    HeadTooLarge,
    /// More than `head_fields_max` fields.
    TooManyFields,
    /// A malformed field line.
    BadField,
    /// A field value with a control byte.
    BadValue,
    /// Several Content-Length fields or a malformed one.
    BadContentLength,
    /// Content-Length other than 0 in a 1xx or 204 response (RFC 9110 section 8.6).
    LengthNotAllowed,
    /// Content-Length together with Transfer-Encoding.
    LengthAndChunked,
    /// Transfer-Encoding other than a single `chunked`, or in HTTP/1.0.
    BadTransferEncoding,
    /// Transfer-Encoding in a 1xx or 204 response (RFC 9112 section 6.1).
    TransferEncodingNotAllowed,
    /// 101 without a request for an upgrade.
    UnexpectedUpgrade,
}

impl ResponseError {
    /// The status of the local reply that the client gets.
    pub fn status(self) -> u16 {
        502
    }

    /// The codec's own details (Envoy logs them as the transport failure, not as response code details).
    pub fn details(self) -> &'static str {
        match self {
            Self::BadStatusLine | Self::BadVersion | Self::BadField | Self::BadContentLength => {
                "http1.codec_error"
            }
            Self::UnexpectedUpgrade => "http1.codec_error",
            Self::HeadTooLarge => "http1.headers_too_large",
            Self::TooManyFields => "http1.too_many_headers",
            Self::BadValue => "http1.invalid_characters",
            Self::LengthNotAllowed => "http1.content_length_not_allowed",
            Self::LengthAndChunked => "http1.content_length_and_chunked_not_allowed",
            Self::BadTransferEncoding => "http1.invalid_transfer_encoding",
            Self::TransferEncodingNotAllowed => "http1.transfer_encoding_not_allowed",
        }
    }

    /// Whose fault it is: always the upstream's.
    pub fn origin(self) -> Origin {
        Origin::Upstream
    }
}

/// Why a body was refused. Whoever sends it is at fault. If part of it was forwarded, the connection to
/// the other side must be aborted and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyError {
    /// The chunk size is no plain hexadecimal number of at most 16 digits.
    BadChunkSize,
    /// A chunk extension outside the grammar (RFC 9112 section 7.1.1).
    BadChunkExtension,
    /// More bytes of chunk extensions than one message may have.
    ExtensionsTooLarge,
    /// A chunk line that does not end in CRLF.
    BadChunkLine,
    /// Chunk data that is not followed by CRLF.
    ChunkSpill,
    /// A malformed trailer field.
    BadTrailer,
    /// A trailer section beyond its limits.
    TrailersTooLarge,
    /// The connection ended before the message did.
    Truncated,
}

impl BodyError {
    /// The status if no response has started: 400 to a client; an upstream's fault is a 502.
    pub fn status(self) -> u16 {
        match self {
            Self::TrailersTooLarge => 431,
            _ => 400,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(self) -> &'static str {
        match self {
            Self::TrailersTooLarge => "http1.headers_too_large",
            _ => "http1.codec_error",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request refused: {self:?} ({})", self.details())
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "response refused: {self:?} ({})", self.details())
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "body refused: {self:?} ({})", self.details())
    }
}

impl core::error::Error for RequestError {}
impl core::error::Error for ResponseError {}
impl core::error::Error for BodyError {}
