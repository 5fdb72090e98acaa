//! The answer of the HTTP/2 origin, encoded once: header blocks as HPACK (RFC 7541), with indexing like a server
//! of today, and without for a peer that allows no table.

/// What a peer's decoder holds of earlier blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Table {
    /// Nothing yet.
    #[default]
    Fresh,
    /// Every field of the answer.
    Filled,
    /// It wants less than the default of 4,096 octets and has not been told yet that it will get none.
    Refused,
    /// It knows.
    None,
}

/// The same for every request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// A block that fills the peer's table, one that names its entries, and one without a table.
    filling: Vec<u8>,
    indexed: Vec<u8>,
    literal: Vec<u8>,
    /// Trailers, never indexed.
    pub(super) trailers: Option<Vec<u8>>,
    /// Octets of the body.
    pub(super) body: usize,
}

/// Entries of the static table, RFC 7541 appendix A.
const STATIC_ENTRIES: usize = 61;
const STATUS_200: u8 = 0x88;
/// First octets of a literal whose name is new: with incremental indexing, and without indexing.
const INDEXING: u8 = 0x40;
const PLAIN: u8 = 0x00;
/// A dynamic table size update to 0.
const EMPTY_TABLE: u8 = 0x20;
/// So many fields stay below the index that takes two octets, and below 4,096 octets of table.
const FIELDS_MAX: usize = 40;

impl Answer {
    /// `headers` further fields as in the origin's HTTP/1.1 responses; `grpc`: the shape of a unary call's answer.
    pub(super) fn new(body: usize, headers: usize, grpc: bool) -> Result<Self, String> {
        if headers > FIELDS_MAX {
            return Err(format!("an HTTP/2 origin has at most {FIELDS_MAX} further response fields"));
        }
        let mut fields: Vec<(String, String)> = Vec::new();
        if grpc {
            fields.push(("content-type".into(), "application/grpc".into()));
        } else {
            fields.push(("content-type".into(), "text/plain".into()));
            fields.push(("content-length".into(), body.to_string()));
        }
        for n in 0..headers {
            let value = format!("a value of ordinary length, number {n}");
            fields.push((format!("x-response-field-{n}"), value));
        }
        let (mut filling, mut literal) = (vec![STATUS_200], vec![STATUS_200]);
        for (name, value) in &fields {
            field(&mut filling, INDEXING, name, value);
            field(&mut literal, PLAIN, name, value);
        }
        // The entry that came last has the lowest index.
        let mut indexed = vec![STATUS_200];
        for n in 0..fields.len() {
            let index = u8::try_from(STATIC_ENTRIES + fields.len() - n).map_err(|e| e.to_string())?;
            indexed.push(0x80 | index);
        }
        let trailers = grpc.then(|| {
            let mut block = Vec::new();
            field(&mut block, PLAIN, "grpc-status", "0");
            block
        });
        Ok(Self { filling, indexed, literal, trailers, body })
    }

    /// The header block for a peer, and what its table holds afterwards.
    pub(super) fn block(&self, table: &mut Table, out: &mut Vec<u8>) {
        match *table {
            Table::Fresh => {
                out.extend_from_slice(&self.filling);
                *table = Table::Filled;
            }
            Table::Filled => out.extend_from_slice(&self.indexed),
            Table::Refused => {
                out.push(EMPTY_TABLE);
                out.extend_from_slice(&self.literal);
                *table = Table::None;
            }
            Table::None => out.extend_from_slice(&self.literal),
        }
    }
}

/// A literal with its name spelled out; both strings are shorter than 127 octets.
fn field(block: &mut Vec<u8>, first: u8, name: &str, value: &str) {
    block.push(first);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap_or(0));
        block.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(table: Table, headers: usize) -> [Vec<u8>; 2] {
        let answer = Answer::new(3, headers, false).unwrap();
        let (mut table, mut first, mut second) = (table, Vec::new(), Vec::new());
        answer.block(&mut table, &mut first);
        answer.block(&mut table, &mut second);
        [first, second]
    }

    #[test]
    fn a_second_answer_names_the_entries_of_the_first() {
        let [first, second] = blocks(Table::Fresh, 0);
        assert_eq!(first, b"\x88\x40\x0ccontent-type\x0atext/plain\x40\x0econtent-length\x013");
        assert_eq!(second, b"\x88\xbf\xbe", "content-type is entry 63, content-length entry 62");
        assert_eq!(blocks(Table::Fresh, 40)[1].len(), 43);
        assert!(Answer::new(3, 41, false).is_err());
    }

    #[test]
    fn a_peer_without_a_table_is_told_so_once() {
        let [first, second] = blocks(Table::Refused, 0);
        assert_eq!(first, [b"\x20", &second[..]].concat());
        assert_eq!(second, b"\x88\x00\x0ccontent-type\x0atext/plain\x00\x0econtent-length\x013");
    }

    #[test]
    fn a_call_ends_with_its_status() {
        let answer = Answer::new(3, 0, true).unwrap();
        assert_eq!(answer.trailers.as_deref(), Some(&b"\x00\x0bgrpc-status\x010"[..]));
    }
}
