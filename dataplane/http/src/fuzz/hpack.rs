//! Properties of HPACK: [`twin`] agrees with the decoder in fields, verdicts and table sizes, and what was decoded is
//! encoded into the same fields again.

use alloc::vec::Vec;

use self::twin::{Twin, TwinField};
use crate::h2::hpack::{Decoder, Encoder, Name, Pseudo};

pub mod twin;

/// Table sizes that reach every corner.
const SIZES: [u32; 8] = [0, 32, 64, 100, 256, 4096, 5000, 65_536];

/// Properties of a connection's header blocks. The input is a size, and then blocks, each with its length in front and
/// with what happens before it: other sizes for either side.
pub fn fuzz_hpack(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else { return };
    let limit = SIZES[usize::from(first % 8)];
    let (mut decoder, mut twin) = (Decoder::new(limit), Twin::new(limit));
    let mut again = Again::new(SIZES[usize::from(first / 8 % 8)]);
    while let [size, len, following @ ..] = rest {
        let (block, behind) = following.split_at(following.len().min(usize::from(*len)));
        rest = behind;
        if size & 0x08 != 0 {
            let limit = SIZES[usize::from(size % 8)];
            decoder.set_table_size(limit);
            twin.set_table_size(limit);
        }
        let Some(fields) = decode_both(&mut decoder, &mut twin, block) else { return };
        if size & 0x80 != 0 {
            again.resize(SIZES[usize::from(size / 16 % 8)]);
        }
        again.round_trip(&fields);
    }
}

/// Decodes a block twice; `None` for one that is wrong.
fn decode_both(decoder: &mut Decoder, twin: &mut Twin, block: &[u8]) -> Option<Vec<TwinField>> {
    let mut fields = Vec::new();
    let verdict = decoder.decode(block, &mut |field| {
        assert_eq!(field.id, Name::of(field.name));
        assert_eq!(field.valid, twin::validity(field.name, field.value), "{}", block.escape_ascii());
        let (name, value) = (field.name.to_vec(), field.value.to_vec());
        fields.push(TwinField { name, value, sensitive: field.sensitive });
        true
    });
    let (wanted, wanted_verdict) = twin.decode(block);
    assert_eq!(verdict.is_ok(), wanted_verdict.is_ok(), "{verdict:?}: {}", block.escape_ascii());
    assert_eq!(fields, wanted, "{}", block.escape_ascii());
    verdict.ok()?;
    assert_eq!(decoder.table_size(), twin.table_size());
    Some(fields)
}

/// Our encoder, and what understands it.
struct Again {
    encoder: Encoder,
    decoder: Decoder,
    twin: Twin,
}

impl Again {
    fn new(own_limit: u32) -> Self {
        Self { encoder: Encoder::new(own_limit), decoder: Decoder::new(4096), twin: Twin::new(4096) }
    }

    fn resize(&mut self, size: u32) {
        self.encoder.set_peer_table_size(size);
        self.decoder.set_table_size(size);
        self.twin.set_table_size(size);
    }

    fn round_trip(&mut self, fields: &[TwinField]) {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for field in fields {
            encode(&mut self.encoder, field, &mut block);
        }
        let decoded = decode_both(&mut self.decoder, &mut self.twin, &block);
        let decoded = decoded.unwrap_or_else(|| unreachable!("our own block is wrong"));
        assert_eq!(self.encoder.table_size(), self.decoder.table_size());
        assert_eq!(decoded.len(), fields.len());
        for (again, field) in decoded.iter().zip(fields) {
            assert_eq!((&again.name, &again.value), (&field.name, &field.value));
            assert!(again.sensitive || !field.sensitive, "a secret became indexable");
        }
    }
}

/// Sends a field the way that a head is sent.
fn encode(encoder: &mut Encoder, field: &TwinField, out: &mut Vec<u8>) {
    let (name, value, id) = (&field.name, &field.value, Name::of(&field.name));
    match id {
        _ if field.sensitive => encoder.sensitive(name, value, id, out),
        Name::Pseudo(Pseudo::Method) => encoder.method(value, out),
        Name::Pseudo(Pseudo::Scheme) => encoder.scheme(value, out),
        Name::Pseudo(Pseudo::Path) => encoder.path(value, out),
        Name::Pseudo(Pseudo::Authority) => encoder.authority(value, out),
        Name::Pseudo(Pseudo::Status) => match status(value) {
            Some(status) => encoder.status(status, out),
            None => encoder.field(name, value, id, out),
        },
        _ => encoder.field(name, value, id, out),
    }
}

/// A status of three digits.
fn status(value: &[u8]) -> Option<u16> {
    let digits: [u8; 3] = value.try_into().ok()?;
    digits.iter().try_fold(0, |status, b| b.is_ascii_digit().then(|| status * 10 + u16::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use millrace_base::Rng;

    const NAMES: &[&[u8]] = &[
        b":path",
        b":status",
        b"cookie",
        b"authorization",
        b"x-request-id",
        b"x-a",
        b"x-b",
        b"x-bad name",
        b"date",
        b"content-length",
        b"",
        b":",
        b":nope",
        b"X-Up",
        b"accept-encoding",
        b"server",
        b"link",
        b"x-\x00",
    ];
    const VALUES: &[&[u8]] = &[
        b"",
        b"/",
        b"/index.html",
        b"200",
        b"404",
        b"418",
        b"gzip, deflate",
        b"a",
        b"b",
        b" lead",
        b"trail\t",
        b"\r",
        b"a longer value, which is in no table until it is put there",
        b"\xff\x00\x16{}",
        b"k=v",
    ];

    fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
        of[rng.below(of.len() as u64) as usize]
    }

    fn put_integer(value: usize, bits: u32, high: u8, out: &mut Vec<u8>) {
        let ones = (1 << bits) - 1;
        if value < ones {
            return out.push(high | value as u8);
        }
        out.push(high | ones as u8);
        let mut rest = value - ones;
        while rest >= 128 {
            out.push(rest as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }

    fn put_string(rng: &mut Rng, twin: &Twin, text: &[u8], out: &mut Vec<u8>) {
        let huffman = rng.chance(1, 2);
        let octets = if huffman { twin.to_huffman(text) } else { text.to_vec() };
        put_integer(octets.len(), 7, if huffman { 0x80 } else { 0 }, out);
        out.extend_from_slice(&octets);
    }

    /// A block that is right most of the time, whatever the policy of an encoder would be.
    fn block(rng: &mut Rng, twin: &Twin) -> Vec<u8> {
        let mut out = Vec::new();
        while rng.chance(1, 6) {
            put_integer(pick(rng, &SIZES) as usize, 5, 0x20, &mut out);
        }
        for _ in 0..rng.below(6) {
            let (bits, high) =
                pick(rng, &[(7, 0x80), (7, 0x80), (6, 0x40), (6, 0x40), (6, 0x40), (4, 0), (4, 0x10)]);
            let index = pick(rng, &[0, 0, 1, 4, 15, 16, 61, 62, 63, 64, 66])
                + usize::from(high == 0x80 && rng.chance(3, 4));
            put_integer(index, bits, high, &mut out);
            if high == 0x80 {
                continue;
            }
            if index == 0 {
                let name = pick(rng, NAMES);
                put_string(rng, twin, name, &mut out);
            }
            let value = pick(rng, VALUES);
            put_string(rng, twin, value, &mut out);
        }
        if rng.chance(1, 20) && !out.is_empty() {
            let at = rng.below(out.len() as u64) as usize;
            out[at] = rng.next_u64() as u8;
        }
        out
    }

    #[test]
    fn random_connections_keep_every_property() {
        let (mut rng, twin) = (Rng::new(3), Twin::new(4096));
        for _ in 0..3000 {
            let mut data = vec![rng.next_u64() as u8];
            for _ in 0..rng.below(12) {
                let block = block(&mut rng, &twin);
                let size = if rng.chance(1, 3) { rng.next_u64() as u8 & 0xf7 } else { 0 };
                data.extend([size | if rng.chance(1, 12) { 8 } else { 0 }, block.len() as u8]);
                data.extend_from_slice(&block);
            }
            fuzz_hpack(&data);
        }
    }

    #[test]
    fn random_octets_keep_every_property() {
        let mut rng = Rng::new(4);
        for _ in 0..20_000 {
            let mut data: Vec<u8> = (0..rng.below(80)).map(|_| rng.next_u64() as u8).collect();
            if data.len() > 3 {
                (data[1], data[2]) = (0, data.len() as u8);
            }
            fuzz_hpack(&data);
        }
    }
}
