//! Values of TLVs as text (`KeyValuePair.value_string_encoding`).

/// UTF-8 as it came; every byte that is part of none becomes `!`, as Envoy has it.
pub fn sanitized(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(std::iter::repeat_n('!', chunk.invalid().len()));
    }
    out
}

/// RFC 4648 section 4, padded.
pub fn base64(value: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(value.len().div_ceil(3) * 4);
    for group in value.chunks(3) {
        let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for letter in 0..4_usize {
            let index = bits >> (18 - 6 * letter) & 63;
            out.push(if letter <= group.len() { char::from(LETTERS[index as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf8_is_marked_byte_by_byte() {
        assert_eq!(sanitized(b"ab"), "ab");
        assert_eq!(sanitized("ä€".as_bytes()), "ä€");
        assert_eq!(sanitized(b"a\xff\xfeb\xe2\x82"), "a!!b!!");
        assert_eq!(sanitized(b""), "");
    }

    #[test]
    fn base64_is_padded() {
        for (value, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\xfd", "//79"),
        ] {
            assert_eq!(base64(value), text);
        }
    }
}
