//! Priorities of RFC 9218: the `priority` field and what PRIORITY_UPDATE carries.

use crate::h1::trim_ows;

/// How urgent a response is (RFC 9218 section 4). The codec tells it and leaves scheduling to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priority {
    /// 0 (most urgent) to 7.
    pub urgency: u8,
    /// The client can use parts of the response.
    pub incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self { urgency: 3, incremental: false }
    }
}

impl Priority {
    /// Reads a `priority` value: a dictionary of structured fields (RFC 8941), of which `u` and `i` are known. What is
    /// unknown or out of range counts as absent (RFC 9218 section 4).
    pub fn parse(value: &[u8]) -> Self {
        let mut priority = Self::default();
        for member in value.split(|b| *b == b',').map(trim_ows) {
            let item = member.split(|b| *b == b';').next().map_or(member, trim_ows);
            match item {
                [b'u', b'=', digit @ b'0'..=b'7'] => priority.urgency = digit - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries() {
        for (value, urgency, incremental) in [
            ("", 3, false),
            ("u=0", 0, false),
            ("u=7, i", 7, true),
            ("i,u=1", 1, true),
            ("u=5;x=1, i;y, z=\"a\"", 5, true),
            ("i=?1, i=?0, u=2, u=4", 4, false),
            ("u=8, i=1", 3, false),
            ("u=-1", 3, false),
            ("u=1.5,,i =?1", 3, false),
            ("U=1, I", 3, false),
        ] {
            assert_eq!(Priority::parse(value.as_bytes()), Priority { urgency, incremental }, "{value}");
        }
    }
}
