//! Header compression of HTTP/2 (RFC 7541): one [`Decoder`] and one [`Encoder`] a connection.
//!
//! Read `static_table` (what a name is), `table` (how entries are kept), `decode`, then `encode` with its policy of what
//! is worth an entry. Nothing is allocated per field or block once the tables have grown to their size.

mod decode;
mod encode;
mod error;
mod huffman;
mod integer;
mod lookup;
mod policy;
mod static_table;
mod table;

pub use decode::{Decoder, Field, Validity};
pub use encode::Encoder;
pub use error::HpackError;
pub(crate) use huffman::LENGTHS as CODE_LENGTHS;
pub use static_table::{Name, Pseudo};

#[cfg(test)]
mod tests;
