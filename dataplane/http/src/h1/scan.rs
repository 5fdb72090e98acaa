//! Waiting for a complete head without looking at the same bytes again and again.

use memchr::memchr_iter;

use super::framing::BodyFraming;

/// The outcome of parsing a head from the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed; call again with the same bytes and more.
    Incomplete,
    /// The head ends after `consumed` bytes and is followed by a body of this framing.
    Complete {
        /// Length of the head with its final empty line.
        consumed: usize,
        /// How the body is delimited.
        framing: BodyFraming,
    },
}

/// Remembers how far an incomplete head was searched, so that a peer that sends one byte at a time costs
/// linear work. One per connection; [`HeadScanner::reset`] after each head.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    scanned: usize,
}

impl HeadScanner {
    /// A scanner for a fresh head.
    pub const fn new() -> Self {
        Self { scanned: 0 }
    }

    /// True when parsing `input` may give another result than [`Parsed::Incomplete`]: on the first call (most
    /// heads arrive whole), once an empty line has arrived, and once `input` exceeds `head_bytes_max`.
    /// `input` always starts at the head's first byte and never shrinks.
    pub fn ready(&mut self, input: &[u8], head_bytes_max: usize) -> bool {
        let first = self.scanned == 0;
        // An empty line may span the border by three bytes.
        let from = self.scanned.saturating_sub(3).min(input.len());
        self.scanned = input.len();
        first
            || input.len() > head_bytes_max
            || memchr_iter(b'\n', &input[from..]).any(|at| {
                let before = &input[..from + at];
                before.ends_with(b"\n\r") || before.ends_with(b"\n")
            })
    }

    /// Prepares for the next head.
    pub fn reset(&mut self) {
        self.scanned = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_at_first_then_at_the_empty_line() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for split in 1..head.len() - 1 {
            let mut scanner = HeadScanner::new();
            assert!(scanner.ready(&head[..split], 1000));
            for end in split + 1..head.len() {
                assert!(!scanner.ready(&head[..end], 1000), "{split} {end}");
            }
            assert!(scanner.ready(head, 1000), "{split}");
        }
    }

    #[test]
    fn ready_beyond_the_limit() {
        let mut scanner = HeadScanner::new();
        assert!(scanner.ready(b"GET", 5));
        assert!(!scanner.ready(b"GET /", 5));
        assert!(scanner.ready(b"GET /x", 5));
    }
}
