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
