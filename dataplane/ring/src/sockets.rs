//! Sockets outside the event loop: listeners, their options, addresses, limits.

use crate::sys::{self, RawAddress};
use crate::{IoError, Keepalive, Socket, SocketAddress, UnixAddress};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST` have the same number.
const ORIGINAL_DESTINATION: libc::c_int = 80;

/// Options of a listening socket (`envoy.config.listener.v3.Listener`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// `tcp_backlog_size`; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
    /// `enable_reuse_port`: `SO_REUSEPORT`, one listening socket a shard.
    pub reuse_port: bool,
    /// `transparent`: `IP_TRANSPARENT`, needs CAP_NET_ADMIN.
    pub transparent: bool,
    /// `freebind`: bind an address that is not local yet.
    pub freebind: bool,
    /// An IPv6 wildcard takes IPv4 connections only when this is false (`ipv4_compat`).
    pub ipv6_only: bool,
    /// Permission bits of a Unix socket path (`Pipe.mode`); `None` leaves the umask's.
    pub unix_mode: Option<u32>,
    /// `TCP_NODELAY`, inherited by accepted connections.
    pub nodelay: bool,
    /// TCP keep-alive, inherited by accepted connections; `None` is off.
    pub keepalive: Option<Keepalive>,
    /// `tcp_fast_open_queue_length`; `None` leaves it off.
    pub fast_open_queue: Option<u32>,
    /// `SO_MARK`, not inherited.
    pub mark: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: libc::SOMAXCONN as u32,
            reuse_port: true,
            transparent: false,
            freebind: false,
            ipv6_only: true,
            unix_mode: None,
            nodelay: true,
            keepalive: None,
            fast_open_queue: None,
            mark: None,
        }
    }
}

/// Opens a listening socket: non-blocking, close-on-exec, `SO_REUSEADDR`. A stale Unix socket path is
/// replaced, any other file in its place is not.
///
/// # Errors
/// AddressInUse, Denied (privileged port, missing capability) or what else the kernel says; nothing leaks.
pub fn listen(address: &SocketAddress, options: &ListenOptions) -> Result<Socket, IoError> {
    let raw = RawAddress::new(address);
    let socket = sys::stream_socket(raw.family())?;
    start_listening(socket, address, &raw, options).inspect_err(|_| sys::close(socket))?;
    Ok(socket)
}

fn start_listening(
    socket: Socket,
    address: &SocketAddress,
    raw: &RawAddress,
    options: &ListenOptions,
) -> Result<(), IoError> {
    match address {
        SocketAddress::Inet(_) => set_inet_options(socket, raw.family(), options)?,
        SocketAddress::Unix(unix) => remove_stale(unix),
    }
    if let Some(mark) = options.mark {
        sys::set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark)?;
    }
    sys::bind(socket, raw)?;
    if let (SocketAddress::Unix(unix), Some(mode)) = (address, options.unix_mode)
        && let Some(path) = unix_path(unix)
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(|e| IoError::from_errno(e.raw_os_error().unwrap_or(libc::EIO)))?;
    }
    let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
    // SAFETY: touches no memory of ours.
    sys::check(unsafe { libc::listen(socket.raw(), backlog) }).map(drop)
}

fn set_inet_options(socket: Socket, family: libc::c_int, options: &ListenOptions) -> Result<(), IoError> {
    sys::set_flag(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    if options.reuse_port {
        sys::set_flag(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    }
    if family == libc::AF_INET6 {
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, i32::from(options.ipv6_only))?;
    }
    sys::set_foreign(socket, family, options.freebind, options.transparent)?;
    if options.nodelay {
        sys::set_flag(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    }
    if let Some(keepalive) = &options.keepalive {
        sys::set_keepalive(socket, keepalive)?;
    }
    if let Some(queue) = options.fast_open_queue {
        sys::set_option(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)?;
    }
    Ok(())
}

fn unix_path(unix: &UnixAddress) -> Option<&Path> {
    let named = unix.abstract_name().is_none() && !unix.name().is_empty();
    named.then(|| Path::new(std::ffi::OsStr::from_bytes(unix.name())))
}

/// Removes the socket file that an earlier process left behind; anything else makes `bind` fail.
fn remove_stale(unix: &UnixAddress) {
    use std::os::unix::fs::FileTypeExt;
    if let Some(path) = unix_path(unix)
        && std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
    {
        let _ = std::fs::remove_file(path);
    }
}

/// The address the socket is bound to.
///
/// # Errors
/// What `getsockname` reports.
pub fn local_address(socket: Socket) -> Result<SocketAddress, IoError> {
    sys::address_of(socket, false)
}

/// The address of the peer.
///
/// # Errors
/// ENOTCONN once the peer has reset the connection.
pub fn peer_address(socket: Socket) -> Result<SocketAddress, IoError> {
    sys::address_of(socket, true)
}

/// Where the connection was going before netfilter redirected it to us (`REDIRECT`, `DNAT`). For `TPROXY`
/// that is the local address itself.
///
/// # Errors
/// ENOENT or ENOPROTOOPT when the connection was not redirected or there is no conntrack.
pub fn original_dst(socket: Socket) -> Result<SocketAddress, IoError> {
    match local_address(socket)? {
        SocketAddress::Inet(SocketAddr::V4(_)) => {
            sys::address_option(socket, libc::SOL_IP, ORIGINAL_DESTINATION)
        }
        // A v4-mapped connection on an IPv6 socket is known to the IPv4 table only.
        SocketAddress::Inet(SocketAddr::V6(v6)) if v6.ip().to_ipv4_mapped().is_some() => {
            sys::address_option(socket, libc::SOL_IP, ORIGINAL_DESTINATION)
        }
        SocketAddress::Inet(SocketAddr::V6(_)) => {
            sys::address_option(socket, libc::SOL_IPV6, ORIGINAL_DESTINATION)
        }
        SocketAddress::Unix(_) => Err(IoError::from_errno(libc::EOPNOTSUPP)),
    }
}

/// Addresses of a back end's sockets, for code that runs on the kernel and on the simulator.
pub trait SocketInfo {
    /// The address the socket is bound to.
    ///
    /// # Errors
    /// The socket is gone.
    fn local_address(&self, socket: Socket) -> Result<SocketAddress, IoError>;

    /// The address of the peer.
    ///
    /// # Errors
    /// The connection is gone.
    fn peer_address(&self, socket: Socket) -> Result<SocketAddress, IoError>;

    /// Where the connection was going before it was redirected.
    ///
    /// # Errors
    /// It was not redirected.
    fn original_dst(&self, socket: Socket) -> Result<SocketAddress, IoError>;
}

/// The kernel's sockets, for every kernel back end.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelSockets;

impl SocketInfo for KernelSockets {
    fn local_address(&self, socket: Socket) -> Result<SocketAddress, IoError> {
        local_address(socket)
    }

    fn peer_address(&self, socket: Socket) -> Result<SocketAddress, IoError> {
        peer_address(socket)
    }

    fn original_dst(&self, socket: Socket) -> Result<SocketAddress, IoError> {
        original_dst(socket)
    }
}

/// Closes a socket that no back end has operations on.
pub fn close(socket: Socket) {
    sys::close(socket);
}

/// Kernel's smoothed round-trip time of a TCP connection, microseconds.
///
/// # Errors
/// What `getsockopt(TCP_INFO)` reports.
pub fn round_trip_micros(socket: Socket) -> Result<u32, IoError> {
    sys::tcp_info(socket).map(|info| info.tcpi_rtt)
}

/// Raises the soft limit of open files to the hard one and returns it.
///
/// # Errors
/// What `getrlimit` or `setrlimit` reports.
pub fn raise_nofile_limit() -> Result<u64, IoError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills a local.
    sys::check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads a local.
    sys::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IoErrorKind;
    use std::io::Read;

    fn inet(text: &str) -> SocketAddress {
        SocketAddress::Inet(text.parse().unwrap())
    }

    #[test]
    fn a_taken_port_is_in_use_unless_shared() {
        let options = ListenOptions { reuse_port: false, ..ListenOptions::default() };
        let first = listen(&inet("127.0.0.1:0"), &options).unwrap();
        let address = local_address(first).unwrap();
        assert_eq!(listen(&address, &options).unwrap_err().kind(), IoErrorKind::AddressInUse);
        close(first);
        let shared = ListenOptions::default();
        let first = listen(&address, &shared).unwrap();
        let second = listen(&address, &shared).unwrap();
        close(first);
        close(second);
    }

    #[test]
    fn unix_paths_are_replaced_and_other_files_are_not() {
        let path = std::env::temp_dir().join(format!("millrace-ring-{}.sock", std::process::id()));
        let address = SocketAddress::Unix(UnixAddress::new(path.as_os_str().as_bytes()).unwrap());
        let options = ListenOptions { unix_mode: Some(0o640), ..ListenOptions::default() };
        let first = listen(&address, &options).unwrap();
        close(first);
        let again = listen(&address, &options).unwrap();
        assert_eq!(local_address(again).unwrap(), address);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        close(again);
        assert_eq!(client.read(&mut [0; 1]).map_err(|e| e.kind()).unwrap_or(0), 0);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(listen(&address, &options).unwrap_err().kind(), IoErrorKind::AddressInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn abstract_names_survive_the_kernel() {
        let name = format!("@millrace-ring-{}", std::process::id());
        let address = SocketAddress::Unix(UnixAddress::new(name.as_bytes()).unwrap());
        let socket = listen(&address, &ListenOptions::default()).unwrap();
        assert_eq!(local_address(socket).unwrap(), address);
        close(socket);
    }

    #[test]
    fn a_direct_connection_has_no_original_destination() {
        let listener = listen(&inet("127.0.0.1:0"), &ListenOptions::default()).unwrap();
        assert!(original_dst(listener).is_err());
        assert!(raise_nofile_limit().unwrap() > 0);
        close(listener);
    }
}
