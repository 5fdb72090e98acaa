//! Operators that print addresses and endpoints.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use millrace_config::format::{AddressSide, AddressView, Attempted, Op};
use millrace_config::{Address, Cidr};

use super::value::{Value, push_decimal};
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
        (AddressView::Full, _) => full(address, out),
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

/// As `Address` displays itself; the usual kind without the machinery of `fmt`.
fn full(address: &Address, out: &mut Vec<u8>) {
    if let Address::Inet(SocketAddr::V4(v4)) = address {
        push_ipv4(*v4.ip(), out);
        out.push(b':');
        return push_decimal(v4.port().into(), out);
    }
    let _ = write!(out, "{address}");
}

fn push_ipv4(ip: Ipv4Addr, out: &mut Vec<u8>) {
    let mut text = [b'.'; 15];
    let mut at = 0;
    for (i, n) in ip.octets().into_iter().enumerate() {
        at += usize::from(i > 0);
        if n >= 100 {
            text[at] = b'0' + n / 100;
            at += 1;
        }
        if n >= 10 {
            text[at] = b'0' + n / 10 % 10;
            at += 1;
        }
        text[at] = b'0' + n % 10;
        at += 1;
    }
    out.extend_from_slice(&text[..at]);
}

fn without_port(address: &Address, out: &mut Vec<u8>) {
    let _ = match address {
        Address::Inet(addr) => match addr.ip() {
            IpAddr::V4(ip) => return push_ipv4(ip, out),
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
            (_, Some(address)) if *port => full(address, out),
            (_, Some(address)) => without_port(address, out),
            (_, None) => return Value::Missing,
        },
        _ => match info.upstream_host {
            Some(address) => full(address, out),
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
            (Attempted::ConnectionIds, _, id) => push_decimal(id.unwrap_or(0), out),
            (Attempted::HostNames | Attempted::HostNamesWithoutPort, Some(name), _) => {
                host_name(name, port, out)
            }
            _ if port => full(&attempt.address, out),
            _ => without_port(&attempt.address, out),
        }
    }
    if out.len() > start { Value::Text } else { Value::Missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_as_they_display_themselves() {
        for n in 0..=255u8 {
            for octets in [[n, 0, 10, 255], [0, n, 99, 100], [9, 10, n, 1], [127, 200, 0, n]] {
                let address = Address::Inet((octets, u16::from(n) * 257).into());
                let mut out = Vec::new();
                full(&address, &mut out);
                assert_eq!(String::from_utf8_lossy(&out), address.to_string());
            }
        }
        let v6 = Address::Inet(([1, 0, 0, 0, 0, 0, 0, 2], 80).into());
        let mut out = Vec::new();
        full(&v6, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), v6.to_string());
    }
}
