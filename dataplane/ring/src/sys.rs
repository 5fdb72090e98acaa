//! Thin, checked wrappers of the system calls that the back ends and `sockets` share.

use crate::{ConnectOptions, IoError, Keepalive, RawOption, Socket, SocketAddress, UnixAddress};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket address as the kernel reads it.
#[derive(Clone, Copy)]
pub(crate) struct RawAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

/// Turns the `-1` of a system call into its errno.
pub(crate) fn check(result: libc::c_int) -> Result<libc::c_int, IoError> {
    if result < 0 { Err(IoError::last()) } else { Ok(result) }
}

impl RawAddress {
    /// An address for the kernel to fill in.
    pub(crate) fn empty() -> Self {
        // SAFETY: all-zero bytes are a valid sockaddr_storage (family AF_UNSPEC).
        let storage = unsafe { MaybeUninit::zeroed().assume_init() };
        Self { storage, length: mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    pub(crate) fn new(address: &SocketAddress) -> Self {
        match address {
            SocketAddress::Inet(SocketAddr::V4(v4)) => Self::from_part(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddress::Inet(SocketAddr::V6(v6)) => Self::from_part(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo().to_be(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
            SocketAddress::Unix(unix) => Self::unix(unix),
        }
    }

    fn unix(unix: &UnixAddress) -> Self {
        let mut part =
            libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
        for (to, from) in part.sun_path.iter_mut().zip(unix.name()) {
            *to = *from as libc::c_char;
        }
        let mut length = mem::offset_of!(libc::sockaddr_un, sun_path) + unix.name().len();
        match unix.abstract_name() {
            Some(_) => part.sun_path[0] = 0,
            // A path is terminated by a zero; an unnamed address is the family alone.
            None => length += usize::from(!unix.name().is_empty()),
        }
        Self { length: length as libc::socklen_t, ..Self::from_part(part) }
    }

    fn from_part<T: Copy>(part: T) -> Self {
        const { assert!(mem::size_of::<T>() <= mem::size_of::<libc::sockaddr_storage>()) };
        const { assert!(mem::align_of::<T>() <= mem::align_of::<libc::sockaddr_storage>()) };
        let mut raw = Self::empty();
        // SAFETY: sockaddr_storage is large and aligned enough for every address type (asserted above).
        unsafe { (&raw mut raw.storage).cast::<T>().write(part) };
        raw.length = mem::size_of::<T>() as libc::socklen_t;
        raw
    }

    fn part<T: Copy>(&self) -> T {
        const { assert!(mem::size_of::<T>() <= mem::size_of::<libc::sockaddr_storage>()) };
        // SAFETY: the storage is initialised as a whole, larger than T, and T (a sockaddr type) is plain data.
        unsafe { (&raw const self.storage).cast::<T>().read() }
    }

    pub(crate) fn family(&self) -> libc::c_int {
        libc::c_int::from(self.storage.ss_family)
    }

    pub(crate) fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(crate) fn length(&self) -> libc::socklen_t {
        self.length
    }

    /// For the kernel to fill in.
    pub(crate) fn parts_mut(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    pub(crate) fn get(&self) -> Result<SocketAddress, IoError> {
        match self.family() {
            libc::AF_INET => {
                let part: libc::sockaddr_in = self.part();
                let ip = Ipv4Addr::from(part.sin_addr.s_addr.to_ne_bytes());
                let port = u16::from_be(part.sin_port);
                Ok(SocketAddress::Inet(SocketAddr::V4(SocketAddrV4::new(ip, port))))
            }
            libc::AF_INET6 => {
                let part: libc::sockaddr_in6 = self.part();
                let ip = Ipv6Addr::from(part.sin6_addr.s6_addr);
                let port = u16::from_be(part.sin6_port);
                let v6 = SocketAddrV6::new(ip, port, u32::from_be(part.sin6_flowinfo), part.sin6_scope_id);
                Ok(SocketAddress::Inet(SocketAddr::V6(v6)))
            }
            libc::AF_UNIX => {
                let part: libc::sockaddr_un = self.part();
                let length =
                    (self.length as usize).saturating_sub(mem::offset_of!(libc::sockaddr_un, sun_path));
                let mut name: Vec<u8> = part.sun_path[..length.min(108)].iter().map(|c| *c as u8).collect();
                match name.first() {
                    Some(0) => name[0] = b'@',
                    _ => name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len())),
                }
                UnixAddress::new(&name).map(SocketAddress::Unix).ok_or(IoError::from_errno(libc::EINVAL))
            }
            _ => Err(IoError::from_errno(libc::EAFNOSUPPORT)),
        }
    }
}

/// `getsockname` or `getpeername`.
pub(crate) fn address_of(socket: Socket, peer: bool) -> Result<SocketAddress, IoError> {
    let mut raw = RawAddress::empty();
    let storage = (&raw mut raw.storage).cast();
    // SAFETY: storage and length are those of a local that is large enough for every family.
    check(unsafe {
        if peer {
            libc::getpeername(socket.raw(), storage, &raw mut raw.length)
        } else {
            libc::getsockname(socket.raw(), storage, &raw mut raw.length)
        }
    })?;
    raw.get()
}

/// An address-valued socket option (`SO_ORIGINAL_DST`).
pub(crate) fn address_option(
    socket: Socket,
    level: libc::c_int,
    name: libc::c_int,
) -> Result<SocketAddress, IoError> {
    let mut raw = RawAddress::empty();
    // SAFETY: as in `address_of`.
    check(unsafe {
        libc::getsockopt(socket.raw(), level, name, (&raw mut raw.storage).cast(), &raw mut raw.length)
    })?;
    raw.get()
}

/// Sets a plain-data socket option.
pub(crate) fn set_option<T: Copy>(
    socket: Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> Result<(), IoError> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of the argument.
    check(unsafe { libc::setsockopt(socket.raw(), level, name, (&raw const value).cast(), length) }).map(drop)
}

fn set_raw(socket: Socket, option: &RawOption) -> Result<(), IoError> {
    let length = libc::socklen_t::try_from(option.value.len()).unwrap_or(libc::socklen_t::MAX);
    let value = option.value.as_ptr().cast();
    // SAFETY: the pointer and the length are those of a living slice, which the kernel only reads.
    check(unsafe { libc::setsockopt(socket.raw(), option.level, option.name, value, length) }).map(drop)
}

/// Sets an integer option to 1.
pub(crate) fn set_flag(socket: Socket, level: libc::c_int, name: libc::c_int) -> Result<(), IoError> {
    set_option(socket, level, name, 1_i32)
}

/// Reads an integer option.
pub(crate) fn int_option(socket: Socket, level: libc::c_int, name: libc::c_int) -> Result<i32, IoError> {
    let (mut value, mut length) = (0_i32, mem::size_of::<i32>() as libc::socklen_t);
    // SAFETY: value and length are locals of the right size.
    check(unsafe { libc::getsockopt(socket.raw(), level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// A non-blocking, close-on-exec stream socket.
pub(crate) fn stream_socket(family: libc::c_int) -> Result<Socket, IoError> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: creates a descriptor, touches no memory of ours.
    check(unsafe { libc::socket(family, kind, 0) }).map(Socket::from_raw)
}

/// A non-blocking, close-on-exec pipe of about `bytes`; read end first.
pub(crate) fn pipe(bytes: usize) -> Result<(OwnedFd, OwnedFd), IoError> {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two descriptors into a local array of two.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
    // SAFETY: both descriptors are fresh and nobody else owns them.
    let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // A user whose pipes have used up what they may hold keeps the kernel's default size.
    // SAFETY: touches no memory of ours.
    unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, bytes as libc::c_int) };
    Ok((read, write))
}

/// Moves up to `most` bytes between a socket and a pipe, without waiting. Zero: the end of the source. A sink
/// that was shut is EPIPE; the signal that comes with it is ignored by every Rust program (std's start-up).
pub(crate) fn splice(from: i32, to: i32, most: usize) -> Result<usize, IoError> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    let (none_in, none_out) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: no offsets are passed; the kernel moves references to its own pages and touches none of ours.
    let count = unsafe { libc::splice(from, none_in, to, none_out, most, flags) };
    usize::try_from(count).map_err(|_| IoError::last())
}

/// Closes a descriptor. The kernel frees it whatever `close` returns.
pub(crate) fn close(socket: Socket) {
    // SAFETY: the caller gives up the descriptor; a wrong one is EBADF.
    unsafe { libc::close(socket.raw()) };
}

/// Makes the close that follows send a RST.
pub(crate) fn linger_zero(socket: Socket) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // Fails only for a socket that is gone, when there is nothing to reset.
    let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, linger);
}

/// Closes the write half; a socket that is gone already has none.
pub(crate) fn shutdown_write(socket: Socket) {
    // SAFETY: touches no memory of ours.
    unsafe { libc::shutdown(socket.raw(), libc::SHUT_WR) };
}

pub(crate) fn bind(socket: Socket, address: &RawAddress) -> Result<(), IoError> {
    // SAFETY: pointer and length describe a living address.
    check(unsafe { libc::bind(socket.raw(), address.pointer(), address.length()) }).map(drop)
}

pub(crate) fn set_keepalive(socket: Socket, keepalive: &Keepalive) -> Result<(), IoError> {
    let seconds = |d: std::time::Duration| i32::try_from(d.as_secs()).unwrap_or(i32::MAX).max(1);
    set_flag(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE)?;
    if let Some(probes) = keepalive.probes {
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, i32::try_from(probes).unwrap_or(i32::MAX))?;
    }
    if let Some(time) = keepalive.time {
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(time))?;
    }
    if let Some(interval) = keepalive.interval {
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(interval))?;
    }
    Ok(())
}

/// A socket ready to connect to `address`.
pub(crate) fn connecting_socket(address: &RawAddress, options: &ConnectOptions) -> Result<Socket, IoError> {
    let socket = stream_socket(address.family())?;
    apply_connect_options(socket, address.family(), options).inspect_err(|_| close(socket))?;
    Ok(socket)
}

fn apply_connect_options(
    socket: Socket,
    family: libc::c_int,
    options: &ConnectOptions,
) -> Result<(), IoError> {
    if let Some(mark) = options.mark {
        set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark)?;
    }
    options.raw.iter().try_for_each(|option| set_raw(socket, option))?;
    if family == libc::AF_UNIX {
        return Ok(());
    }
    if options.nodelay {
        set_flag(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    }
    if let Some(keepalive) = &options.keepalive {
        set_keepalive(socket, keepalive)?;
    }
    set_foreign(socket, family, options.freebind, options.transparent)?;
    if let Some(source) = options.source {
        if source.port() == 0 {
            set_flag(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
        }
        bind(socket, &RawAddress::new(&source.into()))?;
    }
    Ok(())
}

/// Freebind and transparent for the family of the socket.
pub(crate) fn set_foreign(
    socket: Socket,
    family: libc::c_int,
    freebind: bool,
    transparent: bool,
) -> Result<(), IoError> {
    let v6 = family == libc::AF_INET6;
    if freebind {
        match v6 {
            true => set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND)?,
            false => set_flag(socket, libc::IPPROTO_IP, libc::IP_FREEBIND)?,
        }
    }
    if transparent {
        match v6 {
            true => set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)?,
            false => set_flag(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT)?,
        }
    }
    Ok(())
}

/// `TCP_INFO`; older kernels fill less of it, the rest stays zero.
pub(crate) fn tcp_info(socket: Socket) -> Result<libc::tcp_info, IoError> {
    // SAFETY: all-zero bytes are a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut length = mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: info and length are locals of the right size.
    check(unsafe {
        libc::getsockopt(
            socket.raw(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    })?;
    Ok(info)
}
