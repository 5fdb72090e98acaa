//! Expected payloads: each must be found, one behind the other, whatever stands in between.

/// How far the expected payloads were found in what has come so far. Keeps no more than one of them is long.
#[derive(Debug, Default)]
pub(super) struct Search {
    found: usize,
    /// The end of what came, which may be the begin of the next one.
    tail: Vec<u8>,
}

impl Search {
    /// Takes bytes; true when everything was found.
    pub fn feed(&mut self, expected: &[Vec<u8>], bytes: &[u8]) -> bool {
        if self.is_complete(expected) {
            return true;
        }
        self.tail.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(next) = expected.get(self.found) {
            match find(&self.tail[from..], next) {
                Some(at) => {
                    from += at + next.len();
                    self.found += 1;
                }
                None => {
                    let keep = next.len().saturating_sub(1).min(self.tail.len() - from);
                    self.tail.drain(..self.tail.len() - keep);
                    return false;
                }
            }
        }
        self.tail.clear();
        true
    }

    /// True when nothing is left to be found.
    pub fn is_complete(&self, expected: &[Vec<u8>]) -> bool {
        self.found >= expected.len()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.found = 0;
        self.tail.clear();
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    if what.is_empty() {
        return Some(0);
    }
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_found_in_order_however_they_are_cut() {
        let expected = [b"ab".to_vec(), b"aba".to_vec()];
        for cut in 0..8 {
            let mut search = Search::default();
            let text = b"xabyaaba";
            let first = search.feed(&expected, &text[..cut]);
            assert!(!first && search.feed(&expected, &text[cut..]), "{cut}");
            assert!(search.tail.is_empty());
        }
        let mut search = Search::default();
        assert!(!search.feed(&expected, b"aba"), "the second begins behind the first");
        assert!(!search.feed(&expected, &[b'z'; 1000]) && search.tail.len() < 3);
        search.reset();
        assert!(Search::default().is_complete(&[]) && !search.is_complete(&expected));
    }
}
