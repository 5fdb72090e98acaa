//! Fields into header blocks (RFC 7541 section 3), with a policy of what is worth an entry of the table.
//!
//! A field that either table has is one index. A name that neither table has gets an entry, with its first value, so that
//! it is an index from then on. For other fields `policy` decides by name, and by whether the same value came before.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::lookup::{Links, Lookup, NameKey};
use super::policy::{Kind, kind};
use super::static_table::{self, Name, Pseudo};
use super::table::{DEFAULT_SIZE, OVERHEAD, Table};
use super::{huffman, integer};

/// Our side of header compression.
#[derive(Clone, Debug)]
pub struct Encoder {
    table: Table<Links>,
    lookup: Option<Box<Lookup>>,
    /// The most octets that we use of what the peer allows.
    own_limit: u32,
    /// The size that the table gets at the next block, and the smallest that was asked for on the way there.
    next_size: u32,
    smallest_size: u32,
}

/// First octet and prefix of the kinds of literal (RFC 7541 section 6.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    Indexed,
    Plain,
    Never,
}

impl Encoder {
    /// An encoder whose table is at most `max_table_size` octets, and 4,096 until the peer's SETTINGS came (RFC 9113
    /// section 6.5.2). Nothing is allocated yet.
    pub fn new(max_table_size: u32) -> Self {
        let size = max_table_size.min(DEFAULT_SIZE);
        Self {
            table: Table::new(DEFAULT_SIZE),
            lookup: None,
            own_limit: max_table_size,
            next_size: size,
            smallest_size: size,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. The next block says what became of it (RFC 7541 section 4.2).
    pub fn set_peer_table_size(&mut self, bytes: u32) {
        self.next_size = bytes.min(self.own_limit);
        self.smallest_size = self.smallest_size.min(self.next_size);
    }

    /// Starts a header block.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.smallest_size != self.table.max_size() || self.next_size != self.table.max_size() {
            self.size_updates(out);
        }
    }

    #[cold]
    fn size_updates(&mut self, out: &mut Vec<u8>) {
        for size in [self.smallest_size, self.next_size] {
            if size != self.table.max_size() {
                self.table.resize(size);
                integer::put(size, 5, 0x20, out);
            }
        }
        self.smallest_size = self.next_size;
    }

    /// Appends a field; `id` is what `name` is, in lower case.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8], id: Name, out: &mut Vec<u8>) {
        debug_assert!(matches!(id, Name::Other) || Name::of(name) == id, "{}", name.escape_ascii());
        let key = NameKey::of(name, id);
        let newest = match &self.lookup {
            Some(lookup) => lookup.newest(&self.table, key, name, value),
            None => None,
        };
        match newest {
            Some(number) => self.indexed(number, out),
            None => self.not_newest(name, value, (id, key), out),
        }
    }

    /// Appends a field that may never be indexed (RFC 7541 section 7.1.3).
    pub fn sensitive(&mut self, name: &[u8], value: &[u8], id: Name, out: &mut Vec<u8>) {
        let lookup = self.lookup.get_or_insert_default();
        let static_index = static_table::index_of(id, name);
        let index = name_index(lookup, &self.table, NameKey::of(name, id), name, static_index);
        literal(Literal::Never, index, name, value, out);
    }

    /// `:status`
    #[inline]
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => 0,
        };
        if index != 0 {
            return out.push(0x80 | index);
        }
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8 % 10);
        self.field(b":status", &digits, Name::Pseudo(Pseudo::Status), out);
    }

    /// `:method`
    #[inline]
    pub fn method(&mut self, method: &[u8], out: &mut Vec<u8>) {
        match method {
            b"GET" => out.push(0x82),
            b"POST" => out.push(0x83),
            _ => self.field(b":method", method, Name::Pseudo(Pseudo::Method), out),
        }
    }

    /// `:scheme`
    #[inline]
    pub fn scheme(&mut self, scheme: &[u8], out: &mut Vec<u8>) {
        match scheme {
            b"http" => out.push(0x86),
            b"https" => out.push(0x87),
            _ => self.field(b":scheme", scheme, Name::Pseudo(Pseudo::Scheme), out),
        }
    }

    /// `:path`
    #[inline]
    pub fn path(&mut self, path: &[u8], out: &mut Vec<u8>) {
        match path {
            b"/" => out.push(0x84),
            _ => self.field(b":path", path, Name::Pseudo(Pseudo::Path), out),
        }
    }

    /// `:authority`
    #[inline]
    pub fn authority(&mut self, authority: &[u8], out: &mut Vec<u8>) {
        self.field(b":authority", authority, Name::Pseudo(Pseudo::Authority), out);
    }

    #[inline]
    fn indexed(&self, number: u32, out: &mut Vec<u8>) {
        integer::put(static_table::ROWS + 1 + self.table.age_of(number), 7, 0x80, out);
    }

    /// A field that is not the newest entry of its name.
    #[inline(never)]
    fn not_newest(&mut self, name: &[u8], value: &[u8], (id, key): (Name, NameKey), out: &mut Vec<u8>) {
        let kind = kind(id, value);
        if kind == Kind::Secret {
            return self.sensitive(name, value, id, out);
        }
        let lookup = self.lookup.get_or_insert_default();
        let static_index = static_table::index_of(id, name);
        if kind == Kind::Fresh {
            let index = name_index(lookup, &self.table, key, name, static_index);
            if index != 0 {
                return literal(Literal::Plain, index, name, value, out);
            }
        }
        let whole = static_table::index_of_field(static_index, value);
        if whole != 0 {
            return integer::put(whole, 7, 0x80, out);
        }
        let field = key.with(value);
        if let Some(number) = lookup.field(&self.table, (key, field), name, value) {
            return self.indexed(number, out);
        }
        let index = name_index(lookup, &self.table, key, name, static_index);
        if index == 0 || kind == Kind::Stable || lookup.is_second_sight(field) {
            return self.insert(index, (key, field), name, value, out);
        }
        literal(Literal::Plain, index, name, value, out);
    }

    /// Sends a field that becomes an entry, unless that would take too much of the table.
    fn insert(
        &mut self,
        index: u32,
        (key, field): (NameKey, u32),
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        let len = name.len() + value.len();
        if len + OVERHEAD > self.table.max_size() as usize / 2 {
            return literal(Literal::Plain, index, name, value, out);
        }
        literal(Literal::Indexed, index, name, value, out);
        let start = self.table.make_room(len);
        self.table.scratch().extend_from_slice(name);
        self.table.scratch().extend_from_slice(value);
        let number = self.table.next_number();
        let links = self.lookup.get_or_insert_default().link(number, key, field);
        self.table.insert(start, name.len(), links);
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

/// The index of a name in either table; 0 for none.
#[inline]
fn name_index(lookup: &Lookup, table: &Table<Links>, key: NameKey, name: &[u8], static_index: u32) -> u32 {
    match static_index {
        0 => lookup.name(table, key, name).map_or(0, |n| static_table::ROWS + 1 + table.age_of(n)),
        index => index,
    }
}

fn literal(kind: Literal, index: u32, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match kind {
        Literal::Indexed => integer::put(index, 6, 0x40, out),
        Literal::Plain => integer::put(index, 4, 0x00, out),
        Literal::Never => integer::put(index, 4, 0x10, out),
    }
    if index == 0 {
        text(name, out);
    }
    // What is kept is sent once; what is not comes with every message, and coding it costs both sides more than it saves.
    if kind == Literal::Indexed { text(value, out) } else { plain(value, out) }
}

/// Appends a string in its shorter form.
fn text(text: &[u8], out: &mut Vec<u8>) {
    let len = huffman::encoded_len(text);
    if len < text.len() {
        integer::put(len as u32, 7, 0x80, out);
        huffman::encode(text, out);
    } else {
        plain(text, out);
    }
}

fn plain(text: &[u8], out: &mut Vec<u8>) {
    integer::put(text.len() as u32, 7, 0, out);
    out.extend_from_slice(text);
}
