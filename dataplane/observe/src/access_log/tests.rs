//! Access logs: rendering, filters, and the way of a line to its file.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::{ResponseFlag, ResponseFlags, Time};
use millrace_config::format::Template;
use millrace_config::{
    AccessLog, AccessLogFilter, AccessLogFormat, AccessLogSink, Comparison, Fraction, HeaderMatcher,
    HeaderMatcherKind, JsonValue, StringMatcher,
};
use millrace_http::RequestHead;

use super::*;
use crate::stats::{Registry, ScopeKind, filesystem};

fn template(text: &str) -> JsonValue {
    JsonValue::Template(Template::parse(text).unwrap())
}

fn json(fields: &[(&str, JsonValue)], omit_empty: bool, info: &StreamInfo<'_>) -> String {
    let fields: Vec<_> = fields.iter().map(|(k, v)| (Arc::from(*k), v.clone())).collect();
    let (mut scratch, mut out) = (Vec::new(), Vec::new());
    render_line(&AccessLogFormat::Json { fields, omit_empty }, info, &mut scratch, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_lines_keep_types_and_escape() {
    let mut head = RequestHead::new();
    head.headers.append(b"x-utf", b"caf\xc3\xa9\xff");
    head.headers.append(b"x-q", b"a\"b\\c\td");
    let info = StreamInfo { request: Some(&head), response_code: Some(200), ..StreamInfo::default() };
    let fields = [
        ("code", template("%RESPONSE_CODE%")),
        ("mixed", template("c=%RESPONSE_CODE% %REQ(none)%")),
        ("flags", template("%RESPONSE_FLAGS%")),
        ("missing", template("%REQ(none)%")),
        ("environment", template("%ENVIRONMENT(MILLRACE_NO_SUCH_VARIABLE)%")),
        ("utf", template("%REQ(x-utf)%")),
        ("q", template("%REQ(x-q)%")),
        ("text", template("plain \"x\"")),
        ("n", JsonValue::Number(1.0)),
        ("list", JsonValue::List(vec![JsonValue::Bool(true), template("%REQ(none)%"), JsonValue::Null])),
        (
            "o",
            JsonValue::Object(vec![
                (Arc::from("none"), template("%REQ(none)%")),
                (Arc::from("d"), template("%DURATION%")),
            ]),
        ),
    ];
    assert_eq!(
        json(&fields, false, &info),
        "{\"code\":200,\"mixed\":\"c=200 -\",\"flags\":\"-\",\"missing\":null,\"environment\":\"-\",\
         \"utf\":\"caf\\u00c3\\u00a9\\u00ff\",\"q\":\"a\\\"b\\\\c\\td\",\"text\":\"plain \\\"x\\\"\",\"n\":1,\
         \"list\":[true,null,null],\"o\":{\"none\":null,\"d\":null}}\n"
    );
    assert_eq!(
        json(&fields, true, &info),
        "{\"code\":200,\"mixed\":\"c=200 \",\"flags\":\"-\",\"environment\":\"-\",\
         \"utf\":\"caf\\u00c3\\u00a9\\u00ff\",\"q\":\"a\\\"b\\\\c\\td\",\"text\":\"plain \\\"x\\\"\",\"n\":1,\
         \"list\":[true]}\n"
    );
}

#[test]
fn filters_decide_as_configured() {
    let mut head = RequestHead::new();
    head.set_path(b"/a");
    head.headers.append(b"x", b"1");
    head.headers.append(b"x", b"2");
    let mut flags = ResponseFlags::default();
    flags.set(ResponseFlag::NoRouteFound);
    let info = StreamInfo {
        request: Some(&head),
        response_code: Some(404),
        flags,
        times: Times { start: Time(0), end: Some(Time(5_000_000)), ..Times::default() },
        stream_id: Some("00000063-0000-4000-8000-000000000000"),
        ..StreamInfo::default()
    };
    let header = |name: &str, kind, invert| {
        AccessLogFilter::Header(HeaderMatcher {
            name: name.as_bytes().into(),
            kind,
            invert,
            missing_as_empty: false,
        })
    };
    let exact = |v: &str| {
        HeaderMatcherKind::String(StringMatcher::Exact { value: v.as_bytes().into(), ignore_case: false })
    };
    let half = Fraction { numerator: 50, denominator: 100 };
    let status = |c| AccessLogFilter::StatusCode(c);
    for (filter, expected) in [
        (status(Comparison::GreaterOrEqual(400)), true),
        (status(Comparison::NotEqual(404)), false),
        (AccessLogFilter::Duration(Comparison::Equal(5)), true),
        (AccessLogFilter::NotHealthCheck, true),
        (AccessLogFilter::Traceable, false),
        (AccessLogFilter::ResponseFlag(vec![]), true),
        (AccessLogFilter::ResponseFlag(vec![ResponseFlag::NoClusterFound]), false),
        (AccessLogFilter::Runtime(half, false), false),
        (AccessLogFilter::Runtime(half, true), true),
        (header("x", exact("1,2"), false), true),
        (header(":path", exact("/a"), true), false),
        (header("none", exact(""), true), false),
        (header("none", HeaderMatcherKind::Present(false), false), true),
        (AccessLogFilter::And(vec![AccessLogFilter::NotHealthCheck, AccessLogFilter::Traceable]), false),
        (AccessLogFilter::Or(vec![AccessLogFilter::NotHealthCheck, AccessLogFilter::Traceable]), true),
    ] {
        assert_eq!(wanted(&filter, &info, 0), expected, "{filter:?}");
    }
}

fn log(path: &str) -> AccessLog {
    let format = AccessLogFormat::Text(Template::parse("%RESPONSE_CODE%\n").unwrap());
    AccessLog { sink: AccessLogSink::File(Arc::from(path)), format, filter: None }
}

#[test]
fn lines_travel_to_the_file_and_survive_a_rotation() {
    let path = std::env::temp_dir().join(format!("millrace-observe-{}.log", std::process::id()));
    let rotated = path.with_extension("1");
    let log = log(path.to_str().unwrap());
    let registry = Registry::new();
    let mut stats = registry.attach_shard("main_thread");
    let scope = registry.scope(ScopeKind::Filesystem, "");
    let queue = LogQueue::new(4);
    let mut writer = LogWriter::new(Arc::clone(&queue), scope);
    let mut buffers = LogBuffers::new(queue, Duration::from_secs(1));
    let info = |code| StreamInfo { response_code: Some(code), ..StreamInfo::default() };
    writer.open(&log.sink).unwrap();
    assert!(buffers.log(&log, &info(200), 0, Time(10)));
    assert!(buffers.log(&log, &info(201), 0, Time(20)));
    assert_eq!(buffers.deadline(), Some(Time(1_000_000_010)));
    assert!(!buffers.flush_due(Time(500)));
    assert!(buffers.flush_due(Time(1_000_000_010)));
    assert_eq!(buffers.deadline(), None);
    assert_eq!(writer.run(&mut stats), 1);
    std::fs::rename(&path, &rotated).unwrap();
    writer.reopen(&mut stats);
    buffers.log(&log, &info(202), 0, Time(30));
    assert!(buffers.flush_all());
    assert_eq!(writer.run(&mut stats), 1);
    assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "200\n201\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "202\n");
    assert_eq!(registry.counter(scope, filesystem::WRITE_BUFFERED), 3);
    assert_eq!(registry.counter(scope, filesystem::WRITE_COMPLETED), 2);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&rotated).unwrap();
}

#[test]
fn a_full_queue_drops_and_counts() {
    let queue = LogQueue::new(1);
    let mut buffers = LogBuffers::new(Arc::clone(&queue), Duration::ZERO);
    let log = log("/nonexistent/directory/x");
    for _ in 0..3 {
        buffers.log(&log, &StreamInfo::default(), 0, Time(0));
        buffers.flush_due(Time(0));
    }
    let registry = Registry::new();
    let mut stats = registry.attach_shard("main_thread");
    let scope = registry.scope(ScopeKind::Filesystem, "");
    let mut writer = LogWriter::new(queue, scope);
    assert!(writer.open(&log.sink).is_err());
    assert_eq!(writer.run(&mut stats), 1);
    assert_eq!(registry.counter(scope, filesystem::WRITE_DROPPED), 2);
    assert_eq!(registry.counter(scope, filesystem::WRITE_FAILED), 1);
}

#[test]
fn a_large_buffer_goes_at_once() {
    let queue = LogQueue::new(8);
    let mut buffers = LogBuffers::new(Arc::clone(&queue), Duration::from_secs(10));
    let log = log("x");
    for _ in 0..LOG_BUFFER_BYTES / 2 {
        buffers.log(&log, &StreamInfo::default(), 0, Time(0));
    }
    assert!(queue.has_work());
    assert_eq!(buffers.deadline(), None);
}
