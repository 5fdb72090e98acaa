//! `core.v3.HealthCheck`: the one active health check of a cluster.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    AccessLogSink, GrpcHealthCheck, HealthCheck, HealthCheckIntervals, HealthCheckKind, HttpHealthCheck,
    ProxyProtocolVersion, TcpHealthCheck, UpstreamProtocol,
};
use millrace_proto::pb::envoy::config::cluster::v3 as cluster;
use millrace_proto::pb::envoy::config::core::v3::health_check::{self as pb, HealthChecker};
use millrace_proto::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use millrace_proto::pb::envoy::config::core::v3::{self as core, RequestMethod};
use millrace_proto::pb::envoy::extensions::health_check::event_sinks::file::v3::HealthCheckEventFileSink;
use millrace_proto::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use millrace_proto::pb::google::protobuf as wkt;
use millrace_proto::{Message as _, Path};

use crate::context::Context;
use crate::error::Rejection;
use crate::metadata::pairs;
use crate::{extension, headers, matcher, value};

const NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);
const RESPONSE_BYTES: u64 = 1024;
/// Durations are whole milliseconds in Envoy, and none is shorter than one.
const SHORTEST: Duration = Duration::from_millis(1);

/// The health check of a cluster, if it has one. More than one is an error, as in Envoy.
pub(super) fn health_check(
    cluster: &cluster::Cluster,
    protocol: UpstreamProtocol,
    path: &Path,
    cx: &mut Context,
) -> Result<Option<Arc<HealthCheck>>, Rejection> {
    let path = path.join("health_checks");
    let from = match cluster.health_checks.as_slice() {
        [] => return Ok(None),
        [one] => one,
        _ => return Err(Rejection::new(&path, "Multiple health checks not supported")),
    };
    let path = path.at(0);
    let kind = match &from.health_checker {
        Some(HealthChecker::HttpHealthCheck(http)) => {
            HealthCheckKind::Http(Box::new(self::http(http, &path.join("http_health_check"))?))
        }
        Some(HealthChecker::TcpHealthCheck(tcp)) => {
            HealthCheckKind::Tcp(self::tcp(tcp, &path.join("tcp_health_check"))?)
        }
        Some(HealthChecker::GrpcHealthCheck(grpc)) => {
            let path = path.join("grpc_health_check");
            if protocol == UpstreamProtocol::Http1 {
                let why = format!("{} cluster must support HTTP/2 for gRPC healthchecking", cluster.name);
                return Err(Rejection::new(&path, why));
            }
            HealthCheckKind::Grpc(Box::new(self::grpc(grpc, &path)?))
        }
        Some(HealthChecker::CustomHealthCheck(custom)) => {
            let Some(pb::custom_health_check::ConfigType::TypedConfig(any)) = &custom.config_type else {
                return Err(extension::not_served("health checker", &custom.name, None, &path));
            };
            return Err(extension::not_served("health checker", &custom.name, Some(any), &path));
        }
        None => return Err(Rejection::new(&path.join("health_checker"), "is required")),
    };
    let common = cluster.common_lb_config.as_ref();
    let ignore_new_hosts = common.is_some_and(|common| common.ignore_new_hosts_until_first_hc);
    let alpn = |options: &pb::TlsOptions| {
        options.alpn_protocols.iter().map(|name| Arc::from(name.as_bytes())).collect()
    };
    let mut hasher = DefaultHasher::new();
    (from.encode_to_vec(), ignore_new_hosts).hash(&mut hasher);
    // Checks begin anew where connections are others.
    if let Some(socket) = &cluster.transport_socket {
        socket.encode_to_vec().hash(&mut hasher);
    }
    for by in &cluster.transport_socket_matches {
        by.encode_to_vec().hash(&mut hasher);
    }
    Ok(Some(Arc::new(HealthCheck {
        fingerprint: hasher.finish(),
        timeout: from.timeout.as_ref().map_or(SHORTEST, value::duration).max(SHORTEST),
        intervals: intervals(from),
        unhealthy_threshold: value::number(from.unhealthy_threshold.as_ref(), 0),
        healthy_threshold: value::number(from.healthy_threshold.as_ref(), 0),
        reuse_connection: value::flag(from.reuse_connection.as_ref(), true),
        always_log_failures: from.always_log_health_check_failures,
        always_log_success: from.always_log_health_check_success,
        event_logs: event_logs(from, &path, cx)?,
        alpn: from.tls_options.as_ref().map(alpn),
        transport_match: from.transport_socket_match_criteria.as_ref().map(|by| pairs(by).into()),
        kind,
        ignore_health_on_removal: cluster.ignore_health_on_host_removal,
        ignore_new_hosts,
    })))
}

fn intervals(from: &core::HealthCheck) -> HealthCheckIntervals {
    let time = |field: &Option<wkt::Duration>, default: Duration| {
        field.as_ref().map_or(default, value::duration).max(SHORTEST)
    };
    let jitter = |field: &Option<wkt::Duration>| field.as_ref().map_or(Duration::ZERO, value::duration);
    let interval = time(&from.interval, SHORTEST);
    let no_traffic = time(&from.no_traffic_interval, NO_TRAFFIC_INTERVAL);
    let unhealthy = time(&from.unhealthy_interval, interval);
    HealthCheckIntervals {
        interval,
        no_traffic,
        no_traffic_healthy: time(&from.no_traffic_healthy_interval, no_traffic),
        unhealthy,
        unhealthy_edge: time(&from.unhealthy_edge_interval, unhealthy),
        healthy_edge: time(&from.healthy_edge_interval, interval),
        initial_jitter: jitter(&from.initial_jitter),
        jitter: jitter(&from.interval_jitter),
        jitter_percent: from.interval_jitter_percent,
    }
}

fn event_logs(
    from: &core::HealthCheck,
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<AccessLogSink>, Rejection> {
    let file = |name: &str| AccessLogSink::File(name.into());
    let old = Some(&from.event_log_path).filter(|name| !name.is_empty());
    let mut sinks: Vec<AccessLogSink> = old.map(|name| file(name)).into_iter().collect();
    for (i, logger) in from.event_logger.iter().enumerate() {
        let path = path.join("event_logger").at(i).join("typed_config");
        let Some(any) = &logger.typed_config else {
            return Err(extension::not_served("health check event sink", &logger.name, None, &path));
        };
        if extension::type_of(any)
            == "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink"
        {
            let sink: HealthCheckEventFileSink = extension::open(any, &path)?;
            sinks.push(file(&sink.event_log_path));
            continue;
        }
        let refusal = extension::not_served("health check event sink", &logger.name, Some(any), &path);
        if refusal.kind == crate::error::RejectionKind::Invalid {
            return Err(refusal);
        }
        cx.report(&path, format!("{}; its events are not written", refusal.reason));
    }
    Ok(sinks)
}

fn http(from: &pb::HttpHealthCheck, path: &Path) -> Result<HttpHealthCheck, Rejection> {
    let method = match from.method() {
        RequestMethod::MethodUnspecified => RequestMethod::Get,
        other => other,
    };
    let body_allowed = matches!(
        method,
        RequestMethod::Post | RequestMethod::Put | RequestMethod::Patch | RequestMethod::Options
    );
    let method = method.as_str_name();
    if from.send.is_some() && !body_allowed {
        let why = format!(
            "HTTP health check cannot specify a request payload with method '{method}'. Only methods that support a \
             request body (POST, PUT, PATCH, OPTIONS) can be used with payload."
        );
        return Err(Rejection::new(&path.join("send"), why));
    }
    let receive = payloads(&from.receive, &path.join("receive"))?;
    let size = from.response_buffer_size.as_ref().map_or(RESPONSE_BYTES, |size| size.value);
    let expected: usize = receive.iter().map(Vec::len).sum();
    if size != 0 && expected as u64 > size {
        let why = format!(
            "The expected response length '{expected}' is over than http health response buffer size '{size}'"
        );
        return Err(Rejection::new(&path.join("receive"), why));
    }
    let name = from.service_name_matcher.as_ref();
    let names = &from.request_headers_to_remove;
    Ok(HttpHealthCheck {
        host: value::text(&from.host),
        path: value::text(&from.path),
        method,
        send: from.send.as_ref().map_or(Ok(Vec::new()), |send| payload(send, &path.join("send")))?,
        receive,
        response_bytes: (size != 0).then_some(size),
        headers: headers::mutations(&from.request_headers_to_add, names, "request", path)?,
        expected: match statuses(&from.expected_statuses, "expected", path)? {
            none if none.is_empty() => vec![(200, 201)],
            some => some,
        },
        retriable: statuses(&from.retriable_statuses, "retriable", path)?,
        http2: match from.codec_client_type() {
            CodecClientType::Http1 => false,
            CodecClientType::Http2 => true,
            CodecClientType::Http3 => {
                let path = path.join("codec_client_type");
                return Err(Rejection::not_served(&path, "HTTP/3 is not served by this build"));
            }
        },
        service_name: name
            .map(|name| matcher::string(name, &path.join("service_name_matcher")))
            .transpose()?,
    })
}

fn tcp(from: &pb::TcpHealthCheck, path: &Path) -> Result<TcpHealthCheck, Rejection> {
    // Envoy sends a text only.
    let text = from.send.as_ref().filter(|send| matches!(send.payload, Some(pb::payload::Payload::Text(_))));
    let version = |config: &core::ProxyProtocolConfig| match config.version() {
        Version::V1 => ProxyProtocolVersion::V1,
        Version::V2 => ProxyProtocolVersion::V2,
    };
    Ok(TcpHealthCheck {
        proxy_protocol: from.proxy_protocol_config.as_ref().map(version),
        send: text.map_or(Ok(Vec::new()), |send| payload(send, &path.join("send")))?,
        receive: payloads(&from.receive, &path.join("receive"))?,
    })
}

fn grpc(from: &pb::GrpcHealthCheck, path: &Path) -> Result<GrpcHealthCheck, Rejection> {
    Ok(GrpcHealthCheck {
        service: value::text(&from.service_name),
        authority: value::text(&from.authority),
        metadata: headers::mutations(&from.initial_metadata, &[], "request", path)?,
    })
}

/// Half-open ranges within [100, 600).
fn statuses(ranges: &[Int64Range], kind: &str, path: &Path) -> Result<Vec<(u16, u16)>, Rejection> {
    let path = path.join(format!("{kind}_statuses"));
    let mut built = Vec::with_capacity(ranges.len());
    for (i, &Int64Range { start, end }) in ranges.iter().enumerate() {
        let rule = match () {
            () if start >= end => format!("start < end, but found start={start} and end={end}"),
            () if start < 100 => format!("start >= 100, but found start={start}"),
            () if end > 600 => format!("end <= 600, but found end={end}"),
            () => {
                built.push((start as u16, end as u16));
                continue;
            }
        };
        let why = format!("Invalid http {kind} status range: expecting {rule}");
        return Err(Rejection::new(&path.at(i), why));
    }
    Ok(built)
}

fn payloads(from: &[pb::Payload], path: &Path) -> Result<Vec<Vec<u8>>, Rejection> {
    let all: Result<Vec<_>, _> = from.iter().enumerate().map(|(i, one)| payload(one, &path.at(i))).collect();
    Ok(all?.into_iter().filter(|bytes| !bytes.is_empty()).collect())
}

fn payload(from: &pb::Payload, path: &Path) -> Result<Vec<u8>, Rejection> {
    match &from.payload {
        Some(pb::payload::Payload::Binary(bytes)) => Ok(bytes.clone()),
        Some(pb::payload::Payload::Text(text)) => hex(text)
            .ok_or_else(|| Rejection::new(&path.join("text"), format!("invalid hex string '{text}'"))),
        None => Err(Rejection::new(&path.join("payload"), "is required")),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::cluster_of;
    use super::*;

    const TIMES: &str = "timeout: 1s, interval: 2s, unhealthy_threshold: 3, healthy_threshold: 4";

    fn check(fields: &str) -> Result<Arc<HealthCheck>, Rejection> {
        let cluster = cluster_of(&format!("health_checks: [{{{TIMES}, {fields}}}]"))?;
        Ok(cluster.health_check.unwrap())
    }

    fn refusal(fields: &str) -> String {
        check(fields).unwrap_err().to_string()
    }

    #[test]
    fn intervals_follow_from_each_other() {
        assert!(cluster_of("type: STATIC").unwrap().health_check.is_none());
        let plain = check("tcp_health_check: {}").unwrap();
        let seconds = |s| Duration::from_secs(s);
        let expected = HealthCheckIntervals {
            interval: seconds(2),
            no_traffic: seconds(60),
            no_traffic_healthy: seconds(60),
            unhealthy: seconds(2),
            unhealthy_edge: seconds(2),
            healthy_edge: seconds(2),
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
        };
        assert_eq!(plain.intervals, expected);
        assert!(plain.reuse_connection && plain.alpn.is_none() && plain.event_logs.is_empty());
        assert_eq!((plain.timeout, plain.unhealthy_threshold, plain.healthy_threshold), (seconds(1), 3, 4));
        let set = check("tcp_health_check: {}, unhealthy_interval: 5s, no_traffic_interval: 7s").unwrap();
        assert_eq!(
            (set.intervals.unhealthy_edge, set.intervals.no_traffic_healthy),
            (seconds(5), seconds(7))
        );
        assert_ne!(set.fingerprint, plain.fingerprint);
        assert_eq!(check("tcp_health_check: {}").unwrap().fingerprint, plain.fingerprint);
    }

    #[test]
    fn payloads_are_hexadecimal_or_binary() {
        let tcp =
            check("tcp_health_check: {send: {text: '0A0b'}, receive: [{text: 'ff'}, {binary: 'aGk='}]}");
        let HealthCheckKind::Tcp(tcp) = &tcp.unwrap().kind else { panic!("not TCP") };
        assert_eq!((&tcp.send[..], &tcp.receive[..]), (&[10, 11][..], &[vec![255], b"hi".to_vec()][..]));
        for text in ["0", "zz"] {
            let why = refusal(&format!("tcp_health_check: {{send: {{text: '{text}'}}}}"));
            assert!(why.ends_with(&format!("send.text: invalid hex string '{text}'")), "{why}");
        }
    }

    #[test]
    fn http_has_envoys_rules() {
        let http =
            check("http_health_check: {path: /a, expected_statuses: [{start: 200, end: 300}]}").unwrap();
        let HealthCheckKind::Http(http) = &http.kind else { panic!("not HTTP") };
        assert_eq!(
            (http.method, &http.expected[..], http.response_bytes),
            ("GET", &[(200, 300)][..], Some(1024))
        );
        let cases = [
            ("path: /, send: {text: aa}", "cannot specify a request payload with method 'GET'"),
            (
                "path: /, expected_statuses: [{start: 9, end: 300}]",
                "expecting start >= 100, but found start=9",
            ),
            ("path: /, retriable_statuses: [{start: 300, end: 300}]", "Invalid http retriable status range"),
            (
                "path: /, expected_statuses: [{start: 300, end: 601}]",
                "expecting end <= 600, but found end=601",
            ),
            ("path: /, response_buffer_size: 1, receive: [{text: aabb}]", "The expected response length '2'"),
            ("path: /, codec_client_type: HTTP3", "HTTP/3 is not served"),
        ];
        for (fields, expected) in cases {
            let why = refusal(&format!("http_health_check: {{{fields}}}"));
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(
            refusal("grpc_health_check: {}").contains("cluster must support HTTP/2 for gRPC healthchecking")
        );
        let two = format!(
            "health_checks: [{{{TIMES}, tcp_health_check: {{}}}}, {{{TIMES}, tcp_health_check: {{}}}}]"
        );
        assert!(cluster_of(&two).unwrap_err().to_string().contains("Multiple health checks not supported"));
    }
}
