//! Reads the words and texts of the schema blob. The layout is written in `build/blob.rs`.

const BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

/// The tables of the blob, in order.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Messages,
    Fields,
    Oneofs,
    Enums,
    Values,
}

/// Words of one record, by section.
const RECORD: [u32; 5] = [7, 10, 3, 4, 3];

/// Where every section begins; the last one holds the strings.
const STARTS: [usize; RECORD.len() + 1] = starts();

fn at(byte: usize) -> u32 {
    BLOB.get(byte..byte + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

const fn starts() -> [usize; RECORD.len() + 1] {
    let mut starts = [RECORD.len() * 4; RECORD.len() + 1];
    let mut section = 0;
    while section < RECORD.len() {
        let at = section * 4;
        let words = u32::from_le_bytes([BLOB[at], BLOB[at + 1], BLOB[at + 2], BLOB[at + 3]]);
        starts[section + 1] = starts[section] + words as usize * 4;
        section += 1;
    }
    starts
}

/// Number of records.
pub(super) fn count(section: Section) -> u32 {
    at(section as usize * 4) / RECORD[section as usize]
}

/// One word of a record.
pub(super) fn word(section: Section, record: u32, word: u32) -> u32 {
    at(STARTS[section as usize] + ((record * RECORD[section as usize] + word) as usize) * 4)
}

/// The bytes whose offset and length stand at `word` and the word after it.
pub(super) fn bytes(section: Section, record: u32, word_: u32) -> &'static [u8] {
    let (offset, len) = (word(section, record, word_) as usize, word(section, record, word_ + 1) as usize);
    let strings = STARTS[RECORD.len()];
    BLOB.get(strings + offset..strings + offset + len).unwrap_or_default()
}

/// As [`bytes`], for names.
pub(super) fn text(section: Section, record: u32, word: u32) -> &'static str {
    std::str::from_utf8(bytes(section, record, word)).unwrap_or_default()
}
