//! How a connection is opened, and why it could not be.

use std::rc::Rc;

use millrace_config::{Cluster, SocketOption};
use millrace_ring::{ConnectOptions, IoError, IoErrorKind, Keepalive, RawOption, SocketAddress};

/// How a connection of a cluster to this address is opened.
pub(crate) fn connect_options(config: &Cluster, target: &SocketAddress) -> ConnectOptions {
    let ipv6 = matches!(target, SocketAddress::Inet(inet) if inet.is_ipv6());
    let bind = config.bind.as_deref();
    let source = bind.and_then(|bind| bind.source_for(ipv6));
    let raw = source.map(|source| &source.socket_options).or(bind.map(|bind| &bind.socket_options));
    let raw = raw.map(|options| raw_options(options, ipv6)).unwrap_or_default();
    let freebind = bind.is_some_and(|bind| bind.freebind);
    let source = source.map(|source| source.address);
    let seconds = |s: u32| std::time::Duration::from_secs(u64::from(s));
    let keepalive = config.tcp_keepalive.map(|k| Keepalive {
        probes: k.probes,
        time: k.time.map(seconds),
        interval: k.interval.map(seconds),
    });
    ConnectOptions { source, keepalive, freebind, raw, ..ConnectOptions::default() }
}

fn raw_options(options: &[SocketOption], ipv6: bool) -> Vec<RawOption> {
    let applies = |option: &&SocketOption| option.ipv6.is_none_or(|wanted| wanted == ipv6);
    let raw = |option: &SocketOption| RawOption {
        level: option.level,
        name: option.name,
        value: option.value.clone(),
    };
    options.iter().filter(applies).map(raw).collect()
}

/// True when a connection failed before anything was sent: `bind_errors`.
pub(super) fn is_bind_error(config: &Cluster, error: IoError) -> bool {
    let unreached =
        matches!(error.kind(), IoErrorKind::AddressInUse | IoErrorKind::Denied | IoErrorKind::Other);
    unreached && config.bind.as_ref().is_some_and(|bind| !bind.sources.is_empty())
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
