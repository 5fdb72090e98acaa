//! Facts about this process and host.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use millrace_admin::Memory;

/// The host's name; empty when it cannot be told.
pub fn hostname() -> Arc<str> {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned().into()
}

/// The first non-loopback address of the host, which stands in for a loopback peer. Connecting a UDP socket
/// sends nothing: it only makes the kernel choose a source address.
pub fn host_address(v6: bool) -> Option<IpAddr> {
    let (any, outside) = if v6 { ("[::]:0", "[2001:db8::1]:9") } else { ("0.0.0.0:0", "192.0.2.1:9") };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(outside).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback())
}

/// Memory from `/proc/self/status`. The allocator's own view is not kept: resident anonymous memory stands
/// for what is allocated.
pub fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    let bytes = |name: &str| field(name).unwrap_or(0) * 1024;
    Memory {
        allocated: bytes("RssAnon"),
        heap_size: bytes("VmData"),
        total_physical_bytes: bytes("VmRSS"),
        ..Memory::default()
    }
}

/// Ends the process without waiting for what nobody waits for (a blocked log disk, the runtime's threads).
pub fn exit_now(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
