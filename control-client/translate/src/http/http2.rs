//! `core.v3.Http2ProtocolOptions`, of listeners and of clusters.

use std::collections::BTreeMap;

use millrace_config::{Http2Keepalive, Http2Options};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as core;

use crate::error::Rejection;
use crate::value;

const HEADER_TABLE_SIZE: u32 = 1;
const ENABLE_PUSH: u32 = 2;
const MAX_CONCURRENT_STREAMS: u32 = 3;
const INITIAL_WINDOW_SIZE: u32 = 4;
const ENABLE_CONNECT_PROTOCOL: u32 = 8;

/// Percent of `interval` by which Envoy delays pings at most.
const JITTER: f64 = 15.0;

/// What is not set is as in `defaults`.
pub(crate) fn options(
    options: Option<&core::Http2ProtocolOptions>,
    defaults: Http2Options,
    path: &Path,
) -> Result<Http2Options, Rejection> {
    let Some(options) = options else {
        return Ok(defaults);
    };
    custom_settings(options, path)?;
    let or = |number: &Option<_>, default: u32| value::number(number.as_ref(), default);
    Ok(Http2Options {
        max_concurrent_streams: or(&options.max_concurrent_streams, defaults.max_concurrent_streams),
        initial_stream_window: or(&options.initial_stream_window_size, defaults.initial_stream_window),
        initial_connection_window: or(
            &options.initial_connection_window_size,
            defaults.initial_connection_window,
        ),
        hpack_table_size: or(&options.hpack_table_size, defaults.hpack_table_size),
        allow_connect: options.allow_connect,
        max_outbound_frames: or(&options.max_outbound_frames, defaults.max_outbound_frames),
        max_outbound_control_frames: or(
            &options.max_outbound_control_frames,
            defaults.max_outbound_control_frames,
        ),
        max_consecutive_empty_frames: or(
            &options.max_consecutive_inbound_frames_with_empty_payload,
            defaults.max_consecutive_empty_frames,
        ),
        max_priority_frames_per_stream: or(
            &options.max_inbound_priority_frames_per_stream,
            defaults.max_priority_frames_per_stream,
        ),
        max_window_updates_per_data: or(
            &options.max_inbound_window_update_frames_per_data_frame_sent,
            defaults.max_window_updates_per_data,
        ),
        keepalive: options.connection_keepalive.as_ref().and_then(keepalive),
    })
}

/// `None` when no ping would ever be sent.
fn keepalive(settings: &core::KeepaliveSettings) -> Option<Http2Keepalive> {
    let interval = value::limit(settings.interval.as_ref());
    let idle_interval = value::limit(settings.connection_idle_interval.as_ref());
    interval.or(idle_interval)?;
    Some(Http2Keepalive {
        interval,
        timeout: settings.timeout.as_ref().map(value::duration)?,
        jitter_percent: settings.interval_jitter.as_ref().map_or(JITTER, |percent| percent.value),
        idle_interval,
    })
}

/// The rules of Envoy for settings that have no field of their own, so that what it refuses is refused here; they
/// are not sent, which the table of fields reports.
fn custom_settings(options: &core::Http2ProtocolOptions, path: &Path) -> Result<(), Rejection> {
    let path = path.join("custom_settings_parameters");
    let mut values = BTreeMap::new();
    let mut inconsistent = Vec::new();
    for (i, parameter) in options.custom_settings_parameters.iter().enumerate() {
        let identifier = value::number(parameter.identifier.as_ref(), 0);
        let setting = value::number(parameter.value.as_ref(), 0);
        if *values.entry(identifier).or_insert(setting) != setting {
            inconsistent.push(format!("{identifier:#x}"));
        }
        let why = match identifier {
            ENABLE_PUSH if setting == 1 => {
                "server push is not supported by Envoy and can not be enabled via a SETTINGS parameter."
            }
            ENABLE_CONNECT_PROTOCOL => {
                "the \"allow_connect\" SETTINGS parameter must only be configured through the named field"
            }
            _ => continue,
        };
        return Err(Rejection::new(&path.at(i), why));
    }
    if !inconsistent.is_empty() {
        let why = format!(
            "inconsistent HTTP/2 custom SETTINGS parameter(s) detected; identifiers = {{{}}}",
            inconsistent.join(",")
        );
        return Err(Rejection::new(&path, why));
    }
    let named = [
        (HEADER_TABLE_SIZE, "hpack_table_size", options.hpack_table_size.is_some()),
        (MAX_CONCURRENT_STREAMS, "max_concurrent_streams", options.max_concurrent_streams.is_some()),
        (INITIAL_WINDOW_SIZE, "initial_stream_window_size", options.initial_stream_window_size.is_some()),
    ];
    let twice = named.iter().filter(|(identifier, _, set)| *set && values.contains_key(identifier));
    let twice: Vec<_> = twice.map(|(_, name, _)| *name).collect();
    if !twice.is_empty() {
        let why = format!(
            "the {{{}}} HTTP/2 SETTINGS parameter(s) can not be configured through both named and custom \
             parameters",
            twice.join(",")
        );
        return Err(Rejection::new(&path, why));
    }
    Ok(())
}
