//! One direction's keys: seals and opens records in place (RFC 8446 5.2, RFC 5288, RFC 7905).

use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::{HEADER, PLAINTEXT_MAX, content};
use crate::error::RecordError;

const TAG: usize = 16;
/// The part of AES-GCM's nonce that TLS 1.2 writes before each record.
const EXPLICIT_NONCE: usize = 8;
/// Blocks of 16 bytes, one more for each record, that AES-GCM may encrypt under one key: 2^24 records of 16 KiB
/// (RFC 8446 5.5 and draft-irtf-cfrg-aead-limits, an advantage below 2^-60).
const GCM_BLOCKS: u64 = 1 << 34;
/// Kept of that for a key update and an alert.
const RESERVE: u64 = 8;

/// The keys must not encrypt more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Tls13,
    Tls12Gcm,
    Tls12ChaCha,
}

/// Key, nonce and counters of one direction.
pub(crate) struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    blocks_left: u64,
    framing: Framing,
}

impl Protection {
    /// Takes what rustls derived. `None` for an algorithm that this build does not have.
    pub(crate) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets, tls13: bool) -> Option<Self> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let chacha = *algorithm == CHACHA20_POLY1305;
        let framing = match (tls13, chacha) {
            (true, _) => Framing::Tls13,
            (false, true) => Framing::Tls12ChaCha,
            (false, false) => Framing::Tls12Gcm,
        };
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?),
            iv: iv.as_ref().try_into().ok()?,
            sequence,
            blocks_left: if chacha { u64::MAX } else { GCM_BLOCKS },
            framing,
        })
    }

    /// Bytes that a record has beside its plaintext.
    pub(crate) fn overhead(&self) -> usize {
        HEADER
            + match self.framing {
                Framing::Tls13 => 1 + TAG,
                Framing::Tls12Gcm => EXPLICIT_NONCE + TAG,
                Framing::Tls12ChaCha => TAG,
            }
    }

    /// False when the next record of `length` bytes needs other keys.
    pub(crate) fn may_seal(&self, length: usize) -> bool {
        self.blocks_left.saturating_sub(RESERVE) >= blocks(length) && self.sequence < u64::MAX - RESERVE
    }

    /// Appends one record to `out`. `fill` writes `length` bytes of plaintext, at most [`PLAINTEXT_MAX`].
    pub(crate) fn seal(
        &mut self,
        kind: u8,
        length: usize,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Exhausted> {
        let used = blocks(length);
        if self.blocks_left < used || self.sequence == u64::MAX {
            return Err(Exhausted);
        }
        let start = out.len();
        let nonce = self.counted_nonce();
        let shown = if self.framing == Framing::Tls13 { content::APPLICATION_DATA } else { kind };
        let sealed = u16::try_from(length + self.overhead() - HEADER).map_err(|_| Exhausted)?.to_be_bytes();
        let header = [shown, 3, 3, sealed[0], sealed[1]];
        out.extend_from_slice(&header);
        if self.framing == Framing::Tls12Gcm {
            out.extend_from_slice(&nonce[NONCE_LEN - EXPLICIT_NONCE..]);
        }
        let body = out.len();
        fill(out);
        debug_assert_eq!(out.len() - body, length);
        if self.framing == Framing::Tls13 {
            out.push(kind);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = match self.framing {
            Framing::Tls13 => self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[body..]),
            Framing::Tls12Gcm | Framing::Tls12ChaCha => {
                let aad = Aad::from(self.tls12_aad(kind, [3, 3], length));
                self.key.seal_in_place_separate_tag(nonce, aad, &mut out[body..])
            }
        };
        let Ok(tag) = tag else {
            out.truncate(start);
            return Err(Exhausted);
        };
        out.extend_from_slice(tag.as_ref());
        self.sequence += 1;
        self.blocks_left -= used;
        Ok(())
    }

    /// Decrypts a whole record in place: its true type, and where its plaintext is in `record`.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), RecordError> {
        let Some((&mut header, body)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(RecordError::Malformed);
        };
        let (kind, start, length) = match self.framing {
            Framing::Tls13 => {
                if header[0] != content::APPLICATION_DATA {
                    return Err(RecordError::UnexpectedType);
                }
                let nonce = Nonce::assume_unique_for_key(self.counted_nonce());
                let sealed = self.decrypt(nonce, Aad::from(header), body)?;
                let (kind, length) = unpad(sealed).ok_or(RecordError::NoType)?;
                (kind, HEADER, length)
            }
            Framing::Tls12ChaCha => {
                let length = body.len().checked_sub(TAG).ok_or(RecordError::BadMac)?;
                let nonce = Nonce::assume_unique_for_key(self.counted_nonce());
                let aad = Aad::from(self.tls12_aad(header[0], [header[1], header[2]], length));
                self.decrypt(nonce, aad, body)?;
                (header[0], HEADER, length)
            }
            Framing::Tls12Gcm => {
                let Some((&mut explicit, body)) = body.split_first_chunk_mut::<EXPLICIT_NONCE>() else {
                    return Err(RecordError::BadMac);
                };
                let length = body.len().checked_sub(TAG).ok_or(RecordError::BadMac)?;
                let mut nonce = self.iv;
                nonce[NONCE_LEN - EXPLICIT_NONCE..].copy_from_slice(&explicit);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let aad = Aad::from(self.tls12_aad(header[0], [header[1], header[2]], length));
                self.decrypt(nonce, aad, body)?;
                (header[0], HEADER + EXPLICIT_NONCE, length)
            }
        };
        if length > PLAINTEXT_MAX {
            return Err(RecordError::Overflow);
        }
        self.sequence = self.sequence.checked_add(1).ok_or(RecordError::BadMac)?;
        Ok((kind, start..start + length))
    }

    fn decrypt<'a, A: AsRef<[u8]>>(
        &self,
        nonce: Nonce,
        aad: Aad<A>,
        body: &'a mut [u8],
    ) -> Result<&'a [u8], RecordError> {
        let (sealed, tag) = body.split_last_chunk_mut::<TAG>().ok_or(RecordError::BadMac)?;
        self.key
            .open_in_place_separate_tag(nonce, aad, tag, sealed)
            .map(|plaintext| &*plaintext)
            .map_err(|_| RecordError::BadMac)
    }

    /// RFC 8446 5.3. TLS 1.2's AES-GCM counts in the same way, as rustls does, whose numbers are continued.
    fn counted_nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, count) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        nonce
    }

    /// RFC 5246 6.2.3.3.
    fn tls12_aad(&self, kind: u8, version: [u8; 2], length: usize) -> [u8; 13] {
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(&self.sequence.to_be_bytes());
        aad[8] = kind;
        aad[9..11].copy_from_slice(&version);
        // A record has at most 2^14 + 256 bytes.
        aad[11..].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        aad
    }

    #[cfg(test)]
    pub(crate) fn exhaust(&mut self) {
        self.blocks_left = RESERVE + 4;
    }
}

fn blocks(length: usize) -> u64 {
    // One more for the record itself and for the type that TLS 1.3 encrypts.
    2 + (length as u64) / 16
}

/// The type behind the plaintext and before the padding (RFC 8446 5.4).
fn unpad(sealed: &[u8]) -> Option<(u8, usize)> {
    let length = sealed.iter().rposition(|byte| *byte != 0)?;
    Some((sealed[length], length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::cipher::AeadKey;

    fn pair(tls13: bool, chacha: bool) -> (Protection, Protection) {
        let make = || {
            let (key, iv) = (AeadKey::from([7; 32]), [9; 12].into());
            let secrets = if chacha {
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
            } else {
                ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            };
            Protection::new(1, &secrets, tls13).expect("known algorithms")
        };
        (make(), make())
    }

    fn seal(protection: &mut Protection, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        protection
            .seal(content::APPLICATION_DATA, plaintext.len(), &mut out, |out| {
                out.extend_from_slice(plaintext)
            })
            .expect("not exhausted");
        assert_eq!(out.len(), plaintext.len() + protection.overhead());
        out
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        for (tls13, chacha) in [(true, false), (true, true), (false, false), (false, true)] {
            let (mut ours, mut theirs) = pair(tls13, chacha);
            for length in [0, 1, 15, 16, 17, 1_000, PLAINTEXT_MAX] {
                let plaintext: Vec<u8> = (0..length).map(|i| i as u8).collect();
                let record = seal(&mut ours, &plaintext);
                for flipped in [0, HEADER, record.len() - 1] {
                    let mut bad = record.clone();
                    bad[flipped] ^= 1;
                    assert!(theirs.open(&mut bad).is_err(), "{tls13} {chacha} {length} {flipped}");
                }
                let mut cut = record[..record.len() - 1].to_vec();
                assert!(theirs.open(&mut cut).is_err());
                let mut good = record;
                let (kind, range) = theirs.open(&mut good).expect("it is what was sealed");
                assert_eq!((kind, &good[range]), (content::APPLICATION_DATA, &plaintext[..]));
            }
        }
    }

    #[test]
    fn padding_is_taken_off_and_a_record_of_padding_is_refused() {
        let (mut ours, mut theirs) = pair(true, false);
        let mut padded = Vec::new();
        // The type that `seal` appends becomes part of the padding when it is zero.
        ours.seal(0, 6, &mut padded, |out| out.extend_from_slice(&[b'x', 23, 0, 0, 0, 0])).expect("sealed");
        let (kind, range) = theirs.open(&mut padded).expect("padded");
        assert_eq!((kind, &padded[range]), (23, &b"x"[..]));
        let mut empty = Vec::new();
        ours.seal(0, 3, &mut empty, |out| out.extend_from_slice(&[0; 3])).expect("sealed");
        assert_eq!(theirs.open(&mut empty), Err(RecordError::NoType));
    }

    #[test]
    fn keys_end() {
        let (mut ours, _) = pair(true, false);
        ours.exhaust();
        assert!(ours.may_seal(32) && !ours.may_seal(48));
        for _ in 0..6 {
            seal(&mut ours, b"");
        }
        assert_eq!(ours.seal(23, 0, &mut Vec::new(), |_| ()), Err(Exhausted));
    }
}
