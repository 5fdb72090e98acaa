//! Plain lines on their way from the parser into the map.

use super::{Entry, HeaderMap, NO_CASE};
use crate::h1::PlainLine;

/// Plain lines of the parser's input that follow each other: their entries are made line by line, their bytes are
/// copied once, by [`HeaderMap::end_run`]. Nothing may read or write the map in between.
#[derive(Debug)]
pub(crate) struct Run {
    /// Where the run starts in the input.
    start: usize,
    /// Its first entry.
    entries: usize,
    /// A name must be turned to lower case.
    capitals: bool,
}

impl HeaderMap {
    /// Begins a run of plain lines at `start` of the input.
    #[inline]
    pub(crate) fn begin_run(&self, start: usize) -> Run {
        Run { start, entries: self.entries.len(), capitals: false }
    }

    /// Adds the plain line at `at` of the input to the run.
    #[inline]
    pub(crate) fn add_to_run(&mut self, run: &mut Run, at: usize, line: &PlainLine) {
        run.capitals |= line.capitals;
        self.note(line.id);
        self.entries.push(Entry {
            line_at: (self.bytes.len() + (at - run.start)) as u32,
            name_len: line.name_len as u32,
            value_len: line.value_len as u32,
            cased_at: NO_CASE,
            id: line.id,
            live: true,
            sensitive: false,
        });
    }

    /// Copies the lines of a run, which ends where `input` does.
    #[inline]
    pub(crate) fn end_run(&mut self, run: &Run, input: &[u8]) {
        self.bytes.extend_from_slice(&input[run.start..]);
        if run.capitals {
            for entry in &self.entries[run.entries..] {
                self.bytes[entry.name()].make_ascii_lowercase();
            }
        }
    }
}
