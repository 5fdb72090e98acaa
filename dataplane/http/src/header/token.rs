//! Character classes of RFC 9110 as one table: what may stand in a name, in a value, in a target.

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) const TOKEN: u8 = 1;
/// `field-vchar`, SP and HTAB of RFC 9110 section 5.5 (obs-text included).
pub(crate) const VALUE: u8 = 2;
/// Bytes allowed in a request target: visible ASCII without `"<>\^`{|}` being singled out (Envoy forwards
/// those), without SP, controls, DEL and bytes above 0x7f.
pub(crate) const TARGET: u8 = 4;

/// Bytes of a `reg-name` (RFC 3986 section 3.2.2) that stand for themselves, without the comma: a list is no host.
pub(crate) const HOST: u8 = 8;

/// Class bits of every byte.
pub(crate) static CLASS: [u8; 256] = build();

const fn build() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let token = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        let mut bits = 0;
        if token {
            bits |= TOKEN;
        }
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            bits |= VALUE;
        }
        if b > 0x20 && b < 0x7f {
            bits |= TARGET;
        }
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            )
        {
            bits |= HOST;
        }
        table[i] = bits;
        i += 1;
    }
    table
}

/// True when every byte of `text` has one of the class bits `class`.
#[inline]
pub(crate) fn all(text: &[u8], class: u8) -> bool {
    text.iter().all(|b| CLASS[*b as usize] & class != 0)
}

/// True for a non-empty `token` (RFC 9110 section 5.6.2): a legal field name or method.
#[inline]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, TOKEN)
}

/// True when `text` may stand as a field value on the wire: no control byte but HTAB, no DEL.
#[inline]
pub fn is_valid_value(text: &[u8]) -> bool {
    all(text, VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_grammar() {
        assert!(is_token(b"x-Request_ID!") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a:"));
        assert!(!is_token(b"\xc3\xa9"));
        assert!(is_valid_value(b"") && is_valid_value(b"a\tb \xff"));
        for bad in [0u8, b'\r', b'\n', 0x0b, 0x1f, 0x7f] {
            assert!(!is_valid_value(&[bad]), "{bad:#x}");
        }
        assert!(all(b"/a?b#\\", TARGET) && !all(b"/a b", TARGET) && !all(b"/\x80", TARGET));
    }
}
