//! Field blocks into neutral heads: one pass from the decoder, every rule of RFC 9113 section 8 on the way.

mod check;
mod request;
mod response;
mod trailers;

pub(super) use check::{Fault, Gate};
pub(super) use request::{Request, RequestReader};
pub(super) use response::ResponseReader;
pub(super) use trailers::TrailerReader;
