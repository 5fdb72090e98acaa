//! The `date` field, rendered once a second.

use millrace_base::WallTime;
use millrace_http::date::{DATE_LEN, format};

/// The text of the current second (RFC 9110 section 5.6.7).
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    text: [u8; DATE_LEN],
}

impl Default for DateCache {
    fn default() -> Self {
        Self { second: 0, text: format(0) }
    }
}

impl DateCache {
    /// The date of `now`; renders only when the second changed.
    #[inline]
    pub fn get(&mut self, now: WallTime) -> &[u8; DATE_LEN] {
        if now.seconds() != self.second {
            self.second = now.seconds();
            self.text = format(self.second);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_follows_the_second() {
        let mut cache = DateCache::default();
        assert_eq!(cache.get(WallTime(999_999_999)), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cache.get(WallTime(784_111_777_000_000_000)), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.get(WallTime(784_111_778_999_999_999)), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
