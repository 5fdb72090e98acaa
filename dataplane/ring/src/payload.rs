//! A gather list for one send: freshly encoded bytes and borrowed received ranges, in order.

use crate::Filled;

#[derive(Debug)]
enum Segment {
    /// Range of `Payload::bytes`.
    Bytes { start: u32, end: u32 },
    /// Received bytes on their way to the peer.
    Buffer(Filled),
}

/// What one [`Op::Send`](crate::Op::Send) sends. Recycle it: a cleared payload keeps its capacity.
#[derive(Debug, Default)]
pub struct Payload {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    length: usize,
}

impl Payload {
    /// An empty payload that allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes to send.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Bytes of memory that the payload itself takes: those that were copied or encoded into it, not received ranges.
    pub fn own_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that the payload keeps when it is cleared now.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a copy of `bytes`.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.write_with(|out| out.extend_from_slice(bytes));
    }

    /// Lets `encode` append to the payload's own bytes (a head, a frame header). What the vector already
    /// holds must be left alone; bytes cut off it would be missing from earlier segments.
    pub fn write_with<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = self.bytes.len();
        let result = encode(&mut self.bytes);
        debug_assert!(self.bytes.len() >= start, "an encoder only appends");
        self.bytes.resize(self.bytes.len().max(start), 0);
        let (start, end) = (start as u32, self.bytes.len() as u32);
        self.length += (end - start) as usize;
        match self.segments.last_mut() {
            Some(Segment::Bytes { end: last, .. }) => *last = end,
            _ if end > start => self.segments.push(Segment::Bytes { start, end }),
            _ => {}
        }
        result
    }

    /// Appends received bytes without copying them. An empty range goes home at once.
    pub fn push_buffer(&mut self, data: Filled) {
        if !data.is_empty() {
            self.length += data.len();
            self.segments.push(Segment::Buffer(data));
        }
    }

    /// Moves everything of `other` behind this payload's content; copies only `other`'s own bytes.
    pub fn append(&mut self, other: &mut Self) {
        let bytes = std::mem::take(&mut other.bytes);
        for segment in other.segments.drain(..) {
            match segment {
                Segment::Bytes { start, end } => self.push_bytes(&bytes[start as usize..end as usize]),
                Segment::Buffer(data) => self.push_buffer(data),
            }
        }
        other.bytes = bytes;
        other.clear();
    }

    /// Moves the first `most` bytes, or all of them, behind `into`'s content; received ranges are shared, own
    /// bytes copied.
    pub fn move_front(&mut self, most: usize, into: &mut Self) {
        let mut left = most;
        let mut moved = 0;
        for segment in &mut self.segments {
            if left == 0 {
                break;
            }
            let whole = match segment {
                Segment::Bytes { start, end } => {
                    let take = left.min((*end - *start) as usize);
                    into.push_bytes(&self.bytes[*start as usize..*start as usize + take]);
                    *start += take as u32;
                    left -= take;
                    start == end
                }
                Segment::Buffer(data) => {
                    let take = left.min(data.len());
                    into.push_buffer(data.split_to(take));
                    left -= take;
                    data.is_empty()
                }
            };
            moved += usize::from(whole);
        }
        self.segments.drain(..moved);
        self.length -= most - left;
        self.drop_moved_bytes();
    }

    /// Gives back own bytes that no segment names any more, once they are the larger part.
    fn drop_moved_bytes(&mut self) {
        let first = self.segments.iter().find_map(|segment| match segment {
            Segment::Bytes { start, .. } => Some(*start),
            Segment::Buffer(_) => None,
        });
        let unused = first.unwrap_or(self.bytes.len() as u32);
        if (unused as usize) < self.bytes.len().div_ceil(2) {
            return;
        }
        self.bytes.drain(..unused as usize);
        for segment in &mut self.segments {
            if let Segment::Bytes { start, end } = segment {
                *start -= unused;
                *end -= unused;
            }
        }
    }

    /// Forgets the content (buffers go home) and keeps the capacity, up to 64 KiB of it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(64 * 1024);
        self.segments.clear();
        self.length = 0;
    }

    /// The pieces in order, none of them empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.segments.iter().map(|segment| match segment {
            Segment::Bytes { start, end } => &self.bytes[*start as usize..*end as usize],
            Segment::Buffer(data) => data,
        })
    }

    /// The pieces from byte `offset` on, none of them empty.
    pub(crate) fn slices_from(&self, offset: usize) -> impl Iterator<Item = &[u8]> {
        let mut skip = offset;
        self.slices().filter_map(move |slice| {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            Some(&slice[skipped..]).filter(|rest| !rest.is_empty())
        })
    }

    /// Copies the content into one vector; for tests and logs.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BufferPool, Config};
    use millrace_base::Rng;

    #[test]
    fn adjacent_bytes_make_one_segment() {
        let mut payload = Payload::new();
        payload.push_bytes(b"HTTP/1.1 ");
        payload.push_bytes(b"");
        payload.write_with(|out| out.extend_from_slice(b"200 OK"));
        assert_eq!(payload.slices().collect::<Vec<_>>(), [b"HTTP/1.1 200 OK"]);
    }

    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let (mut queue, mut piece) = (Payload::new(), Payload::new());
        queue.push_bytes(&[1; 1000]);
        for _ in 0..10_000 {
            queue.push_bytes(&[2; 1000]);
            queue.move_front(1000, &mut piece);
            piece.clear();
        }
        assert_eq!(queue.len(), 1000);
        assert!((1000..=2000).contains(&queue.own_bytes()), "{}", queue.own_bytes());
        assert!(queue.bytes.capacity() < 64 * 1024, "{}", queue.bytes.capacity());
    }

    #[test]
    fn any_order_of_pushes_is_the_concatenation() {
        let mut rng = Rng::new(3);
        let pool = BufferPool::new(&Config { buffers: 8, buffer_bytes: 64, ..Config::default() }).unwrap();
        let (mut payload, mut other) = (Payload::new(), Payload::new());
        for _ in 0..2_000 {
            let mut expected = Vec::new();
            for _ in 0..rng.below(8) {
                let text: Vec<u8> = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect();
                expected.extend_from_slice(&text);
                match (rng.below(3), pool.copy_from(&text)) {
                    (0, Some(data)) => payload.push_buffer(data),
                    (1, Some(data)) => {
                        other.push_bytes(&data[..data.len() / 2]);
                        other.push_buffer(data.share(data.len() / 2..data.len()));
                        payload.append(&mut other);
                    }
                    _ => payload.push_bytes(&text),
                }
            }
            assert_eq!((payload.to_vec(), payload.len()), (expected.clone(), expected.len()));
            let offset = rng.below(expected.len() as u64 + 1) as usize;
            assert_eq!(payload.slices_from(offset).collect::<Vec<_>>().concat(), expected[offset..]);
            assert!(payload.slices_from(offset).all(|slice| !slice.is_empty()));
            let mut moved = Vec::new();
            while !payload.is_empty() {
                payload.move_front(rng.below(50) as usize + 1, &mut other);
                assert_eq!(moved.len() + other.len() + payload.len(), expected.len());
                moved.extend_from_slice(&other.to_vec());
                other.clear();
            }
            assert_eq!(moved, expected);
            payload.clear();
            assert_eq!((pool.home(), payload.is_empty(), other.is_empty()), (8, true, true));
        }
    }
}
