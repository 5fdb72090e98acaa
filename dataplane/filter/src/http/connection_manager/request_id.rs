//! `x-request-id` (`envoy.request_id.uuid`).

use millrace_base::Rng;
use millrace_http::{HeaderId, HeaderMap};

/// Length of a UUID's text.
pub const UUID_LEN: usize = 36;
/// Where the version nibble stands; Envoy keeps its trace reason there.
const TRACE_REASON: usize = 14;

/// A random UUID (version 4, RFC 9562). Its version nibble, `4`, reads as "not traced" to Envoy.
pub fn generate(rng: &mut Rng) -> [u8; UUID_LEN] {
    let high = (rng.next_u64() & !0xf000) | 0x4000;
    let low = (rng.next_u64() & !(0b11 << 62)) | (0b10 << 62);
    let mut out = [b'-'; UUID_LEN];
    out[..8].copy_from_slice(&hex((high >> 32) as u32));
    let [a, b, c, d, e, f, g, h] = hex(high as u32);
    out[9..13].copy_from_slice(&[a, b, c, d]);
    out[14..18].copy_from_slice(&[e, f, g, h]);
    let [a, b, c, d, e, f, g, h] = hex((low >> 32) as u32);
    out[19..23].copy_from_slice(&[a, b, c, d]);
    out[24..28].copy_from_slice(&[e, f, g, h]);
    out[28..].copy_from_slice(&hex(low as u32));
    out
}

/// Eight hexadecimal digits, computed side by side in one register.
#[inline]
fn hex(number: u32) -> [u8; 8] {
    let mut digits = u64::from(number);
    // Every half moves to where its digits belong: four, two, one byte apart.
    digits = (digits << 16 | digits) & 0x0000_ffff_0000_ffff;
    digits = (digits << 8 | digits) & 0x00ff_00ff_00ff_00ff;
    digits = (digits << 4 | digits) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((digits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    let gap = u64::from(b'a' - b'0' - 10);
    (digits + 0x3030_3030_3030_3030 + letters * gap).to_be_bytes()
}

/// Sets `x-request-id` where the policy asks for it. `edge` is an external request with
/// `use_remote_address`; `preserve` is `preserve_external_request_id`.
pub fn apply(headers: &mut HeaderMap, edge: bool, preserve: bool, rng: &mut Rng) {
    let Some(id) = headers.get(HeaderId::XRequestId) else {
        headers.set_id(HeaderId::XRequestId, &generate(rng));
        return;
    };
    if !edge {
        return;
    }
    if !preserve {
        headers.set_id(HeaderId::XRequestId, &generate(rng));
    } else if id.len() == UUID_LEN && id[TRACE_REASON] != b'4' {
        // An outsider must not be able to force a trace.
        let mut untraced = [0; UUID_LEN];
        untraced.copy_from_slice(id);
        untraced[TRACE_REASON] = b'4';
        headers.set_id(HeaderId::XRequestId, &untraced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::text;

    #[test]
    fn generated_ids_are_version_4_and_differ() {
        let mut rng = Rng::new(3);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let id = text(&generate(&mut rng));
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12]);
            assert!(id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
            assert!(id.as_bytes()[TRACE_REASON] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn digits_are_those_of_format() {
        let mut rng = Rng::new(9);
        for n in
            (0..=0xffff).chain((0..=0xffff).map(|n| n << 16)).chain((0..1000).map(|_| rng.next_u64() as u32))
        {
            assert_eq!(text(&hex(n)), format!("{n:08x}"));
        }
    }

    #[test]
    fn ids_are_kept_or_replaced() {
        let traced = b"7b674932-635d-9ceb-b907-12674f8c7267";
        let run = |edge, preserve, id: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.append_id(HeaderId::XRequestId, id);
            apply(&mut headers, edge, preserve, &mut Rng::new(1));
            text(headers.get(HeaderId::XRequestId).unwrap_or_default())
        };
        assert_eq!(run(false, false, traced).as_bytes(), traced);
        assert_eq!(run(true, true, traced), "7b674932-635d-4ceb-b907-12674f8c7267");
        assert_eq!(run(true, true, b"short"), "short");
        assert_ne!(run(true, false, traced).as_bytes(), traced);
    }
}
