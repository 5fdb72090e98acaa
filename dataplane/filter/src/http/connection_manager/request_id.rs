//! `x-request-id` (`envoy.request_id.uuid`).

use millrace_base::Rng;
use millrace_http::{HeaderId, HeaderMap};

/// Length of a UUID's text.
pub const UUID_LEN: usize = 36;
/// Where the version nibble stands; Envoy keeps its trace reason there.
const TRACE_REASON: usize = 14;

/// A random UUID (version 4, RFC 9562). Its version nibble, `4`, reads as "not traced" to Envoy.
pub fn generate(rng: &mut Rng) -> [u8; UUID_LEN] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    let version = (random & !(0xf000 << 64)) | (0x4000 << 64);
    let uuid = (version & !(0b11 << 62)) | (0b10 << 62);
    let mut out = [b'-'; UUID_LEN];
    let mut at = 0;
    for nibble in 0..32 {
        if matches!(nibble, 8 | 12 | 16 | 20) {
            at += 1;
        }
        out[at] = HEX[(uuid >> (124 - 4 * nibble)) as usize & 15];
        at += 1;
    }
    out
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
