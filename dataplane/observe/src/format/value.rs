//! One operator, one value.

use millrace_base::Time;
use millrace_config::format::{DurationUnit, Op, ServerNameSource, TimePoint};

use super::{Missing, addresses, calendar, headers, peer};
use crate::access_log::StreamInfo;
use crate::json::push_string;

/// What an operator came to. Text stands in the output vector already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// Appended to the output.
    Text,
    /// A number, not yet printed: JSON prints it without quotes.
    Number(i64),
    /// A `-` that JSON prints as a string too.
    Dash,
    /// Nothing.
    Missing,
}

impl Value {
    /// Prints what is not printed yet. `start` is where the value begins in `out`.
    pub(crate) fn finish(self, missing: Missing, start: usize, out: &mut Vec<u8>) {
        match self {
            Self::Text => {}
            Self::Number(n) => push_number(n, out),
            Self::Dash => out.push(b'-'),
            Self::Missing => {
                out.truncate(start);
                if missing == Missing::Dash {
                    out.push(b'-');
                }
            }
        }
    }
}

pub(crate) fn push_number(n: i64, out: &mut Vec<u8>) {
    if n < 0 {
        out.push(b'-');
    }
    push_decimal(n.unsigned_abs(), out);
}

/// Decimal digits, made on the stack from the last to the first.
#[inline]
pub(crate) fn push_decimal(mut n: u64, out: &mut Vec<u8>) {
    if n < 10 {
        return out.push(b'0' + n as u8);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while n > 0 && at > 0 {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn number(n: u64) -> Value {
    Value::Number(i64::try_from(n).unwrap_or(i64::MAX))
}

fn text(text: impl AsRef<[u8]>, out: &mut Vec<u8>) -> Value {
    out.extend_from_slice(text.as_ref());
    Value::Text
}

pub(super) fn optional(value: Option<impl AsRef<[u8]>>, out: &mut Vec<u8>) -> Value {
    value.map_or(Value::Missing, |value| text(value, out))
}

fn spaced(value: Option<&str>, out: &mut Vec<u8>) -> Value {
    let Some(value) = value else { return Value::Missing };
    out.extend(value.bytes().map(|b| if b.is_ascii_whitespace() { b'_' } else { b }));
    Value::Text
}

/// Evaluates an operator. Text goes to `out`; see [`Value`].
pub(crate) fn evaluate(op: &Op, info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    match op {
        Op::Header { source, name, alternative } => {
            headers::render(*source, name, alternative.as_deref(), info, out)
        }
        Op::Time { source, format } => {
            calendar::render(*source, format.as_ref(), info, out);
            Value::Text
        }
        Op::Address { side, view } => addresses::render(*side, *view, info, out),
        Op::UpstreamHost | Op::UpstreamHostName { .. } | Op::Attempted(_) => addresses::host(op, info, out),
        Op::GrpcStatus(form) => headers::grpc_status(*form, info, out),
        Op::Path { with_query, source } => optional(headers::path(*source, *with_query, info), out),
        Op::QueryParam(name) => headers::query_param(name, info, out),
        Op::QueryParams => optional(headers::query(info), out),
        Op::Tls { side, fact } => peer::render(*side, fact, info, out),
        Op::DynamicMetadata { namespace, path } => metadata(namespace, path, info, out),
        Op::RequestedServerName(source) => server_name(*source, info, out),
        Op::ResponseFlags => flags(info, false, out),
        Op::ResponseFlagsLong => flags(info, true, out),
        Op::ResponseCodeDetails { spaces: true } => optional(info.response_code_details, out),
        Op::ResponseCodeDetails { spaces: false } => spaced(info.response_code_details, out),
        Op::UniqueId => uuid(info.unique, out),
        Op::Constant(Some(value)) => text(value.as_bytes(), out),
        Op::Constant(None) => Value::Dash,
        Op::Nothing => Value::Text,
        Op::LocalReplyBody => text(info.local_reply_body.unwrap_or_default(), out),
        _ => match number_of(op, info) {
            Some(value) => value,
            None => named(op, info, out),
        },
    }
}

/// Values are texts at the first level, so that no longer path leads anywhere.
fn metadata(namespace: &str, path: &[Box<str>], info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    let Some(metadata) = info.metadata else { return Value::Missing };
    match path {
        [] => {
            let mut opening = b'{';
            for (key, value) in metadata.namespace(namespace) {
                out.push(opening);
                push_string(key.as_bytes(), out);
                out.push(b':');
                push_string(value.as_bytes(), out);
                opening = b',';
            }
            if opening == b'{' {
                return Value::Missing;
            }
            out.push(b'}');
            Value::Text
        }
        [key] => optional(metadata.get(namespace, key), out),
        _ => Value::Missing,
    }
}

/// The operators that print one field as it stands.
fn named(op: &Op, info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    match op {
        Op::Protocol => optional(info.protocol.map(|v| v.as_str()), out),
        Op::UpstreamProtocol => optional(info.upstream_protocol.map(|v| v.as_str()), out),
        Op::ConnectionTerminationDetails => optional(info.connection_termination_details, out),
        Op::UpstreamCluster => optional(info.upstream_cluster, out),
        Op::UpstreamClusterRaw => optional(info.upstream_cluster_raw, out),
        Op::UpstreamTransportFailureReason => spaced(info.upstream_transport_failure, out),
        Op::DownstreamTransportFailureReason => spaced(info.downstream_transport_failure, out),
        Op::DownstreamLocalCloseReason => optional(info.downstream_local_close_reason, out),
        Op::UpstreamLocalCloseReason => optional(info.upstream_local_close_reason, out),
        Op::DownstreamDetectedCloseType => text(info.downstream_close.as_str(), out),
        Op::UpstreamDetectedCloseType => optional(info.upstream_close.map(|close| close.as_str()), out),
        Op::StreamId => optional(info.stream_id, out),
        Op::RouteName => optional(info.route_name.filter(|name| !name.is_empty()), out),
        Op::VirtualClusterName => optional(info.virtual_cluster_name, out),
        Op::FilterChainName => optional(info.filter_chain_name.filter(|name| !name.is_empty()), out),
        Op::ListenerName => optional(info.listener_name, out),
        Op::AccessLogType => text(info.log_type.as_str(), out),
        Op::Hostname => match info.hostname {
            "" => Value::Dash,
            name => text(name, out),
        },
        Op::TraceId => optional(info.trace_id, out),
        Op::SpanId => optional(info.span_id, out),
        // `Absent`, and everything that `evaluate` answered before.
        _ => Value::Missing,
    }
}

/// The operators that count something or take a time.
#[inline]
fn number_of(op: &Op, info: &StreamInfo<'_>) -> Option<Value> {
    let (bytes, times) = (&info.bytes, &info.times);
    let start = Some(times.start);
    Some(number(match op {
        Op::RequestHeadersBytes => info.request.map_or(0, |head| head.byte_len() as u64),
        Op::ResponseHeadersBytes => info.response.map_or(0, |head| head.byte_len() as u64),
        Op::ResponseTrailersBytes => info.response_trailers.map_or(0, |map| map.byte_len() as u64),
        Op::BytesReceived => bytes.received,
        Op::BytesSent => bytes.sent,
        Op::Zero => 0,
        Op::UpstreamWireBytesSent => bytes.upstream_wire_sent,
        Op::UpstreamWireBytesReceived => bytes.upstream_wire_received,
        Op::UpstreamHeaderBytesSent => bytes.upstream_header_sent,
        Op::UpstreamHeaderBytesReceived => bytes.upstream_header_received,
        Op::DownstreamWireBytesSent => bytes.downstream_wire_sent,
        Op::DownstreamWireBytesReceived => bytes.downstream_wire_received,
        Op::DownstreamHeaderBytesSent => bytes.downstream_header_sent,
        Op::DownstreamHeaderBytesReceived => bytes.downstream_header_received,
        Op::ResponseCode => info.response_code.map_or(0, u64::from),
        Op::UpstreamRequestAttemptCount => u64::from(info.upstream_attempts),
        Op::UpstreamConnectionId => info.upstream_connection_id.unwrap_or(0),
        Op::ConnectionId => info.connection_id.unwrap_or(0),
        Op::Duration => return Some(between(start, times.end)),
        Op::RequestDuration => return Some(between(start, times.downstream_rx_end)),
        Op::RequestTxDuration => return Some(between(start, times.upstream_tx_end)),
        Op::ResponseDuration => return Some(between(start, times.upstream_rx_begin)),
        Op::ResponseTxDuration => return Some(between(times.upstream_rx_begin, times.downstream_tx_end)),
        Op::UpstreamConnectionPoolReadyDuration => return Some(between(start, times.upstream_pool_ready)),
        Op::CommonDuration { start, end, unit } => {
            return Some(match (moment(start, info), moment(end, info)) {
                (Some(start), Some(end)) => Value::Number(signed(start, end, *unit)),
                _ => Value::Missing,
            });
        }
        _ => return None,
    }))
}

/// Whole milliseconds between two moments that have come.
#[inline]
fn between(start: Option<Time>, end: Option<Time>) -> Value {
    match (start, end) {
        (Some(start), Some(end)) => number(end.0.saturating_sub(start.0) / 1_000_000),
        _ => Value::Missing,
    }
}

/// May be negative: with early responses the request can end after its response.
fn signed(start: Time, end: Time, unit: DurationUnit) -> i64 {
    let divisor = match unit {
        DurationUnit::Milliseconds => 1_000_000,
        DurationUnit::Microseconds => 1_000,
        DurationUnit::Nanoseconds => 1,
    };
    let nanos = i128::from(end.0) - i128::from(start.0);
    i64::try_from(nanos / divisor).unwrap_or(i64::MAX)
}

fn moment(point: &TimePoint, info: &StreamInfo<'_>) -> Option<Time> {
    let times = &info.times;
    let http = info.protocol.is_some();
    match point {
        TimePoint::DownstreamConnectBegin => (!http).then_some(times.start),
        TimePoint::DownstreamConnectEnd => times.end.filter(|_| !http),
        TimePoint::DownstreamRxBegin => http.then_some(times.start),
        TimePoint::DownstreamRxEnd => times.downstream_rx_end,
        TimePoint::UpstreamConnectBegin => times.upstream_connect_begin,
        TimePoint::UpstreamConnectEnd => times.upstream_connect_end,
        TimePoint::UpstreamHandshakeEnd => times.upstream_handshake_end,
        TimePoint::UpstreamTxBegin => times.upstream_tx_begin,
        TimePoint::UpstreamTxEnd => times.upstream_tx_end,
        TimePoint::UpstreamRxBegin => times.upstream_rx_begin,
        TimePoint::UpstreamRxBodyBegin => times.upstream_rx_body_begin,
        TimePoint::UpstreamRxEnd => times.upstream_rx_end,
        TimePoint::DownstreamTxBegin => times.downstream_tx_begin,
        TimePoint::DownstreamTxEnd => times.downstream_tx_end,
        // No filter sets time points of its own.
        TimePoint::Custom(_) => None,
    }
}

fn flags(info: &StreamInfo<'_>, long: bool, out: &mut Vec<u8>) -> Value {
    if info.flags.is_empty() {
        return Value::Dash;
    }
    for (i, flag) in info.flags.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(if long { flag.long() } else { flag.short() }.as_bytes());
    }
    Value::Text
}

fn server_name(source: ServerNameSource, info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    let sni = info.requested_server_name.map(str::as_bytes).filter(|name| !name.is_empty());
    let host = info.request.map(|head| head.authority()).filter(|host| !host.is_empty());
    let name = match source {
        ServerNameSource::SniOnly => sni,
        ServerNameSource::SniFirst => sni.or(host),
        ServerNameSource::HostFirst => host.or(sni),
    };
    optional(name, out)
}

/// The 128 bits as a version 4 UUID (RFC 9562 section 5.4).
fn uuid(bits: u128, out: &mut Vec<u8>) -> Value {
    let bits = bits & !(0xf << 76) | 4 << 76;
    let bits = bits & !(3 << 62) | 2 << 62;
    for digit in (0..32).rev() {
        out.push(b"0123456789abcdef"[(bits >> (digit * 4)) as usize & 15]);
        if matches!(digit, 24 | 20 | 16 | 12) {
            out.push(b'-');
        }
    }
    Value::Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_they_display_themselves() {
        let powers = (0..19).map(|n| 10i64.pow(n)).flat_map(|n| [n - 1, n, n + 1, n / 7]);
        for n in powers.chain(-300..1100).chain([i64::MIN, i64::MAX, -1_000_000_007]) {
            let mut out = Vec::new();
            push_number(n, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), n.to_string());
        }
        let mut out = Vec::new();
        push_decimal(u64::MAX, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), u64::MAX.to_string());
    }
}
