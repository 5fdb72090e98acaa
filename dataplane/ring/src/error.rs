//! What the kernel said went wrong, as a number and as a class.

use std::fmt;

/// An errno of a socket operation. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoError(i32);

/// What an [`IoError`] means to the code that has to react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoErrorKind {
    /// Nobody listens there (ECONNREFUSED, or ENOENT for a Unix path). The peer's fault; another endpoint may work.
    Refused,
    /// The peer reset the connection (ECONNRESET, ECONNABORTED).
    Reset,
    /// The kernel gave up waiting for the peer (ETIMEDOUT).
    TimedOut,
    /// No route to the peer (EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN).
    Unreachable,
    /// This process or host has no file descriptor left (EMFILE, ENFILE). Retry later.
    OutOfFiles,
    /// The kernel has no memory for it (ENOBUFS, ENOMEM). Retry later.
    NoBuffers,
    /// The operation was given up on our own request (ECANCELED).
    Canceled,
    /// Written after the write half was closed by either side (EPIPE).
    Pipe,
    /// The local address or every local port is in use (EADDRINUSE, EADDRNOTAVAIL).
    AddressInUse,
    /// The process may not do that (EPERM, EACCES).
    Denied,
    /// Anything else.
    Other,
}

impl IoError {
    /// ECANCELED.
    pub const CANCELED: Self = Self(libc::ECANCELED);
    /// ETIMEDOUT.
    pub const TIMED_OUT: Self = Self(libc::ETIMEDOUT);
    /// ECONNREFUSED.
    pub const REFUSED: Self = Self(libc::ECONNREFUSED);
    /// ECONNRESET.
    pub const RESET: Self = Self(libc::ECONNRESET);

    /// The error with this errno; EIO for 0, which is none.
    pub fn from_errno(errno: i32) -> Self {
        Self(if errno == 0 { libc::EIO } else { errno.abs() })
    }

    /// The calling thread's `errno`.
    pub(crate) fn last() -> Self {
        Self::from_errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// The errno.
    pub fn errno(self) -> i32 {
        self.0
    }

    /// The class of the error.
    pub fn kind(self) -> IoErrorKind {
        match self.0 {
            libc::ECONNREFUSED | libc::ENOENT => IoErrorKind::Refused,
            libc::ECONNRESET | libc::ECONNABORTED => IoErrorKind::Reset,
            libc::ETIMEDOUT => IoErrorKind::TimedOut,
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN => {
                IoErrorKind::Unreachable
            }
            libc::EMFILE | libc::ENFILE => IoErrorKind::OutOfFiles,
            libc::ENOBUFS | libc::ENOMEM => IoErrorKind::NoBuffers,
            libc::ECANCELED => IoErrorKind::Canceled,
            libc::EPIPE => IoErrorKind::Pipe,
            libc::EADDRINUSE | libc::EADDRNOTAVAIL => IoErrorKind::AddressInUse,
            libc::EPERM | libc::EACCES => IoErrorKind::Denied,
            _ => IoErrorKind::Other,
        }
    }
}

impl fmt::Display for IoError {
    /// The C library's text, e.g. `Connection refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The standard library prints `<text> (os error <n>)`; Envoy prints the text alone.
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or_default())
    }
}

impl fmt::Debug for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoError({}: {self})", self.0)
    }
}

impl std::error::Error for IoError {}

impl From<IoError> for std::io::Error {
    fn from(error: IoError) -> Self {
        Self::from_raw_os_error(error.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classified_and_printed_as_the_c_library_does() {
        let refused = IoError::from_errno(-libc::ECONNREFUSED);
        assert_eq!(
            (refused.kind(), refused.to_string()),
            (IoErrorKind::Refused, "Connection refused".into())
        );
        assert_eq!(IoError::from_errno(0).errno(), libc::EIO);
        assert_eq!(IoError::from_errno(libc::ENFILE).kind(), IoErrorKind::OutOfFiles);
        assert_eq!(IoError::from_errno(libc::EADDRNOTAVAIL).kind(), IoErrorKind::AddressInUse);
    }
}
