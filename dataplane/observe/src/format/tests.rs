//! What Envoy 1.40 printed for the same request, operator by operator.

use std::sync::Arc;

use millrace_base::{ResponseFlag, ResponseFlags, Time, WallTime};
use millrace_config::Address;
use millrace_config::format::{DEFAULT_ACCESS_LOG, Template};
use millrace_http::{HeaderMap, RequestHead, ResponseHead, Version};

use super::*;
use crate::access_log::{AccessLogType, Attempt, Bytes, CloseType, Times};

fn address(text: &str) -> Address {
    Address::Inet(text.parse().unwrap())
}

fn show(format: &str, info: &StreamInfo<'_>) -> String {
    let mut out = Vec::new();
    render(&Template::parse(format).unwrap(), info, Missing::Dash, &mut out);
    String::from_utf8(out).unwrap()
}

fn request() -> RequestHead {
    let mut head = RequestHead::new();
    head.set_method(b"GET");
    head.set_path(b"/new/code/200?a=1%20b&c=d");
    head.set_authority(b"127.0.0.1:29922");
    head.set_scheme(b"http");
    head.headers.append(b"user-agent", b"curl/7.88.1");
    head.headers.append(b"x-envoy-original-path", b"/code/200?a=1%20b&c=d");
    head.headers.append(b"x-dup", b"a\\b");
    head.headers.append(b"x-dup", b"two");
    head
}

fn response() -> ResponseHead {
    let mut head = ResponseHead::new();
    head.status = 200;
    head.headers.append(b"content-type", b"text/plain");
    head
}

fn times() -> Times {
    let ms = |n: u64| Some(Time(1_000_000_000 + n * 1_000_000));
    Times {
        start_wall: WallTime(1_795_403_123_008_236_000),
        start: Time(1_000_000_000),
        downstream_rx_end: Some(Time(1_000_058_000)),
        upstream_connect_begin: ms(0),
        upstream_connect_end: Some(Time(1_000_039_664)),
        upstream_tx_end: ms(0),
        upstream_rx_begin: ms(4),
        upstream_pool_ready: ms(0),
        downstream_tx_end: ms(4),
        end: ms(4),
        emit: ms(5),
        ..Times::default()
    }
}

#[test]
fn an_http_request_reads_as_in_envoy() {
    let (request, response) = (request(), response());
    let (local, remote) = (address("127.0.0.1:29922"), address("127.0.0.1:53876"));
    let (up_local, up_remote) = (address("127.0.0.1:48136"), address("127.0.0.1:29910"));
    let attempt =
        Attempt { address: up_remote.clone(), name: Some(Arc::from("host1:99")), connection_id: Some(2) };
    let info = StreamInfo {
        log_type: AccessLogType::DownstreamEnd,
        request: Some(&request),
        response: Some(&response),
        protocol: Some(Version::Http11),
        upstream_protocol: Some(Version::Http11),
        response_code: Some(200),
        response_code_details: Some("via upstream"),
        times: times(),
        bytes: Bytes { sent: 6, upstream_wire_sent: 292, downstream_header_received: 83, ..Bytes::default() },
        downstream_remote: Some(&remote),
        downstream_local: Some(&local),
        upstream_local: Some(&up_local),
        upstream_remote: Some(&up_remote),
        upstream_host: Some(&up_remote),
        upstream_host_name: Some("host1:99"),
        upstream_cluster: Some("c1alt"),
        upstream_cluster_raw: Some("c1"),
        upstream_close: Some(CloseType::Normal),
        upstream_attempts: 1,
        attempted: std::slice::from_ref(&attempt),
        upstream_connection_id: Some(2),
        connection_id: Some(1),
        route_name: Some("r1"),
        virtual_cluster_name: Some("vc"),
        filter_chain_name: Some("fc1"),
        listener_name: Some("l0"),
        hostname: "vm",
        ..StreamInfo::default()
    };
    for (format, expected) in [
        ("%START_TIME% %START_TIME_LOCAL%", "2026-11-23T03:05:23.008Z 2026-11-23T03:05:23.008+0000"),
        ("%START_TIME(%s.%3f)% %EMIT_TIME%", "1795403123.008 2026-11-23T03:05:23.013Z"),
        ("%BYTES_RECEIVED% %BYTES_SENT% %PACKETS_RETRANSMITTED%", "0 6 0"),
        ("%UPSTREAM_WIRE_BYTES_SENT% %DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED%", "292 83"),
        ("%PROTOCOL% %UPSTREAM_PROTOCOL%", "HTTP/1.1 HTTP/1.1"),
        ("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%", "200 via_upstream"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "via upstream"),
        ("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", "- -"),
        ("%CONNECTION_TERMINATION_DETAILS% %DURATION%", "- 4"),
        ("%REQUEST_DURATION% %REQUEST_TX_DURATION%", "0 0"),
        ("%RESPONSE_DURATION% %RESPONSE_TX_DURATION% %ROUNDTRIP_DURATION%", "4 0 -"),
        ("%UPSTREAM_CONNECTION_POOL_READY_DURATION%", "0"),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)% %COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%", "4 58"),
        ("%COMMON_DURATION(US_CX_BEG:US_CX_END:ns)% %COMMON_DURATION(DS_CX_BEG:DS_CX_END:ns)%", "39664 -"),
        (
            "%UPSTREAM_HOST% %UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%",
            "127.0.0.1:29910 host1:99 host1",
        ),
        ("%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%", "127.0.0.1:29910 127.0.0.1"),
        ("%UPSTREAM_HOST_NAMES_ATTEMPTED% %UPSTREAM_CONNECTION_IDS_ATTEMPTED%", "host1:99 2"),
        ("%UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%", "c1alt c1"),
        (
            "%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%",
            "127.0.0.1:48136 127.0.0.1 48136",
        ),
        ("%UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID%|%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)%", "|127.0.0.0/8"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_PORT%", "127.0.0.1:53876 53876"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_CONNECTION_ID% %CONNECTION_ID% %STREAM_ID%", "1 2 1 -"),
        ("%UPSTREAM_DETECTED_CLOSE_TYPE% %DOWNSTREAM_DETECTED_CLOSE_TYPE%", "Normal Normal"),
        ("%ROUTE_NAME% %VIRTUAL_CLUSTER_NAME% %FILTER_CHAIN_NAME% %LISTENER_NAME%", "r1 vc fc1 l0"),
        ("%ACCESS_LOG_TYPE% %HOSTNAME% %CUSTOM_FLAGS%|%LOCAL_REPLY_BODY%|", "DownstreamEnd vm ||"),
        ("%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(HOST_FIRST)%", "- 127.0.0.1:29922"),
        ("%GRPC_STATUS% %TRACE_ID% %SPAN_ID%", "- - -"),
        (
            "%PATH% %PATH(NQ:PATH)% %PATH(NQ:ORIG)% %PATH(WQ:ORIG_OR_PATH):3%",
            "/code/200?a=1%20b&c=d /new/code/200 /code/200 /co",
        ),
        ("%QUERY_PARAM(a)% %QUERY_PARAM(zz)% %QUERY_PARAMS%", "1 b - a=1%20b&c=d"),
        ("%REQ(:METHOD)% %REQ(:path):4% %REQ(X-A?User-Agent)% %REQ(X-A)%", "GET /new curl/7.88.1 -"),
        ("%RESP(:status)% %RESPONSE_HEADER(content-type)% %TRAILER(a)%", "200 text/plain -"),
        ("%REQ(X-Dup)% %REQ(:scheme)% %REQ(Host)%", "a\\b http 127.0.0.1:29922"),
        ("%DYNAMIC_METADATA(a:b)% %DOWNSTREAM_TLS_VERSION% %FILTER_STATE(a:PLAIN)%", "- - -"),
        ("%ENVIRONMENT(MILLRACE_NO_SUCH_VARIABLE)%|100%%", "-|100%"),
    ] {
        assert_eq!(show(format, &info), expected, "{format}");
    }
    assert_eq!(
        show(DEFAULT_ACCESS_LOG, &info),
        "[2026-11-23T03:05:23.008Z] \"GET /code/200?a=1%20b&c=d HTTP/1.1\" 200 - 0 6 4 - \"-\" \"curl/7.88.1\" \
         \"-\" \"127.0.0.1:29922\" \"127.0.0.1:29910\"\n"
    );
}

#[test]
fn a_tcp_connection_reads_as_in_envoy() {
    let local = address("[::1]:29923");
    let mut flags = ResponseFlags::default();
    flags.set(ResponseFlag::UpstreamConnectionFailure);
    flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
    let info = StreamInfo {
        log_type: AccessLogType::TcpConnectionEnd,
        times: times(),
        bytes: Bytes { received: 80, sent: 157, ..Bytes::default() },
        downstream_local: Some(&local),
        upstream_transport_failure: Some("delayed connect error: Connection refused"),
        flags,
        ..StreamInfo::default()
    };
    for (format, expected) in [
        ("%BYTES_RECEIVED% %BYTES_SENT% %PROTOCOL% %RESPONSE_CODE%", "80 157 - 0"),
        (
            "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
            "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
        ),
        ("%COMMON_DURATION(DS_CX_BEG:DS_CX_END:ns)% %COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)%", "4000000 -"),
        ("%UPSTREAM_HOST% %UPSTREAM_CONNECTION_ID% %REQ(:PATH)% %UPSTREAM_DETECTED_CLOSE_TYPE%", "- 0 - -"),
        ("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "[::1]:29923 ::1"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "delayed_connect_error:_Connection_refused"),
        ("%REQUEST_HEADERS_BYTES% %ACCESS_LOG_TYPE% %HOSTNAME%", "0 TcpConnectionEnd -"),
    ] {
        assert_eq!(show(format, &info), expected, "{format}");
    }
}

#[test]
fn headers_get_nothing_where_logs_get_a_dash() {
    let info = StreamInfo::default();
    let template = Template::parse("%REQ(x)%%PROTOCOL%").unwrap();
    let mut out = Vec::new();
    render(&template, &info, Missing::Empty, &mut out);
    assert_eq!(out, b"");
    let template = Template { omit_empty: true, ..Template::parse("%REQ(x)%|").unwrap() };
    render(&template, &info, Missing::Dash, &mut out);
    assert_eq!(out, b"|");
}

#[test]
fn grpc_codes_and_unique_ids() {
    let (mut request, mut response) = (request(), response());
    request.headers.append(b"content-type", b"application/grpc+proto");
    let none = StreamInfo { request: Some(&request), response_code: Some(503), ..StreamInfo::default() };
    assert_eq!(show("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", &none), "Unavailable 14");
    response.headers.append(b"grpc-status", b"7");
    let info = StreamInfo { response: Some(&response), unique: u128::MAX, ..none };
    assert_eq!(show("%GRPC_STATUS(SNAKE_STRING)%", &info), "PERMISSION_DENIED");
    for (status, shown) in [("99", "99 99"), ("abc", "-1 -1"), ("05", "NotFound 5"), ("", "Unavailable 14")] {
        let mut trailers = HeaderMap::new();
        trailers.append(b"grpc-status", status.as_bytes());
        let info = StreamInfo { response_trailers: Some(&trailers), response: None, ..info };
        assert_eq!(show("%GRPC_STATUS% %GRPC_STATUS(NUMBER)%", &info), shown);
    }
    assert_eq!(show("%UNIQUE_ID%", &info), "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

#[test]
fn values_are_bounded() {
    let body = vec![b'x'; VALUE_BYTES_MAX + 5];
    let info = StreamInfo { local_reply_body: Some(&body), ..StreamInfo::default() };
    assert_eq!(show("%LOCAL_REPLY_BODY%", &info).len(), VALUE_BYTES_MAX);
}
