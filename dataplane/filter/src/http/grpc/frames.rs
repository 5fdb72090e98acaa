//! Length-prefixed messages, counted as they pass.

/// Octets before each message: one of flags and its length, big-endian.
pub const PREFIX: usize = 5;

/// Counts the messages of one direction. A message counts from its first octet on; its length may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounter {
    /// Octets of the prefix that have passed.
    have: u8,
    length: u32,
    /// Octets of the message's body still to pass.
    left: u32,
}

impl MessageCounter {
    /// Takes the next octets; how many messages begin in them. The work is that of looking at the prefixes.
    pub fn count(&mut self, mut data: &[u8]) -> u32 {
        let mut begun = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let skipped = data.len().min(self.left as usize);
                self.left -= skipped as u32;
                data = &data[skipped..];
                continue;
            }
            let (octet, rest) = (data[0], &data[1..]);
            data = rest;
            match self.have {
                0 => begun += 1,
                _ => self.length = self.length << 8 | u32::from(octet),
            }
            self.have += 1;
            if usize::from(self.have) == PREFIX {
                self.left = std::mem::take(&mut self.length);
                self.have = 0;
            }
        }
        begun
    }

    /// True when no message is under way.
    pub fn is_between_messages(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Octets until the message under way ends, as far as they are known; 0 inside a prefix. What passes up to
    /// there needs no look.
    pub fn left(&self) -> u32 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Vec<u8> {
        let mut out = vec![0];
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.resize(PREFIX + len, b'x');
        out
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let stream: Vec<u8> = [0, 1, 300, 0, 70_000].into_iter().flat_map(message).collect();
        for piece in [1, 2, 3, 5, 7, 4096, stream.len()] {
            let mut counter = MessageCounter::default();
            let counted: u32 = stream.chunks(piece).map(|chunk| counter.count(chunk)).sum();
            assert_eq!((counted, counter.is_between_messages()), (5, true), "pieces of {piece}");
        }
    }

    #[test]
    fn a_message_counts_from_its_first_octet_and_may_have_any_length() {
        let mut counter = MessageCounter::default();
        assert_eq!(counter.count(&[]), 0);
        assert_eq!((counter.count(&[0xff]), counter.is_between_messages()), (1, false));
        assert_eq!(counter.count(&[0xff, 0xff, 0xff, 0xff]), 0);
        assert_eq!(counter.left(), u32::MAX);
        assert_eq!((counter.count(&[0; 1000]), counter.left()), (0, u32::MAX - 1000));
    }
}
