//! Operations and events as text and as numbers: the same seed is the same trace.

use millrace_ring::{Event, Op};

/// An operation in one line; payloads as text.
pub(crate) fn show(op: &Op) -> String {
    match op {
        Op::Send { socket, token, payload } => {
            let text = String::from_utf8_lossy(&payload.to_vec()).escape_debug().to_string();
            format!("Send {socket:?} {token:?} {} bytes: {text:.200}", payload.len())
        }
        other => format!("{other:?}"),
    }
}

pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

pub(crate) fn hash_event(event: &Event) -> u64 {
    match event {
        Event::Accepted { token, result, .. } => mix(token.0, u64::from(result.is_ok())),
        Event::Connected { token, result } => mix(token.0, 2 + u64::from(result.is_ok())),
        Event::Received { token, data } => data.iter().fold(token.0, |h, b| mix(h, u64::from(*b))),
        Event::RecvEnded { token, reason } => mix(token.0, 5 + u64::from(format!("{reason:?}").len() as u32)),
        Event::Sent { token, result, .. } => mix(token.0, result.map_or(1, |count| 100 + count as u64)),
        Event::Wake => 7,
        Event::Relayed { token, bytes, end, .. } => {
            mix(token.0, 8 + *bytes as u64 * 2 + u64::from(end.is_some()))
        }
    }
}

pub(crate) fn hash_op(op: &Op) -> u64 {
    match op {
        Op::Send { token, payload, .. } => {
            payload.slices().flatten().fold(token.0, |h, b| mix(h, u64::from(*b)))
        }
        Op::Accept { token, .. } | Op::Connect { token, .. } | Op::CancelConnect { token } => token.0,
        Op::Recv { token, .. } => mix(token.0, 1),
        Op::RecvOnce { token, .. } => mix(token.0, 6),
        Op::Relay { token, limit, .. } => mix(token.0, *limit),
        Op::StopAccept { listener } => mix(listener.raw() as u64, 7),
        Op::StopRecv { socket } => mix(socket.raw() as u64, 2),
        Op::Shutdown { socket } => mix(socket.raw() as u64, 3),
        Op::Close { socket, reset } => mix(socket.raw() as u64, 4 + u64::from(*reset)),
    }
}
