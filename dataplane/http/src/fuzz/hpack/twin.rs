//! A slow HPACK decoder written straight from RFC 7541: a list of pairs, a string of bits. It shares the lengths of the
//! Huffman codes with the codec and nothing else; the examples of appendix C hold for both.

use alloc::vec::Vec;

use crate::h2::hpack::{CODE_LENGTHS, Validity};

/// A field as the twin sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinField {
    /// The name.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Came as "never indexed".
    pub sensitive: bool,
}

/// The decoder.
#[derive(Debug)]
pub struct Twin {
    /// The dynamic table, the newest field first.
    table: Vec<(Vec<u8>, Vec<u8>)>,
    max_size: usize,
    limit: usize,
    /// Length and bits of every code with its symbol, sorted.
    codes: Vec<((u8, u32), usize)>,
}

/// The block is wrong; the twin does not say how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong;

impl Twin {
    /// A decoder of a peer whose table may have `limit` octets.
    pub fn new(limit: u32) -> Self {
        Self { table: Vec::new(), max_size: 4096, limit: limit.max(4096) as usize, codes: codes() }
    }

    /// The peer has acknowledged another limit.
    pub fn set_table_size(&mut self, limit: u32) {
        self.limit = limit as usize;
    }

    /// Octets in use and their limit.
    pub fn table_size(&self) -> (usize, u32) {
        (self.table.iter().map(size).sum(), self.max_size as u32)
    }

    /// Decodes a block: the fields up to the first error, and whether there was none.
    pub fn decode(&mut self, block: &[u8]) -> (Vec<TwinField>, Result<(), Wrong>) {
        let (mut fields, mut input, mut updates_allowed) = (Vec::new(), block, true);
        while !input.is_empty() {
            match self.step(&mut input, &mut updates_allowed) {
                Ok(field) => fields.extend(field),
                Err(Wrong) => return (fields, Err(Wrong)),
            }
        }
        let missing = self.max_size > self.limit && !block.is_empty();
        (fields, if missing { Err(Wrong) } else { Ok(()) })
    }

    fn step(&mut self, input: &mut &[u8], updates_allowed: &mut bool) -> Result<Option<TwinField>, Wrong> {
        let first = input[0];
        if first & 0b1110_0000 == 0b0010_0000 {
            let size = integer(input, 5)?;
            if !*updates_allowed || size > self.limit {
                return Err(Wrong);
            }
            self.max_size = size;
            self.shrink(0);
            return Ok(None);
        }
        *updates_allowed = false;
        if self.max_size > self.limit {
            return Err(Wrong);
        }
        if first & 0b1000_0000 != 0 {
            let (name, value) = self.get(integer(input, 7)?)?;
            return Ok(Some(TwinField { name, value, sensitive: false }));
        }
        let indexed = first & 0b0100_0000 != 0;
        let sensitive = !indexed && first & 0b0001_0000 != 0;
        let index = integer(input, if indexed { 6 } else { 4 })?;
        let name = if index == 0 { self.string(input)? } else { self.get(index)?.0 };
        let value = self.string(input)?;
        if indexed {
            let field = (name.clone(), value.clone());
            self.shrink(size(&field));
            if size(&field) <= self.max_size {
                self.table.insert(0, field);
            }
        }
        Ok(Some(TwinField { name, value, sensitive }))
    }

    /// Evicts until `more` octets fit.
    fn shrink(&mut self, more: usize) {
        while !self.table.is_empty() && self.table_size().0 + more > self.max_size {
            self.table.pop();
        }
    }

    fn get(&self, index: usize) -> Result<(Vec<u8>, Vec<u8>), Wrong> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|i| STATIC.get(i)) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        index.checked_sub(62).and_then(|i| self.table.get(i)).cloned().ok_or(Wrong)
    }

    fn string(&self, input: &mut &[u8]) -> Result<Vec<u8>, Wrong> {
        let huffman = input.first().ok_or(Wrong)? & 0x80 != 0;
        let len = integer(input, 7)?;
        let (octets, rest) = input.split_at_checked(len).ok_or(Wrong)?;
        *input = rest;
        if huffman { self.huffman(octets) } else { Ok(octets.to_vec()) }
    }

    /// Decodes bit by bit.
    pub fn huffman(&self, octets: &[u8]) -> Result<Vec<u8>, Wrong> {
        let (mut text, mut len, mut code) = (Vec::new(), 0, 0);
        for octet in octets {
            for bit in (0..8).rev() {
                (len, code) = (len + 1, code << 1 | u32::from(octet >> bit & 1));
                if let Ok(at) = self.codes.binary_search_by_key(&(len, code), |(code, _)| *code) {
                    text.push(u8::try_from(self.codes[at].1).map_err(|_| Wrong)?);
                    (len, code) = (0, 0);
                }
            }
        }
        if len > 7 || code + 1 != 1 << len { Err(Wrong) } else { Ok(text) }
    }

    /// Encodes bit by bit.
    pub fn to_huffman(&self, text: &[u8]) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        for b in text {
            let code = self.codes.iter().find(|(_, symbol)| *symbol == usize::from(*b));
            if let Some(((len, code), _)) = code {
                bits.extend((0..*len).rev().map(|bit| code >> bit & 1 == 1));
            }
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8).map(|octet| octet.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }
}

fn size(field: &(Vec<u8>, Vec<u8>)) -> usize {
    field.0.len() + field.1.len() + 32
}

fn integer(input: &mut &[u8], prefix_bits: u32) -> Result<usize, Wrong> {
    let mut octets = input.iter();
    let ones = 2u64.pow(prefix_bits) - 1;
    let mut value = u64::from(*octets.next().ok_or(Wrong)?) & ones;
    if value == ones {
        let mut shift = 0;
        loop {
            let octet = u64::from(*octets.next().ok_or(Wrong)?);
            value += (octet % 128) << shift;
            shift += 7;
            if octet < 128 {
                break;
            }
            if shift == 35 {
                return Err(Wrong);
            }
        }
    }
    *input = octets.as_slice();
    u32::try_from(value).map(|value| value as usize).map_err(|_| Wrong)
}

/// Codes of a length follow each other in the order of their symbols; a longer one starts where the shorter ones end.
fn codes() -> Vec<((u8, u32), usize)> {
    let mut by_length: Vec<(u8, usize)> = CODE_LENGTHS.iter().copied().zip(0..).collect();
    by_length.sort_unstable();
    let (mut next, mut len) = (0, 0);
    let codes = by_length.into_iter().map(|(length, symbol)| {
        next <<= length - len;
        (len, next) = (length, next + 1);
        ((length, next - 1), symbol)
    });
    codes.collect()
}

/// What a field's octets are worth, written from RFC 9113 section 8.2.1 and RFC 9110 section 5.
pub fn validity(name: &[u8], value: &[u8]) -> Validity {
    let token = name.strip_prefix(b":").unwrap_or(name);
    let is_tchar = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(b);
    if token.is_empty() || !token.iter().all(is_tchar) {
        return Validity::BadName;
    }
    let is_text = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    if !value.iter().all(is_text) || value != value.trim_ascii() {
        return Validity::BadValue;
    }
    Validity::Ok
}

/// RFC 7541 appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
