//! What the client says inside its connections, and how answers are counted.

use super::frames::Http2;
use crate::load::open_loop::head_of;

/// Answers that are whole: of status 200, and others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) good: u64,
    pub(super) bad: u64,
}

impl Answers {
    pub(super) fn all(self) -> u64 {
        self.good + self.bad
    }

    pub(super) fn add(&mut self, good: bool) {
        if good {
            self.good += 1;
        } else {
            self.bad += 1;
        }
    }
}

/// One connection's protocol.
pub(super) enum Exchange {
    Http1(Http1),
    Http2(Http2),
}

impl Exchange {
    /// `streams` of HTTP/2, or HTTP/1.1 with 0 of them; what must be said first goes to `out`.
    pub(super) fn begin(streams: usize, out: &mut Vec<u8>) -> Self {
        if streams == 0 { Self::Http1(Http1::default()) } else { Self::Http2(Http2::begin(out)) }
    }

    /// One more request.
    pub(super) fn request(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Http1(_) => out.extend_from_slice(b"GET / HTTP/1.1\r\nhost: perf.test\r\n\r\n"),
            Self::Http2(http2) => http2.request(out),
        }
    }

    /// Takes what came in; what must be answered at once goes to `out`.
    pub(super) fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Answers, &'static str> {
        match self {
            Self::Http1(http1) => http1.receive(bytes),
            Self::Http2(http2) => http2.receive(bytes, out),
        }
    }
}

/// Answers by `content-length`, one after the other.
#[derive(Default)]
pub(super) struct Http1 {
    /// A head that is not whole yet.
    head: Vec<u8>,
    /// Octets of the body that are still to come, and whether the head was good.
    body: Option<(usize, bool)>,
}

/// No server of the lab sends a longer head.
const HEAD_MAX: usize = 16 * 1024;

impl Http1 {
    fn receive(&mut self, mut bytes: &[u8]) -> Result<Answers, &'static str> {
        let mut answers = Answers::default();
        while !bytes.is_empty() || self.body.is_some_and(|(left, _)| left == 0) {
            if let Some((left, good)) = self.body {
                let n = left.min(bytes.len());
                bytes = &bytes[n..];
                self.body = Some((left - n, good));
                if left == n {
                    self.body = None;
                    answers.add(good);
                }
                continue;
            }
            let before = self.head.len();
            self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_MAX)]);
            match head_of(&self.head) {
                Some(found) => {
                    bytes = &bytes[found.length - before..];
                    self.body = Some((found.body, found.good));
                    self.head.clear();
                }
                None if self.head.len() >= HEAD_MAX => return Err("a head without end or content-length"),
                None => return Ok(answers),
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_in_pieces_of_any_size() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        let other = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
        let all = [&one[..], other, one].concat();
        for size in [1, 7, all.len()] {
            let mut http1 = Http1::default();
            let mut sum = Answers::default();
            for piece in all.chunks(size) {
                let got = http1.receive(piece).unwrap();
                sum = Answers { good: sum.good + got.good, bad: sum.bad + got.bad };
            }
            assert_eq!(sum, Answers { good: 2, bad: 1 }, "in pieces of {size}");
        }
        assert!(Http1::default().receive(&[b'x'; HEAD_MAX * 2]).is_err());
    }
}
