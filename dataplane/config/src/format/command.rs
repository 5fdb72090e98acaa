//! From a command's name and parameters to an [`Operator`].

use super::operator::*;
use super::peer;
use super::time::TimeFormat;

/// A command as written.
pub(super) struct Command<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: &'a str,
    pub(super) max_len: Option<usize>,
}

/// What may stand behind a command's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    /// Neither parameters nor a length.
    Alone,
    /// Parameters may stand there.
    Optional,
    /// Parameters must stand there.
    Required,
    /// Parameters may, a length may.
    OptionalWithLength,
    /// Parameters must, a length may.
    RequiredWithLength,
}

impl Command<'_> {
    fn check(&self, syntax: Syntax) -> Result<(), String> {
        let name = self.name;
        match syntax {
            Syntax::Alone if !self.parameters.is_empty() || self.max_len.is_some() => {
                return Err(format!("{name} does not take any parameters or length"));
            }
            Syntax::Required | Syntax::RequiredWithLength if self.parameters.is_empty() => {
                return Err(format!("{name} requires parameters"));
            }
            _ => {}
        }
        match syntax {
            Syntax::Optional | Syntax::Required if self.max_len.is_some() => {
                Err(format!("{name} does not allow length to be specified."))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn operator(command: &Command<'_>) -> Result<Operator, String> {
    let (syntax, op) = match plain(command.name) {
        Some(op) => (Syntax::Alone, Ok(op)),
        None => with_parameters(command)?,
    };
    command.check(syntax)?;
    Ok(Operator { op: op?, max_len: command.max_len })
}

type Parsed = Result<(Syntax, Result<Op, String>), String>;

/// The operators that read parameters. The inner result is looked at after the syntax was checked.
fn with_parameters(command: &Command<'_>) -> Parsed {
    let (name, given) = (command.name, command.parameters);
    Ok(match name {
        "REQ" | "REQUEST_HEADER" => (Syntax::RequiredWithLength, header(HeaderSource::Request, given)),
        "RESP" | "RESPONSE_HEADER" => (Syntax::RequiredWithLength, header(HeaderSource::Response, given)),
        "TRAILER" | "RESPONSE_TRAILER" => {
            (Syntax::RequiredWithLength, header(HeaderSource::ResponseTrailer, given))
        }
        "START_TIME" => (Syntax::Optional, time(TimeSource::Start, given)),
        "START_TIME_LOCAL" => (Syntax::Optional, time(TimeSource::StartLocal, given)),
        "EMIT_TIME" => (Syntax::Optional, time(TimeSource::Emit, given)),
        "EMIT_TIME_LOCAL" => (Syntax::Optional, time(TimeSource::EmitLocal, given)),
        "RESPONSE_CODE_DETAILS" => {
            (Syntax::Optional, Ok(Op::ResponseCodeDetails { spaces: given == "ALLOW_WHITESPACES" }))
        }
        "COMMON_DURATION" => (Syntax::Required, common_duration(given)),
        "ENVIRONMENT" => (
            Syntax::RequiredWithLength,
            Ok(Op::Constant(std::env::var(given).ok().map(String::into_boxed_str))),
        ),
        "REQUESTED_SERVER_NAME" => (Syntax::Optional, server_name(given)),
        "GRPC_STATUS" => (Syntax::Optional, grpc_status(given)),
        "PATH" => (Syntax::OptionalWithLength, path(given)),
        "QUERY_PARAM" => (Syntax::RequiredWithLength, Ok(Op::QueryParam(given.as_bytes().into()))),
        "QUERY_PARAMS" => (Syntax::OptionalWithLength, query_params(given)),
        "DYNAMIC_METADATA" => (Syntax::RequiredWithLength, Ok(dynamic_metadata(given))),
        "CLUSTER_METADATA" | "UPSTREAM_METADATA" => (Syntax::Required, absent(name)),
        "METADATA" => (Syntax::RequiredWithLength, metadata(given)),
        "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => (Syntax::OptionalWithLength, filter_state(name, given)),
        "CEL" | "COALESCE" => return Err(format!("{name} is not served yet")),
        _ if name.contains("_PEER_CERT_V_") => match peer::validity(name, given) {
            Some(op) => (Syntax::Optional, op),
            None => return Err(format!("Not supported field in StreamInfo: {name}")),
        },
        _ => match address(name, given) {
            Some(op @ Op::Address { view: AddressView::WithoutPort(_), .. }) => (Syntax::Optional, Ok(op)),
            Some(op) => (Syntax::Alone, Ok(op)),
            None => return Err(format!("Not supported field in StreamInfo: {name}")),
        },
    })
}

fn absent(name: &str) -> Result<Op, String> {
    Ok(Op::Absent(name.into()))
}

/// The operators that take nothing.
fn plain(name: &str) -> Option<Op> {
    counts(name).or_else(|| durations(name)).or_else(|| names(name)).or_else(|| peer::plain(name))
}

fn counts(name: &str) -> Option<Op> {
    Some(match name {
        "REQUEST_HEADERS_BYTES" => Op::RequestHeadersBytes,
        "RESPONSE_HEADERS_BYTES" => Op::ResponseHeadersBytes,
        "RESPONSE_TRAILERS_BYTES" => Op::ResponseTrailersBytes,
        "BYTES_RECEIVED" => Op::BytesReceived,
        "BYTES_SENT" => Op::BytesSent,
        "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" | "DOWNSTREAM_CX_RTT" => Op::Zero,
        "UPSTREAM_WIRE_BYTES_SENT" => Op::UpstreamWireBytesSent,
        "UPSTREAM_WIRE_BYTES_RECEIVED" => Op::UpstreamWireBytesReceived,
        "UPSTREAM_HEADER_BYTES_SENT" | "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT" => {
            Op::UpstreamHeaderBytesSent
        }
        "UPSTREAM_HEADER_BYTES_RECEIVED" | "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED" => {
            Op::UpstreamHeaderBytesReceived
        }
        "DOWNSTREAM_WIRE_BYTES_SENT" => Op::DownstreamWireBytesSent,
        "DOWNSTREAM_WIRE_BYTES_RECEIVED" => Op::DownstreamWireBytesReceived,
        "DOWNSTREAM_HEADER_BYTES_SENT" | "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT" => {
            Op::DownstreamHeaderBytesSent
        }
        "DOWNSTREAM_HEADER_BYTES_RECEIVED" | "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED" => {
            Op::DownstreamHeaderBytesReceived
        }
        "RESPONSE_CODE" => Op::ResponseCode,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Op::UpstreamRequestAttemptCount,
        "UPSTREAM_CONNECTION_ID" => Op::UpstreamConnectionId,
        "CONNECTION_ID" => Op::ConnectionId,
        "GRPC_STATUS_NUMBER" => Op::GrpcStatus(GrpcStatusForm::Number),
        _ => return None,
    })
}

fn durations(name: &str) -> Option<Op> {
    Some(match name {
        "DURATION" => Op::Duration,
        "REQUEST_DURATION" => Op::RequestDuration,
        "REQUEST_TX_DURATION" => Op::RequestTxDuration,
        "RESPONSE_DURATION" => Op::ResponseDuration,
        "RESPONSE_TX_DURATION" => Op::ResponseTxDuration,
        "UPSTREAM_CONNECTION_POOL_READY_DURATION" => Op::UpstreamConnectionPoolReadyDuration,
        // QUIC and TLS only.
        "ROUNDTRIP_DURATION" | "DOWNSTREAM_HANDSHAKE_DURATION" => Op::Absent(name.into()),
        _ => return None,
    })
}

fn names(name: &str) -> Option<Op> {
    Some(match name {
        "PROTOCOL" => Op::Protocol,
        "UPSTREAM_PROTOCOL" => Op::UpstreamProtocol,
        "RESPONSE_FLAGS" => Op::ResponseFlags,
        "RESPONSE_FLAGS_LONG" => Op::ResponseFlagsLong,
        "CONNECTION_TERMINATION_DETAILS" => Op::ConnectionTerminationDetails,
        "UPSTREAM_HOST" => Op::UpstreamHost,
        "UPSTREAM_HOST_NAME" => Op::UpstreamHostName { port: true },
        "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Op::UpstreamHostName { port: false },
        "UPSTREAM_HOSTS_ATTEMPTED" => Op::Attempted(Attempted::Hosts),
        "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT" => Op::Attempted(Attempted::HostsWithoutPort),
        "UPSTREAM_HOST_NAMES_ATTEMPTED" => Op::Attempted(Attempted::HostNames),
        "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT" => Op::Attempted(Attempted::HostNamesWithoutPort),
        "UPSTREAM_CONNECTION_IDS_ATTEMPTED" => Op::Attempted(Attempted::ConnectionIds),
        "UPSTREAM_CLUSTER" => Op::UpstreamCluster,
        "UPSTREAM_CLUSTER_RAW" => Op::UpstreamClusterRaw,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Op::UpstreamTransportFailureReason,
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Op::DownstreamTransportFailureReason,
        "DOWNSTREAM_LOCAL_CLOSE_REASON" => Op::DownstreamLocalCloseReason,
        "UPSTREAM_LOCAL_CLOSE_REASON" => Op::UpstreamLocalCloseReason,
        "UPSTREAM_DETECTED_CLOSE_TYPE" => Op::UpstreamDetectedCloseType,
        "DOWNSTREAM_DETECTED_CLOSE_TYPE" => Op::DownstreamDetectedCloseType,
        "STREAM_ID" => Op::StreamId,
        "ROUTE_NAME" => Op::RouteName,
        "VIRTUAL_CLUSTER_NAME" => Op::VirtualClusterName,
        "FILTER_CHAIN_NAME" => Op::FilterChainName,
        "LISTENER_NAME" => Op::ListenerName,
        "ACCESS_LOG_TYPE" => Op::AccessLogType,
        "HOSTNAME" => Op::Hostname,
        "LOCAL_REPLY_BODY" => Op::LocalReplyBody,
        "TRACE_ID" => Op::TraceId,
        "SPAN_ID" => Op::SpanId,
        "UNIQUE_ID" => Op::UniqueId,
        "CUSTOM_FLAGS" => Op::Nothing,
        _ => return None,
    })
}

/// `UPSTREAM_LOCAL_ADDRESS`, `..._WITHOUT_PORT`, `..._PORT` and so on. Only `_WITHOUT_PORT` reads
/// parameters; a length it never takes.
fn address(name: &str, given: &str) -> Option<Op> {
    const SIDES: [(&str, AddressSide); 6] = [
        ("UPSTREAM_LOCAL_", AddressSide::UpstreamLocal),
        ("UPSTREAM_REMOTE_", AddressSide::UpstreamRemote),
        ("DOWNSTREAM_LOCAL_", AddressSide::DownstreamLocal),
        ("DOWNSTREAM_REMOTE_", AddressSide::DownstreamRemote),
        ("DOWNSTREAM_DIRECT_LOCAL_", AddressSide::DownstreamDirectLocal),
        ("DOWNSTREAM_DIRECT_REMOTE_", AddressSide::DownstreamDirectRemote),
    ];
    let (rest, side) = SIDES.iter().find_map(|(prefix, side)| Some((name.strip_prefix(prefix)?, *side)))?;
    let view = match rest {
        "ADDRESS" => AddressView::Full,
        "ADDRESS_WITHOUT_PORT" => AddressView::WithoutPort(given.parse().ok()),
        "PORT" => AddressView::Port,
        "ADDRESS_ENDPOINT_ID" => AddressView::EndpointId,
        _ => return None,
    };
    Some(Op::Address { side, view })
}

fn header(source: HeaderSource, given: &str) -> Result<Op, String> {
    let mut names = given.split('?');
    let name = names.next().unwrap_or_default();
    let alternative = names.next();
    if names.next().is_some() {
        return Err(format!("More than 1 alternative header specified in token: {given}"));
    }
    let lower = |name: &str| name.to_ascii_lowercase().into_bytes().into_boxed_slice();
    let valid = |name: &str| name.strip_prefix(':').unwrap_or(name).bytes().all(is_token);
    if !valid(name) || !alternative.is_none_or(valid) {
        return Err("Invalid header configuration. Format string contains invalid characters.".to_owned());
    }
    let alternative = alternative.filter(|name| !name.is_empty()).map(lower);
    Ok(Op::Header { source, name: lower(name), alternative })
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn time(source: TimeSource, given: &str) -> Result<Op, String> {
    let format = match given {
        "" => None,
        _ => Some(TimeFormat::parse(given)?),
    };
    Ok(Op::Time { source, format })
}

fn common_duration(given: &str) -> Result<Op, String> {
    let mut words = given.split(':');
    let (Some(start), Some(end)) = (words.next(), words.next()) else {
        return Err(format!("Invalid common duration configuration: {given}."));
    };
    let unit = match words.next() {
        None | Some("ms") => DurationUnit::Milliseconds,
        Some("us") => DurationUnit::Microseconds,
        Some("ns") => DurationUnit::Nanoseconds,
        Some(other) => return Err(format!("Invalid common duration precision: {other}.")),
    };
    Ok(Op::CommonDuration { start: time_point(start), end: time_point(end), unit })
}

fn time_point(name: &str) -> TimePoint {
    match name {
        "DS_CX_BEG" => TimePoint::DownstreamConnectBegin,
        "DS_CX_END" => TimePoint::DownstreamConnectEnd,
        "DS_RX_BEG" => TimePoint::DownstreamRxBegin,
        "DS_RX_END" => TimePoint::DownstreamRxEnd,
        "US_CX_BEG" => TimePoint::UpstreamConnectBegin,
        "US_CX_END" => TimePoint::UpstreamConnectEnd,
        "US_HS_END" => TimePoint::UpstreamHandshakeEnd,
        "US_TX_BEG" => TimePoint::UpstreamTxBegin,
        "US_TX_END" => TimePoint::UpstreamTxEnd,
        "US_RX_BEG" => TimePoint::UpstreamRxBegin,
        "US_RX_BODY_BEG" => TimePoint::UpstreamRxBodyBegin,
        "US_RX_END" => TimePoint::UpstreamRxEnd,
        "DS_TX_BEG" => TimePoint::DownstreamTxBegin,
        "DS_TX_END" => TimePoint::DownstreamTxEnd,
        other => TimePoint::Custom(other.into()),
    }
}

fn server_name(given: &str) -> Result<Op, String> {
    let source = match given {
        "" | "SNI_ONLY" => ServerNameSource::SniOnly,
        "SNI_FIRST" => ServerNameSource::SniFirst,
        "HOST_FIRST" => ServerNameSource::HostFirst,
        _ => {
            return Err(format!(
                "Invalid REQUESTED_SERVER_NAME option: '{given}', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"
            ));
        }
    };
    Ok(Op::RequestedServerName(source))
}

fn grpc_status(given: &str) -> Result<Op, String> {
    Ok(Op::GrpcStatus(match given {
        "" | "CAMEL_STRING" => GrpcStatusForm::CamelString,
        "SNAKE_STRING" => GrpcStatusForm::SnakeString,
        "NUMBER" => GrpcStatusForm::Number,
        _ => {
            return Err(format!(
                "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: {given}"
            ));
        }
    }))
}

fn path(given: &str) -> Result<Op, String> {
    let mut words = given.split(':');
    let with_query = match words.next().unwrap_or_default() {
        "" | "WQ" => true,
        "NQ" => false,
        other => return Err(format!("Invalid PATH option: '{other}', only 'WQ'/'NQ' are allowed")),
    };
    let source = match words.next().unwrap_or_default() {
        "ORIG" => PathSource::Original,
        "PATH" => PathSource::Path,
        "" | "ORIG_OR_PATH" => PathSource::OriginalOrPath,
        other => {
            return Err(format!(
                "Invalid PATH option: '{other}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"
            ));
        }
    };
    Ok(Op::Path { with_query, source })
}

fn query_params(given: &str) -> Result<Op, String> {
    match given {
        "" | "ORIG" | "DECODED" => Ok(Op::QueryParams),
        _ => Err(format!("Invalid QUERY_PARAMS option: '{given}', only 'ORIG'/'DECODED' are allowed")),
    }
}

fn metadata(given: &str) -> Result<Op, String> {
    const TYPES: [&str; 8] = [
        "DYNAMIC",
        "CLUSTER",
        "ROUTE",
        "UPSTREAM_HOST",
        "LISTENER",
        "VIRTUAL_HOST",
        "LISTENER_FILTER_CHAIN",
        "FILTER_CHAIN",
    ];
    let (kind, rest) = given.split_once(':').unwrap_or((given, ""));
    match kind {
        "DYNAMIC" => Ok(dynamic_metadata(rest)),
        "ROUTE" => Ok(configured_metadata(MetadataOwner::Route, rest)),
        "VIRTUAL_HOST" => Ok(configured_metadata(MetadataOwner::VirtualHost, rest)),
        kind if TYPES.contains(&kind) => absent("METADATA"),
        kind => Err(format!("{kind} is not supported type of metadata")),
    }
}

/// `NAMESPACE:KEY:KEY...`
fn dynamic_metadata(given: &str) -> Op {
    let mut words = given.split(':');
    let namespace = words.next().unwrap_or_default().into();
    Op::DynamicMetadata { namespace, path: words.map(Box::from).collect() }
}

/// As [`dynamic_metadata`].
fn configured_metadata(of: MetadataOwner, given: &str) -> Op {
    let mut words = given.split(':');
    let namespace = words.next().unwrap_or_default().into();
    Op::ConfiguredMetadata { of, namespace, path: words.map(Box::from).collect() }
}

fn filter_state(name: &str, given: &str) -> Result<Op, String> {
    let mut words = given.split(':');
    let key = words.next().unwrap_or_default();
    if key.is_empty() {
        return Err("Invalid filter state configuration, key cannot be empty.".to_owned());
    }
    let view = match words.next() {
        None | Some("TYPED") => StateView::Typed,
        Some("PLAIN") => StateView::Plain,
        Some("FIELD") => match words.next() {
            Some(field) => StateView::Field(field.into()),
            None => {
                return Err(
                    "Invalid filter state serialize type, FIELD should be followed by the field name."
                        .to_owned(),
                );
            }
        },
        Some(_) => {
            return Err("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.".to_owned());
        }
    };
    match name {
        "FILTER_STATE" => Ok(Op::FilterState { key: key.into(), view }),
        _ => absent(name),
    }
}
