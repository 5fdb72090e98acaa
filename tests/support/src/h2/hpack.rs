//! HPACK (RFC 7541) for tests: an encoder that only writes literals, and a plain full decoder. Neither shares anything
//! with the proxy's own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;

use super::tables::{HUFFMAN_BITS, STATIC};
use crate::strict::{Fields, latin1};

/// An integer with a prefix of `bits` bits, whose first octet also carries `pattern` (section 5.1).
pub fn integer(pattern: u8, bits: u8, value: usize) -> Vec<u8> {
    let most = (1usize << bits) - 1;
    let low = |n: usize| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
    if value < most {
        return vec![pattern | low(value)];
    }
    let mut out = vec![pattern | low(most)];
    let mut rest = value - most;
    while rest >= 128 {
        out.push(low(rest % 128) | 128);
        rest /= 128;
    }
    out.push(low(rest));
    out
}

/// A string literal without Huffman coding (section 5.2); every char is one octet.
pub fn string(text: &str) -> Vec<u8> {
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    [integer(0, 7, bytes.len()), bytes].concat()
}

/// A literal field with a literal name that enters no table (section 6.2.2).
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// A literal field with a literal name that enters the dynamic table (section 6.2.1).
pub fn indexing(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// A whole block of literals.
pub fn block<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(n, v)| literal(n.as_ref(), v.as_ref())).collect()
}

/// A decoder with its dynamic table.
#[derive(Debug)]
pub struct Decoder {
    table: VecDeque<(String, String)>,
    limit: usize,
    most: usize,
}

impl Decoder {
    /// A table of at most `most` octets, which is what SETTINGS_HEADER_TABLE_SIZE announced.
    pub fn new(most: usize) -> Self {
        Self { table: VecDeque::new(), limit: most.min(4096), most }
    }

    /// Decodes one block; Latin-1, so that no octet is lost.
    ///
    /// # Errors
    /// The broken rule.
    pub fn decode(&mut self, block: &[u8]) -> Result<Fields, String> {
        let mut at = Reader { bytes: block, at: 0 };
        let mut out = Vec::new();
        while at.at < block.len() {
            let first = block[at.at];
            if first & 0x80 != 0 {
                let index = at.integer(7)?;
                out.push(self.entry(index)?);
            } else if first & 0xc0 == 0x40 {
                let field = self.literal(&mut at, 6)?;
                self.insert(field.clone());
                out.push(field);
            } else if first & 0xe0 == 0x20 {
                let limit = at.integer(5)?;
                if !out.is_empty() || limit > self.most {
                    return Err(format!("table size update to {limit} behind {} fields", out.len()));
                }
                self.limit = limit;
                self.evict(0);
            } else {
                out.push(self.literal(&mut at, 4)?);
            }
        }
        Ok(Fields(out))
    }

    fn literal(&self, at: &mut Reader<'_>, bits: u8) -> Result<(String, String), String> {
        let name = match at.integer(bits)? {
            0 => at.string()?,
            index => self.entry(index)?.0,
        };
        Ok((name, at.string()?))
    }

    fn entry(&self, index: usize) -> Result<(String, String), String> {
        let fixed = index.checked_sub(1).and_then(|i| STATIC.get(i));
        let own = || index.checked_sub(STATIC.len() + 1).and_then(|i| self.table.get(i)).cloned();
        fixed
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .or_else(own)
            .ok_or_else(|| format!("index {index} is in no table"))
    }

    fn insert(&mut self, field: (String, String)) {
        let size = size(&field);
        self.evict(size);
        if size <= self.limit {
            self.table.push_front(field);
        }
    }

    fn evict(&mut self, room: usize) {
        while !self.table.is_empty() && self.table.iter().map(size).sum::<usize>() + room > self.limit {
            self.table.pop_back();
        }
    }
}

/// Section 4.1. A char is an octet here.
fn size(field: &(String, String)) -> usize {
    field.0.chars().count() + field.1.chars().count() + 32
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn octet(&mut self) -> Result<u8, String> {
        let octet = self.bytes.get(self.at).copied().ok_or("the block ends early")?;
        self.at += 1;
        Ok(octet)
    }

    fn integer(&mut self, bits: u8) -> Result<usize, String> {
        let most = (1usize << bits) - 1;
        let mut value = usize::from(self.octet()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in (0..28).step_by(7) {
            let octet = usize::from(self.octet()?);
            value += (octet & 127) << shift;
            if octet & 128 == 0 {
                return Ok(value);
            }
        }
        Err("an endless integer".into())
    }

    fn string(&mut self) -> Result<String, String> {
        let coded = self.bytes.get(self.at).is_some_and(|b| b & 0x80 != 0);
        let len = self.integer(7)?;
        let bytes = self.bytes.get(self.at..self.at + len).ok_or("a string beyond the block")?;
        self.at += len;
        Ok(latin1(&if coded { huffman(bytes)? } else { bytes.to_vec() }))
    }
}

/// Symbols by length and code.
fn codes() -> &'static BTreeMap<(u8, u32), usize> {
    static CODES: OnceLock<BTreeMap<(u8, u32), usize>> = OnceLock::new();
    CODES.get_or_init(|| {
        let mut order: Vec<usize> = (0..HUFFMAN_BITS.len()).collect();
        order.sort_by_key(|s| HUFFMAN_BITS[*s]);
        let (mut code, mut bits) = (0u32, HUFFMAN_BITS[order[0]]);
        let mut out = BTreeMap::new();
        for symbol in order {
            code <<= HUFFMAN_BITS[symbol] - bits;
            bits = HUFFMAN_BITS[symbol];
            out.insert((bits, code), symbol);
            code += 1;
        }
        out
    })
}

/// Bit by bit; the padding must be the start of the end-of-string code and shorter than an octet.
fn huffman(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (mut out, mut code, mut bits) = (Vec::new(), 0u32, 0u8);
    for bit in bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)) {
        code = code << 1 | u32::from(bit);
        bits += 1;
        if let Some(symbol) = codes().get(&(bits, code)) {
            out.push(u8::try_from(*symbol).map_err(|_| "the end of the string is coded")?);
            (code, bits) = (0, 0);
        }
        if bits > 30 {
            return Err("no such code".into());
        }
    }
    if bits > 7 || code != (1u32 << bits) - 1 {
        return Err(format!("padding of {bits} bits"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    /// RFC 7541, C.4: three requests with Huffman coding over one table.
    #[test]
    fn the_examples_of_the_standard() {
        let mut decoder = Decoder::new(4096);
        let first = decoder.decode(&bytes("828684418cf1e3c2e5f23a6ba0ab90f4ff")).unwrap();
        assert_eq!(first.get(":authority"), Some("www.example.com"));
        let second = decoder.decode(&bytes("828684be5886a8eb10649cbf")).unwrap();
        assert_eq!(
            (second.get(":authority"), second.get("cache-control")),
            (Some("www.example.com"), Some("no-cache"))
        );
        let third = decoder.decode(&bytes("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")).unwrap();
        assert_eq!(
            (third.get(":path"), third.get("custom-key")),
            (Some("/index.html"), Some("custom-value"))
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let fields = [(":method", "GET"), ("x", ""), ("long", &"v".repeat(5000)[..])];
        let read = Decoder::new(4096).decode(&block(&fields)).unwrap();
        assert_eq!(read.0.len(), 3);
        assert_eq!(read.get("long").map(str::len), Some(5000));
        assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
    }

    #[test]
    fn breaches_are_errors() {
        for bad in ["80", "ff00", "be", "4001", "828120", "418100", "0081ff81ff"] {
            assert!(Decoder::new(4096).decode(&bytes(bad)).is_err(), "{bad}");
        }
    }
}
