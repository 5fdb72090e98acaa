//! Base64 in a stream: octets go in as they come, whole groups come out.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Letters to their six bits; 0xff for what is no letter.
const VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut i = 0;
    while i < 64 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Decodes; up to three letters wait between calls.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::http) struct Decoder {
    pending: [u8; 4],
    have: u8,
}

/// The text is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Invalid;

impl Decoder {
    /// Appends what the letters say. Padding may end any group of four: clients pad each message.
    pub(in crate::http) fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
        out.reserve(text.len() / 4 * 3 + 3);
        for letter in text {
            self.pending[usize::from(self.have)] = *letter;
            self.have += 1;
            if self.have == 4 {
                self.have = 0;
                group(self.pending, out)?;
            }
        }
        Ok(())
    }

    /// True when the text may end here.
    pub(in crate::http) fn is_complete(&self) -> bool {
        self.have == 0
    }
}

fn group(letters: [u8; 4], out: &mut Vec<u8>) -> Result<(), Invalid> {
    let padding = letters.iter().rev().take_while(|letter| **letter == b'=').count();
    let mut bits = 0u32;
    for letter in &letters[..4 - padding.min(2)] {
        let value = VALUES[usize::from(*letter)];
        if value == 0xff {
            return Err(Invalid);
        }
        bits = bits << 6 | u32::from(value);
    }
    match padding {
        0 => out.extend_from_slice(&bits.to_be_bytes()[1..]),
        1 if bits & 0b11 == 0 => out.extend_from_slice(&(bits >> 2).to_be_bytes()[2..]),
        2 if bits & 0b1111 == 0 => out.push((bits >> 4) as u8),
        // More padding, or bits that belong to no octet.
        _ => return Err(Invalid),
    }
    Ok(())
}

/// Encodes; up to two octets wait between calls.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::http) struct Encoder {
    pending: [u8; 3],
    have: u8,
}

impl Encoder {
    /// Appends the letters of whole groups.
    pub(in crate::http) fn encode(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len() / 3 * 4 + 4);
        let mut octets = octets;
        while self.have > 0 && self.have < 3 {
            let Some((first, rest)) = octets.split_first() else { return };
            self.pending[usize::from(self.have)] = *first;
            self.have += 1;
            octets = rest;
        }
        if self.have == 3 {
            self.have = 0;
            write(self.pending, 4, out);
        }
        let (groups, rest) = octets.as_chunks::<3>();
        groups.iter().for_each(|group| write(*group, 4, out));
        self.pending[..rest.len()].copy_from_slice(rest);
        self.have = rest.len() as u8;
    }

    /// Ends the text with what waits, padded.
    pub(in crate::http) fn finish(&mut self, out: &mut Vec<u8>) {
        let have = usize::from(std::mem::take(&mut self.have));
        if have > 0 {
            self.pending[have..].fill(0);
            write(self.pending, have + 1, out);
            out.resize(out.len() + 3 - have, b'=');
        }
    }
}

fn write(octets: [u8; 3], letters: usize, out: &mut Vec<u8>) {
    let [a, b, c] = octets.map(u32::from);
    let bits = a << 16 | b << 8 | c;
    let text = [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize]);
    out.extend_from_slice(&text[..letters]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: [(&str, &str); 7] = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];

    /// The text of RFC 4648 section 10, cut into pieces of every length.
    #[test]
    fn texts_of_the_rfc_both_ways() {
        for ((octets, text), piece) in VECTORS.into_iter().flat_map(|v| (1..8).map(move |p| (v, p))) {
            let (mut encoder, mut out) = (Encoder::default(), Vec::new());
            octets.as_bytes().chunks(piece).for_each(|chunk| encoder.encode(chunk, &mut out));
            encoder.finish(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            text.as_bytes().chunks(piece).for_each(|chunk| decoder.decode(chunk, &mut out).unwrap());
            assert!(decoder.is_complete());
            assert_eq!(String::from_utf8(out).unwrap(), octets);
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["Zg=v", "Z===", "====", "Zm9!", "Zm9-", "Zh==", "Zm9=", "=Zm9", "Zm\n9"] {
            assert_eq!(Decoder::default().decode(text.as_bytes(), &mut Vec::new()), Err(Invalid), "{text}");
        }
        let mut decoder = Decoder::default();
        decoder.decode(b"Zm9vY", &mut Vec::new()).unwrap();
        assert!(!decoder.is_complete());
    }

    #[test]
    fn padded_messages_may_follow_each_other() {
        let mut out = Vec::new();
        Decoder::default().decode(b"Zg==Zm8=Zm9v", &mut out).unwrap();
        assert_eq!(out, b"ffofoo");
    }
}
