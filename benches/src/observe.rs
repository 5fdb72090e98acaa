//! Counting, and the line of a finished request.

use std::hint::black_box;
use std::sync::Arc;

use millrace_base::{Time, WallTime};
use millrace_config::format::{DEFAULT_ACCESS_LOG, Template};
use millrace_config::{AccessLogFormat, Address, JsonValue};
use millrace_http::{RequestHead, ResponseHead, Version};
use millrace_observe::access_log::{Bytes, StreamInfo, Times, render_line};
use millrace_observe::stats::{Registry, ScopeKind, cluster};

use crate::heads::{self, MESH};
use crate::{Bench, Routine, repeat};

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new("observe/count", "one counter and one histogram of a cluster", count),
    Bench::new("observe/log_text", "a line of the default access-log format", text),
    Bench::new("observe/log_json", "a JSON line of 16 fields", json),
];

fn count() -> Routine {
    let registry = Registry::new();
    let mut stats = registry.attach_shard("worker_0");
    let scope = registry.scope(ScopeKind::Cluster, "service");
    let mut value = 0;
    repeat(move || {
        value = if value < 99 { value + 1 } else { 10 };
        stats.inc(black_box(scope), cluster::UPSTREAM_RQ_TOTAL);
        stats.record(black_box(scope), cluster::UPSTREAM_RQ_TIME, value);
    })
}

fn text() -> Routine {
    log(AccessLogFormat::Text(Template::parse(DEFAULT_ACCESS_LOG).expect("the default")))
}

fn json() -> Routine {
    let fields = [
        ("authority", "%REQ(:AUTHORITY)%"),
        ("bytes_received", "%BYTES_RECEIVED%"),
        ("bytes_sent", "%BYTES_SENT%"),
        ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        ("duration", "%DURATION%"),
        ("method", "%REQ(:METHOD)%"),
        ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
        ("protocol", "%PROTOCOL%"),
        ("request_id", "%REQ(X-REQUEST-ID)%"),
        ("response_code", "%RESPONSE_CODE%"),
        ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
        ("response_flags", "%RESPONSE_FLAGS%"),
        ("start_time", "%START_TIME%"),
        ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
        ("upstream_host", "%UPSTREAM_HOST%"),
        ("user_agent", "%REQ(USER-AGENT)%"),
    ];
    let value = |text| JsonValue::Template(Template::parse(text).expect("a valid template"));
    let fields = fields.map(|(key, text)| (Arc::from(key), value(text))).to_vec();
    log(AccessLogFormat::Json { fields, omit_empty: false })
}

/// What the shard knows of a stream at its end.
struct Finished {
    request: RequestHead,
    response: ResponseHead,
    client: Address,
    local: Address,
    endpoint: Address,
}

impl Finished {
    fn new() -> Self {
        let mut response = ResponseHead::new();
        response.status = 200;
        response.headers.append(b"x-envoy-upstream-service-time", b"3");
        Self {
            request: heads::parsed(MESH),
            response,
            client: Address::Inet(([10, 20, 30, 40], 41234).into()),
            local: Address::Inet(([10, 0, 0, 1], 8080).into()),
            endpoint: Address::Inet(([10, 0, 1, 17], 9000).into()),
        }
    }

    fn info(&self) -> StreamInfo<'_> {
        let start = 5_000_000_000;
        StreamInfo {
            request: Some(&self.request),
            response: Some(&self.response),
            protocol: Some(Version::Http11),
            upstream_protocol: Some(Version::Http11),
            response_code: Some(200),
            response_code_details: Some("via_upstream"),
            times: Times {
                start_wall: WallTime(1_795_341_600_123_000_000),
                start: Time(start),
                downstream_rx_end: Some(Time(start)),
                upstream_rx_begin: Some(Time(start + 3_000_000)),
                end: Some(Time(start + 4_000_000)),
                ..Times::default()
            },
            bytes: Bytes { received: 0, sent: 1024, ..Bytes::default() },
            downstream_remote: Some(&self.client),
            downstream_direct_remote: Some(&self.client),
            downstream_local: Some(&self.local),
            upstream_remote: Some(&self.endpoint),
            upstream_host: Some(&self.endpoint),
            upstream_cluster: Some("orders"),
            ..StreamInfo::default()
        }
    }
}

fn log(format: AccessLogFormat) -> Routine {
    let (stream, mut scratch, mut out) = (Finished::new(), Vec::new(), Vec::new());
    repeat(move || {
        out.clear();
        render_line(&format, black_box(&stream.info()), &mut scratch, &mut out);
        black_box(&out);
    })
}
