//! Records of TLS 1.2 and 1.3 as they travel: their headers here, their protection in `protection`.

mod protection;

pub(crate) use protection::Protection;

/// Type, version and length (RFC 8446 5.1).
pub(crate) const HEADER: usize = 5;
/// Plaintext that a record may have.
pub(crate) const PLAINTEXT_MAX: usize = 1 << 14;
/// What protection may add to it: 256 in TLS 1.3, 2,048 in TLS 1.2 (whose AEADs add 24).
const EXPANSION_MAX: usize = 256;

/// `ContentType` (RFC 8446 B.1).
pub(crate) mod content {
    pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION_DATA: u8 = 23;
}

/// What the first bytes of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// A record of this many bytes, header included.
    Whole(usize),
    /// So many bytes are missing at least.
    Missing(usize),
    /// No record: an unknown type or version.
    NotTls,
    /// A record that is longer than any may be.
    TooLong,
}

/// Finds the end of the record at the start of `input`. What cannot become a record is told from the first byte on.
pub(crate) fn frame(input: &[u8]) -> Framed {
    let known = |kind: &u8| (content::CHANGE_CIPHER_SPEC..=content::APPLICATION_DATA).contains(kind);
    if input.first().is_some_and(|kind| !known(kind)) || input.get(1).is_some_and(|major| *major != 3) {
        return Framed::NotTls;
    }
    let Some(&[_, _, _, high, low]) = input.first_chunk::<HEADER>() else {
        return Framed::Missing(HEADER - input.len());
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > PLAINTEXT_MAX + EXPANSION_MAX {
        return Framed::TooLong;
    }
    let whole = HEADER + length;
    if input.len() < whole { Framed::Missing(whole - input.len()) } else { Framed::Whole(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_from_the_first_byte_on() {
        assert_eq!(frame(&[]), Framed::Missing(5));
        assert_eq!(frame(&[22]), Framed::Missing(4));
        assert_eq!(frame(&[22, 3, 1, 0, 2]), Framed::Missing(2));
        assert_eq!(frame(&[22, 3, 1, 0, 2, 9, 9, 9]), Framed::Whole(7));
        assert_eq!(frame(b"G"), Framed::NotTls);
        assert_eq!(frame(&[22, 2]), Framed::NotTls);
        assert_eq!(frame(&[23, 3, 3, 0x41, 0]), Framed::Missing(0x4100));
        assert_eq!(frame(&[23, 3, 3, 0x41, 1]), Framed::TooLong);
    }
}
