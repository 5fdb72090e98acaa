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
    // Bytes of the number and where the two digits of each stand in the text.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
    for (byte, at) in bytes.zip(PLACES) {
        [out[at], out[at + 1]] = HEX_PAIRS[usize::from(byte)];
    }
    out
}

/// Two digits for every byte.
static HEX_PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

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
