//! Operators that print addresses and endpoints.

use std::io::Write;
use std::net::IpAddr;

use millrace_config::format::{AddressSide, AddressView, Attempted, Op};
use millrace_config::{Address, Cidr};

use super::value::{Value, push_number};
use crate::access_log::{Attempt, StreamInfo};

pub(super) fn render(
    side: AddressSide,
    view: AddressView,
    info: &StreamInfo<'_>,
    out: &mut Vec<u8>,
) -> Value {
    let address = match side {
        AddressSide::UpstreamLocal => info.upstream_local,
        AddressSide::UpstreamRemote => info.upstream_remote,
        AddressSide::DownstreamLocal => info.downstream_local,
        AddressSide::DownstreamRemote => info.downstream_remote,
        AddressSide::DownstreamDirectLocal => info.downstream_direct_local.or(info.downstream_local),
        AddressSide::DownstreamDirectRemote => info.downstream_direct_remote.or(info.downstream_remote),
    };
    let Some(address) = address else { return Value::Missing };
    match (view, address) {
        (AddressView::Full, _) => {
            let _ = write!(out, "{address}");
        }
        (AddressView::WithoutPort(None), _) => without_port(address, out),
        (AddressView::WithoutPort(Some(bits)), Address::Inet(addr)) => {
            let Some(cidr) = Cidr::new(addr.ip(), bits) else { return Value::Missing };
            let _ = write!(out, "{}/{bits}", cidr.address());
        }
        (AddressView::Port, Address::Inet(addr)) => return Value::Number(i64::from(addr.port())),
        // Only internal addresses have an id; for all others Envoy prints an empty text.
        (AddressView::EndpointId, _) => {}
        (AddressView::WithoutPort(Some(_)) | AddressView::Port, Address::Pipe { .. }) => {
            return Value::Missing;
        }
    }
    Value::Text
}

fn without_port(address: &Address, out: &mut Vec<u8>) {
    let _ = match address {
        Address::Inet(addr) => match addr.ip() {
            IpAddr::V4(ip) => write!(out, "{ip}"),
            IpAddr::V6(ip) => write!(out, "{ip}"),
        },
        Address::Pipe { path, .. } => write!(out, "{path}"),
    };
}

/// `UPSTREAM_HOST` and its kin.
pub(super) fn host(op: &Op, info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    match op {
        Op::Attempted(what) => return attempted(*what, info.attempted, out),
        Op::UpstreamHostName { port } => match (info.upstream_host_name, info.upstream_host) {
            (Some(name), _) if !name.is_empty() => host_name(name, *port, out),
            (_, Some(address)) if *port => {
                let _ = write!(out, "{address}");
            }
            (_, Some(address)) => without_port(address, out),
            (_, None) => return Value::Missing,
        },
        _ => match info.upstream_host {
            Some(address) => {
                let _ = write!(out, "{address}");
            }
            None => return Value::Missing,
        },
    }
    Value::Text
}

fn host_name(name: &str, port: bool, out: &mut Vec<u8>) {
    let bare = name.rsplit_once(':').filter(|(_, p)| !port && p.bytes().all(|b| b.is_ascii_digit()));
    out.extend_from_slice(bare.map_or(name, |(host, _)| host).as_bytes());
}

fn attempted(what: Attempted, attempts: &[Attempt], out: &mut Vec<u8>) -> Value {
    let start = out.len();
    for attempt in attempts {
        if what == Attempted::ConnectionIds && attempt.connection_id.is_none() {
            continue;
        }
        if out.len() > start {
            out.push(b',');
        }
        let port = matches!(what, Attempted::Hosts | Attempted::HostNames);
        let name = attempt.name.as_deref().filter(|name| !name.is_empty());
        match (what, name, attempt.connection_id) {
            (Attempted::ConnectionIds, _, id) => push_number(id.unwrap_or(0), out),
            (Attempted::HostNames | Attempted::HostNamesWithoutPort, Some(name), _) => {
                host_name(name, port, out)
            }
            _ if port => {
                let _ = write!(out, "{}", attempt.address);
            }
            _ => without_port(&attempt.address, out),
        }
    }
    if out.len() > start { Value::Text } else { Value::Missing }
}
