//! Received bytes of one connection that nobody has consumed yet.
//!
//! Bytes stay in the kernel's buffers while they are on their way. What has to wait (an incomplete head, a
//! pipelined request, a body whose upstream is not there yet) is moved to memory of its own as soon as
//! buffers grow scarce, so that slow peers can never starve the shard of receive buffers.

use std::collections::VecDeque;
use std::ops::Range;

use millrace_ring::{Filled, Payload};

use crate::held::{Held, Share};

/// A queue of received bytes. Small when empty, because every idle connection holds one.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// Bytes moved out of the kernel's buffers; they come before everything else.
    spill: Option<Box<Spill>>,
    front: Option<Filled>,
    /// What follows `front`.
    #[expect(clippy::box_collection, reason = "a pointer is a quarter of a queue, and nearly always empty")]
    rest: Option<Box<VecDeque<Filled>>>,
}

/// Own bytes; never empty.
#[derive(Debug, Default)]
struct Spill {
    bytes: Vec<u8>,
    at: usize,
    share: Option<Share>,
}

impl Input {
    pub(crate) fn push(&mut self, data: Filled) {
        if self.front.is_none() {
            self.front = Some(data);
        } else {
            self.rest.get_or_insert_default().push_back(data);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_none() && self.spill.is_none()
    }

    /// True when some of it is in memory of its own.
    pub(crate) fn is_spilled(&self) -> bool {
        self.spill.is_some()
    }

    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        let rest = self.rest.iter().flat_map(|rest| rest.iter());
        let buffers = self.front.iter().chain(rest).map(|f| f.len()).sum::<usize>();
        self.spill.as_ref().map_or(0, |s| s.bytes.len() - s.at) + buffers
    }

    /// The first contiguous bytes; empty only when the queue is.
    pub(crate) fn front(&self) -> &[u8] {
        match &self.spill {
            Some(spill) => &spill.bytes[spill.at..],
            None => self.front.as_deref().unwrap_or_default(),
        }
    }

    /// Drops the first `count` bytes of [`Input::front`].
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(spill) = &mut self.spill {
            spill.at += count;
            if spill.at >= spill.bytes.len() {
                // Freed, not kept: an idle connection holds no buffer.
                self.spill = None;
            }
        } else if let Some(front) = &mut self.front {
            front.advance(count);
            if front.is_empty() {
                self.next_front();
            }
        }
    }

    /// Moves on to the buffer behind the front one.
    fn next_front(&mut self) {
        self.front = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
    }

    /// Appends a range of [`Input::front`] to a payload, without a copy where that pays.
    pub(crate) fn append_to(&self, range: Range<usize>, copy: bool, out: &mut Payload) {
        match (&self.front, copy || self.spill.is_some()) {
            (Some(front), false) => out.push_buffer(front.share(range)),
            _ => out.push_bytes(&self.front()[range]),
        }
    }

    /// Makes [`Input::front`] longer by joining it with what follows; false when nothing does.
    pub(crate) fn join_front(&mut self, held: &Held) -> bool {
        if self.spill.is_none() && self.rest.is_none() {
            return false;
        }
        let spilled = self.spill.is_some();
        let Some(front) = self.front.take() else { return false };
        let spill = self.spill.get_or_insert_default();
        spill.bytes.extend_from_slice(&front);
        Share::set(&mut spill.share, held, spill.bytes.len());
        self.next_front();
        // The first join takes two buffers: one alone would not be longer than before.
        spilled || self.join_front(held)
    }

    /// Moves everything to memory of its own and sends the buffers home.
    pub(crate) fn release_buffers(&mut self, held: &Held) {
        while let Some(front) = self.front.take() {
            let spill = self.spill.get_or_insert_default();
            spill.bytes.extend_from_slice(&front);
            Share::set(&mut spill.share, held, spill.bytes.len());
            self.next_front();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_ring::{BufferPool, Config};

    #[test]
    fn bytes_come_out_in_order_however_they_are_held() {
        let pool = BufferPool::new(&Config { buffers: 8, buffer_bytes: 64, ..Config::default() }).unwrap();
        let held = Held::new(1000);
        for moved in 0..4 {
            let mut input = Input::default();
            for (i, text) in [&b"GET / HT"[..], b"TP/1.1\r\n", b"\r\n"].iter().enumerate() {
                input.push(pool.copy_from(text).unwrap());
                if moved == i {
                    input.release_buffers(&held);
                }
            }
            assert_eq!(input.len(), 18);
            input.consume(4);
            while input.join_front(&held) {}
            assert_eq!(input.front(), b"/ HTTP/1.1\r\n\r\n", "moved after {moved}");
            let mut payload = Payload::new();
            input.append_to(0..2, false, &mut payload);
            assert_eq!(payload.to_vec(), b"/ ");
            payload.clear();
            input.consume(14);
            assert!(input.is_empty());
            assert_eq!(pool.home(), 8);
        }
    }
}
