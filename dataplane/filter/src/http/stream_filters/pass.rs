//! Bytes on their way from filter to filter.

use super::LocalReply;

/// The caller's own bytes until somebody changes them, then those at the end of `out`.
pub(super) struct Pass<'d> {
    data: &'d [u8],
    start: usize,
    changed: bool,
}

impl<'d> Pass<'d> {
    pub(super) fn new(data: &'d [u8], out: &[u8]) -> Self {
        Self { data, start: out.len(), changed: false }
    }

    pub(super) fn bytes<'b>(&self, out: &'b [u8]) -> &'b [u8]
    where
        'd: 'b,
    {
        if self.changed { &out[self.start..] } else { self.data }
    }

    /// Lets a filter replace the bytes. Only the second one that does costs an allocation.
    pub(super) fn change(
        &mut self,
        out: &mut Vec<u8>,
        change: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), Box<LocalReply>>,
    ) -> Result<(), Box<LocalReply>> {
        if !std::mem::replace(&mut self.changed, true) {
            return change(self.data, out);
        }
        let before = out.split_off(self.start);
        change(&before, out)
    }

    /// Lets a filter add to `out`, which has no bytes of the caller's when there are trailers.
    pub(super) fn append<T>(&mut self, append: impl FnOnce() -> T) -> T {
        self.changed = true;
        append()
    }

    pub(super) fn finish(self, out: &mut Vec<u8>) {
        if !self.changed {
            out.extend_from_slice(self.data);
        }
    }
}
