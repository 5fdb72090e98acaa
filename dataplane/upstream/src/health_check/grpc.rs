//! Checks by `grpc.health.v1.Health.Check`.

use millrace_base::Time;
use millrace_config::{Cluster, GrpcHealthCheck};
use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead};

use super::conversation::{Reply, Verdict};
use super::wire::{Heard, Wire};
use super::{Failure, FailureKind};

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// A message of a health check is a few octets.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Flags and length in front of a message.
const PREFIX: usize = 5;

/// One connection.
#[derive(Debug)]
pub struct Grpc {
    wire: Wire,
    message: Vec<u8>,
}

impl Grpc {
    pub(super) fn new(cluster: &Cluster, now: Time) -> Self {
        Self { wire: Wire::new(cluster, now), message: Vec::new() }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.wire.is_in_flight()
    }

    pub(super) fn begin(
        &mut self,
        config: &GrpcHealthCheck,
        request: &RequestHead,
        out: &mut Vec<u8>,
    ) -> Reply {
        self.message.clear();
        let sent = self.wire.send(request, &request_message(&config.service), out);
        if sent { Reply::default() } else { Reply::broken(true) }
    }

    pub(super) fn receive(&mut self, bytes: &[u8], now: Time, out: &mut Vec<u8>) -> Reply {
        let Self { wire, message } = self;
        wire.receive(bytes, now, out, |heard, heads| {
            let passed = match heard {
                Heard::Head { end } => may_pass(&heads.response, end),
                Heard::Data { end: true, .. } => Some(false),
                Heard::Data { bytes, .. } => {
                    message.extend_from_slice(&bytes);
                    (message.len() > MESSAGE_BYTES_MAX).then_some(false)
                }
                Heard::Trailers => Some(is_ok(&heads.trailers) && serves(message)),
            };
            let verdict = match passed? {
                true => Verdict::Passed { degraded: false, status: 0 },
                false => Verdict::Failed(Failure::of(FailureKind::Active)),
            };
            Some(Reply { verdict: Some(verdict), ..Reply::default() })
        })
    }

    /// The call is given up; true when the connection is as good as before.
    pub(super) fn time_out(&mut self, out: &mut Vec<u8>) -> bool {
        self.wire.end(out);
        !self.wire.leaving
    }
}

/// A head that ends the call, or is none of gRPC, cannot pass.
fn may_pass(head: &ResponseHead, end: bool) -> Option<bool> {
    let kind = head.headers.get(HeaderId::ContentType).unwrap_or_default();
    let is_grpc = kind == b"application/grpc" || kind.starts_with(b"application/grpc+");
    (end || head.status != 200 || !is_grpc).then_some(false)
}

fn is_ok(trailers: &HeaderMap) -> bool {
    trailers.get(HeaderId::GrpcStatus) == Some(b"0")
}

/// `HealthCheckRequest { service }` behind its prefix.
fn request_message(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX + 4 + service.len());
    message.resize(PREFIX, 0);
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len() - PREFIX).unwrap_or(u32::MAX);
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message
}

/// True for one message that says SERVING; empty ones beside it do not count.
fn serves(mut frames: &[u8]) -> bool {
    let mut status = None;
    while let Some((prefix, rest)) = frames.split_first_chunk::<PREFIX>() {
        let [flags, length @ ..] = *prefix;
        let Some((message, next)) = rest.split_at_checked(u32::from_be_bytes(length) as usize) else {
            return false;
        };
        frames = next;
        if message.is_empty() {
            continue;
        }
        if status.is_some() || flags != 0 {
            return false;
        }
        let Some(found) = serving_status(message) else { return false };
        status = Some(found);
    }
    frames.is_empty() && status == Some(SERVING)
}

/// Field 1 of a message, the last one counts; `None` for what is no message.
fn serving_status(mut bytes: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => {
                let value = varint(&mut bytes)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => bytes = bytes.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                bytes = bytes.get(length..)?;
            }
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(7 * shift)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_grpc() {
        assert_eq!(request_message(""), [0; 5]);
        assert_eq!(request_message("a"), [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
        assert_eq!(request_message(&"x".repeat(200))[4..8], [203, 0x0a, 200, 1]);
        assert!(serves(&[0, 0, 0, 0, 2, 8, 1]));
        assert!(serves(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0x12, 0, 8, 1]), "an empty one and an unknown field");
        for bad in [
            &[][..],
            &[0, 0, 0, 0, 2, 8, 2],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 2, 8, 0x81],
            &[0, 0, 0, 0, 2, 8, 1, 0, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 2, 8, 1, 0],
        ] {
            assert!(!serves(bad), "{bad:?}");
        }
    }
}
