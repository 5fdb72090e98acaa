//! Fields as HTTP/2 brings and takes them: checked, in lower case, with the number of their name.

use super::{Entry, HeaderMap, NO_CASE};
use crate::header::HeaderId;

/// A field on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexed<'a> {
    pub(crate) id: Option<HeaderId>,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) sensitive: bool,
}

impl HeaderMap {
    /// Adds a field whose name is a token in lower case, whose value is valid and which is `id`. The caller bounds heads
    /// below 4 GiB.
    #[inline]
    pub(crate) fn push_indexed(&mut self, field: &Indexed<'_>) {
        let line_at = self.bytes.len() as u32;
        match field.id {
            Some(id) => self.bytes.extend_from_slice(id.line_start()),
            None => {
                self.bytes.extend_from_slice(field.name);
                self.bytes.extend_from_slice(b": ");
            }
        }
        self.bytes.extend_from_slice(field.value);
        self.bytes.extend_from_slice(b"\r\n");
        self.note(field.id);
        self.entries.push(Entry {
            line_at,
            name_len: field.name.len() as u32,
            value_len: field.value.len() as u32,
            cased_at: NO_CASE,
            id: field.id,
            live: true,
            sensitive: field.sensitive,
        });
    }

    /// Adds a value to the first field of a known name, behind a separator; makes the field when there is none. A field
    /// that is not the last one moves to the end of the bytes, not of the order.
    pub(crate) fn join_indexed(&mut self, field: &Indexed<'_>, separator: &[u8]) {
        let first = self.entries.iter().position(|e| e.live && e.id == field.id && e.id.is_some());
        let Some(entry) = first.and_then(|first| self.entries.get_mut(first)) else {
            return self.push_indexed(field);
        };
        if entry.line().end == self.bytes.len() {
            self.bytes.truncate(entry.value().end);
        } else {
            let (start, end) = (entry.line_at as usize, entry.value().end);
            entry.line_at = self.bytes.len() as u32;
            self.bytes.extend_from_within(start..end);
        }
        self.bytes.extend_from_slice(separator);
        self.bytes.extend_from_slice(field.value);
        self.bytes.extend_from_slice(b"\r\n");
        entry.value_len += (separator.len() + field.value.len()) as u32;
        entry.sensitive |= field.sensitive;
    }

    /// The fields in order, with the numbers of their names.
    #[inline]
    pub(crate) fn indexed(&self) -> impl Iterator<Item = Indexed<'_>> {
        self.live().map(|e| Indexed {
            id: e.id,
            name: &self.bytes[e.name()],
            value: &self.bytes[e.value()],
            sensitive: e.sensitive,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn field<'a>(id: Option<HeaderId>, name: &'a str, value: &'a str) -> Indexed<'a> {
        Indexed { id, name: name.as_bytes(), value: value.as_bytes(), sensitive: name == "x-secret" }
    }

    #[test]
    fn pushed_fields_are_like_appended_ones() {
        let (mut pushed, mut appended) = (HeaderMap::new(), HeaderMap::new());
        for (name, value) in
            [("via", "1.1 a"), ("x-secret", ""), ("via", "b"), ("content-type", "text/plain")]
        {
            pushed.push_indexed(&field(HeaderId::lookup(name.as_bytes()), name, value));
            appended.append(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(pushed, appended);
        assert_eq!(pushed.values(HeaderId::Via).collect::<Vec<_>>(), [&b"1.1 a"[..], b"b"]);
        assert_eq!(pushed.remove_id(HeaderId::Via), 2);
        let left: Vec<_> = pushed.indexed().map(|f| (f.id, f.sensitive)).collect();
        assert_eq!(left, [(None, true), (Some(HeaderId::ContentType), false)]);
    }

    #[test]
    fn joined_values_stay_in_their_place() {
        let mut map = HeaderMap::new();
        let crumb = |value| field(Some(HeaderId::Cookie), "cookie", value);
        map.join_indexed(&crumb("a=1"), b"; ");
        map.join_indexed(&crumb("b=2"), b"; ");
        map.push_indexed(&field(None, "x", "y"));
        map.join_indexed(&crumb("c=3"), b"; ");
        map.push_indexed(&field(None, "z", ""));
        map.join_indexed(&crumb(""), b"; ");
        assert_eq!(map.len(), 3);
        let mut out = Vec::new();
        map.wire_runs(0, |run| out.extend_from_slice(run));
        assert_eq!(out, b"cookie: a=1; b=2; c=3; \r\nx: y\r\nz: \r\n");
    }
}
