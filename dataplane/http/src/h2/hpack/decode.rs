//! Header blocks into fields (RFC 7541 section 3).

use alloc::vec::Vec;

use super::static_table::{self, Name, Pseudo};
use super::table::{DEFAULT_SIZE, Table};
use super::{HpackError, huffman, integer};
use crate::block;
use crate::header::token;

/// Whether a field may stand in a message as far as its own octets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It may.
    Ok,
    /// The name is no token in lower case behind an optional colon (RFC 9113 section 8.2.1).
    BadName,
    /// The value has a control octet other than HTAB, or white space at an end (RFC 9113 section 8.2.1, RFC 9110
    /// section 5.5).
    BadValue,
}

/// A decoded field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The name as the peer sent it.
    pub name: &'a [u8],
    /// The value as the peer sent it.
    pub value: &'a [u8],
    /// What the name is.
    pub id: Name,
    /// What is wrong with the octets; kept with the table's entries, so that a field by index is not looked at again.
    pub valid: Validity,
    /// Came as "never indexed" (RFC 7541 section 6.2.3) and has to leave like that.
    pub sensitive: bool,
}

/// What the decoder keeps of an entry.
#[derive(Clone, Copy, Debug)]
struct Note {
    id: Name,
    valid: Validity,
}

/// The peer's side of header compression: its header blocks in order, whole ones.
#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table<Note>,
    /// The most that the peer may make of the table.
    limit: u32,
}

/// A string on the wire (RFC 7541 section 5.2).
struct Text<'a> {
    octets: &'a [u8],
    huffman: bool,
}

/// How a literal is to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Indexed,
    Plain,
    Never,
}

impl Decoder {
    /// A decoder for a peer that was told SETTINGS_HEADER_TABLE_SIZE = `table_size`. Until the peer acknowledges that,
    /// its table has the 4,096 octets of RFC 9113 section 6.5.2; see [`Decoder::set_table_size`]. Nothing is allocated yet.
    pub fn new(table_size: u32) -> Self {
        Self { table: Table::new(DEFAULT_SIZE), limit: table_size.max(DEFAULT_SIZE) }
    }

    /// The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE. Where its table is larger, its next block has to begin
    /// with a size update (RFC 7541 section 4.2).
    pub fn set_table_size(&mut self, table_size: u32) {
        self.limit = table_size;
    }

    /// Decodes one whole header block. `field` gets the fields in order until it returns false, which says that it has
    /// seen enough; decoding goes on then to keep the table in step.
    ///
    /// # Errors
    ///
    /// The connection is lost; fields before the error were handed out.
    #[inline]
    pub fn decode(
        &mut self,
        block: &[u8],
        field: &mut impl FnMut(Field<'_>) -> bool,
    ) -> Result<(), HpackError> {
        let mut input = block;
        if matches!(block.first(), Some(0x20..=0x3f)) || self.table.max_size() > self.limit {
            self.size_updates(&mut input)?;
        }
        let mut wanted = true;
        while let Some((first, rest)) = input.split_first() {
            if *first > 0x80 && *first < 0xff {
                input = rest;
                let indexed = self.indexed(u32::from(first & 0x7f))?;
                wanted = wanted && field(indexed);
            } else {
                (input, wanted) = self.rare(input, wanted, field)?;
            }
        }
        Ok(())
    }

    /// Everything but an index of one octet.
    fn rare<'a>(
        &mut self,
        mut input: &'a [u8],
        wanted: bool,
        field: &mut impl FnMut(Field<'_>) -> bool,
    ) -> Result<(&'a [u8], bool), HpackError> {
        let keep = match input.first().map_or(0, |first| first >> 4) {
            0 => Keep::Plain,
            1 => Keep::Never,
            2 | 3 => return Err(HpackError::SizeUpdateLate),
            4..=7 => Keep::Indexed,
            _ => {
                let index = integer::take(&mut input, 7)?;
                let indexed = self.indexed(index)?;
                return Ok((input, wanted && field(indexed)));
            }
        };
        self.literal(input, keep, wanted, field)
    }

    /// Takes the size updates that the block starts with.
    #[cold]
    fn size_updates(&mut self, input: &mut &[u8]) -> Result<(), HpackError> {
        while let Some(0x20..=0x3f) = input.first() {
            let size = integer::take(input, 5)?;
            if size > self.limit {
                return Err(HpackError::SizeUpdateTooLarge);
            }
            self.table.resize(size);
        }
        if self.table.max_size() > self.limit && !input.is_empty() {
            return Err(HpackError::SizeUpdateMissing);
        }
        Ok(())
    }

    #[inline]
    fn indexed(&self, index: u32) -> Result<Field<'_>, HpackError> {
        if let Some(row) = static_table::TABLE.get((index as usize).wrapping_sub(1)) {
            let (name, value, id) = (row.name, row.value, row.id);
            return Ok(Field { name, value, id, valid: Validity::Ok, sensitive: false });
        }
        let age = index.checked_sub(static_table::ROWS + 1).ok_or(HpackError::BadIndex)?;
        let entry = self.table.by_age(age).ok_or(HpackError::BadIndex)?;
        let (name, value) = self.table.field(entry);
        Ok(Field { name, value, id: entry.note.id, valid: entry.note.valid, sensitive: false })
    }

    #[inline]
    fn literal<'a>(
        &mut self,
        mut input: &'a [u8],
        keep: Keep,
        mut wanted: bool,
        field: &mut impl FnMut(Field<'_>) -> bool,
    ) -> Result<(&'a [u8], bool), HpackError> {
        let index = integer::take(&mut input, if keep == Keep::Indexed { 6 } else { 4 })?;
        let name = if index == 0 { Some(Text::take(&mut input)?) } else { None };
        let value = Text::take(&mut input)?;
        if keep != Keep::Indexed && name.is_none() && !value.huffman {
            // Everything stands somewhere already.
            let Field { name, id, valid, .. } = self.indexed(index)?;
            let (value, valid) = (value.octets, judge(valid != Validity::BadName, value.octets));
            let sensitive = keep == Keep::Never;
            return Ok((input, wanted && field(Field { name, value, id, valid, sensitive })));
        }
        let name_room = match &name {
            Some(name) => name.room(),
            None => self.indexed(index)?.name.len(),
        };
        let start = self.table.make_room(name_room + value.room());
        let (id, name_valid) = match name {
            Some(name) => {
                name.append(self.table.scratch())?;
                classify(&self.table.written()[start..])
            }
            None => self.append_name(index)?,
        };
        let value_start = self.table.written().len();
        value.append(self.table.scratch())?;
        let (name, value) = self.table.written()[start..].split_at(value_start - start);
        let valid = judge(name_valid, value);
        if wanted {
            wanted = field(Field { name, value, id, valid, sensitive: keep == Keep::Never });
        }
        if keep == Keep::Indexed {
            self.table.insert(start, value_start - start, Note { id, valid });
        } else {
            self.table.forget(start);
        }
        Ok((input, wanted))
    }

    /// Writes the name of an indexed field behind the table's octets; says what it is and whether it may be a name.
    #[inline]
    fn append_name(&mut self, index: u32) -> Result<(Name, bool), HpackError> {
        if let Some(row) = static_table::TABLE.get(index as usize - 1) {
            self.table.scratch().extend_from_slice(row.name);
            return Ok((row.id, true));
        }
        let entry = self.table.by_age(index - static_table::ROWS - 1).ok_or(HpackError::BadIndex)?;
        let (note, name) = (entry.note, self.table.name_range(entry));
        self.table.scratch().extend_from_within(name);
        Ok((note.id, note.valid != Validity::BadName))
    }

    #[cfg(test)]
    pub(super) fn grow_old(&mut self) {
        self.table.grow_old();
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        self.table.capacity()
    }

    /// Octets in use and their limit (RFC 7541 section 4.1).
    pub fn table_size(&self) -> (usize, u32) {
        (self.table.size(), self.table.max_size())
    }
}

impl<'a> Text<'a> {
    #[inline]
    fn take(input: &mut &'a [u8]) -> Result<Self, HpackError> {
        let huffman = input.first().is_some_and(|first| first & 0x80 != 0);
        let len = integer::take(input, 7)?;
        let (octets, rest) = input.split_at_checked(len as usize).ok_or(HpackError::Truncated)?;
        *input = rest;
        Ok(Self { octets, huffman })
    }

    /// Room that [`Text::append`] may need.
    #[inline]
    fn room(&self) -> usize {
        if self.huffman { huffman::decoded_max(self.octets.len()) } else { self.octets.len() }
    }

    #[inline]
    fn append(&self, out: &mut Vec<u8>) -> Result<(), HpackError> {
        if self.huffman {
            return huffman::decode(self.octets, out);
        }
        out.extend_from_slice(self.octets);
        Ok(())
    }
}

/// What a literal name is, and whether it may be one.
fn classify(name: &[u8]) -> (Name, bool) {
    let id = Name::of(name);
    let valid = match id {
        Name::Known(_) => true,
        Name::Pseudo(Pseudo::Other) => is_lower_token(&name[1..]),
        Name::Pseudo(_) => true,
        Name::Other => is_lower_token(name),
    };
    (id, valid)
}

fn is_lower_token(name: &[u8]) -> bool {
    token::is_token(name) && !name.iter().any(u8::is_ascii_uppercase)
}

/// The verdict on a field.
#[inline]
fn judge(name_valid: bool, value: &[u8]) -> Validity {
    match name_valid {
        false => Validity::BadName,
        true if is_valid_value(value) => Validity::Ok,
        true => Validity::BadValue,
    }
}

#[inline]
fn is_valid_value(value: &[u8]) -> bool {
    let is_blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    !is_blank(value.first())
        && !is_blank(value.last())
        && (is_printable(value) || token::is_valid_value(value))
}

/// Looks at all words, whatever the first ones hold, which the compiler makes vectors of. HTAB is no printable octet;
/// short texts are left to the table.
#[inline]
fn is_printable(text: &[u8]) -> bool {
    let controls = |word: &[u8; block::LEN]| block::controls(u64::from_le_bytes(*word));
    text.last_chunk().is_some_and(|last| {
        text.as_chunks().0.iter().fold(controls(last), |found, word| found | controls(word)) == 0
    })
}
