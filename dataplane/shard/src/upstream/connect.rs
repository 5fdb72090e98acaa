//! How a connection is opened, and why it could not be.

use std::rc::Rc;

use millrace_config::{Address, Cluster};
use millrace_ring::{ConnectOptions, IoError, IoErrorKind, Keepalive};

pub(crate) fn connect_options(config: &Cluster) -> ConnectOptions {
    let source = match &config.bind_source {
        Some(Address::Inet(address)) => Some(*address),
        Some(Address::Pipe { .. }) | None => None,
    };
    let seconds = |s: u32| std::time::Duration::from_secs(u64::from(s));
    let keepalive = config.tcp_keepalive.map(|k| Keepalive {
        probes: k.probes,
        time: k.time.map(seconds),
        interval: k.interval.map(seconds),
    });
    ConnectOptions { source, keepalive, ..ConnectOptions::default() }
}

/// `%UPSTREAM_TRANSPORT_FAILURE_REASON%` as Envoy words it.
pub(super) fn connect_error_text(error: IoError) -> Option<Rc<str>> {
    let words = match error.kind() {
        IoErrorKind::Refused => "delayed connect error: Connection refused",
        IoErrorKind::Unreachable => "delayed connect error: No route to host",
        IoErrorKind::Reset => "delayed connect error: Connection reset by peer",
        _ => return None,
    };
    Some(words.into())
}
