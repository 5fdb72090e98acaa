//! HTTP/1.1 (RFC 9112): heads, framing, bodies and encoding. Never interprets a body, never decides
//! where a message goes.
//!
//! The order a message travels: [`HeadScanner`] waits for a head without reading bytes twice,
//! [`parse_request`] / [`parse_response`] copy it into a head and decide the [`BodyFraming`],
//! [`BodyDecoder`] turns the following bytes into ranges, and the `encode_*` functions write the message
//! for the other side. What RFC 9112 lets a recipient repair is refused instead: nothing ambiguous is
//! accepted, so nothing ambiguous can be forwarded.

mod body;
mod connection;
mod encode;
mod error;
pub(crate) mod field;
mod framing;
mod options;
mod reason;
mod request;
mod response;
mod scan;
mod target;

pub(crate) use field::{Plain as PlainLine, is_value, trim as trim_ows};
pub(crate) use framing::parse_length;
pub(crate) use request::{is_known_method, shadows};
pub(crate) use target::has_port;

pub use body::{BodyDecoder, BodyEvent, BodyLimits, DecodeStep};
pub use connection::{
    Expectation, expectation, has_token, request_keep_alive, response_keep_alive, response_opens_tunnel,
    upgrade_type,
};
pub use encode::{
    CHUNK_SUFFIX, CONTINUE, ConnectionLine, EncodeOptions, HeaderCase, LAST_CHUNK, LAST_CHUNK_LINE,
    encode_chunk_prefix, encode_request, encode_response, encode_trailers,
};
pub use error::{BodyError, RequestError, ResponseError};
pub use framing::{BodyFraming, RequestInfo, request_framing, response_framing};
pub use options::{ParseOptions, UnderscoreAction};
pub use reason::reason_phrase;
pub use request::parse_request;
pub use response::parse_response;
pub use scan::{HeadScanner, Parsed};
pub use target::is_valid_authority;
