//! Every way a header block can be wrong. All of them are connection errors of type COMPRESSION_ERROR (RFC 9113 section 4.3).

use core::fmt;

/// Why a header block was refused. The two sides' tables are out of step afterwards: the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HpackError {
    /// The block ends within a field or a size update.
    Truncated,
    /// An integer above 2^32 - 1, or one in more octets than such a number needs (RFC 7541 section 5.1).
    IntegerOverflow,
    /// Index 0, or one behind the end of the dynamic table (RFC 7541 sections 2.3.3 and 6.1).
    BadIndex,
    /// A size update above what our SETTINGS allow (RFC 7541 section 6.3).
    SizeUpdateTooLarge,
    /// A size update behind a field (RFC 7541 section 4.2).
    SizeUpdateLate,
    /// The peer acknowledged a smaller table and did not begin its next block with an update (RFC 7541 section 4.2).
    SizeUpdateMissing,
    /// A Huffman string with the EOS symbol in it (RFC 7541 section 5.2).
    HuffmanEos,
    /// A Huffman string whose last code is unfinished, or filled up with more than 7 bits (RFC 7541 section 5.2).
    HuffmanPadding,
}

impl HpackError {
    /// The words that stand in logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Truncated => "truncated header block",
            Self::IntegerOverflow => "integer overflow",
            Self::BadIndex => "index outside of the tables",
            Self::SizeUpdateTooLarge => "table size update above the limit",
            Self::SizeUpdateLate => "table size update behind a field",
            Self::SizeUpdateMissing => "no table size update after the limit was lowered",
            Self::HuffmanEos => "EOS within a Huffman string",
            Self::HuffmanPadding => "invalid Huffman padding",
        }
    }
}

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for HpackError {}
