//! How a back end is opened, and what opening it found.

use crate::IoError;
use std::fmt;

/// Sizes of a back end and switches for tests. Everything stands from `open` on; nothing grows later.
#[derive(Clone, Debug)]
pub struct Config {
    /// Receive buffers of the shard, 1..=32768. Memory is touched when a buffer is first used.
    pub buffers: u16,
    /// Size of a receive buffer, bytes; rounded up to a multiple of 64. Measured with 1 MiB bodies, 64 KiB
    /// ones cost a tenth less CPU than 16 KiB ones; small requests do not care.
    pub buffer_bytes: u32,
    /// Submission queue entries (io_uring); a fuller batch takes several system calls.
    pub sq_entries: u32,
    /// Completion queue entries (io_uring).
    pub cq_entries: u32,
    /// Back the buffers with huge pages if the system has any reserved, else advise transparent ones.
    pub hugepages: bool,
    /// Ask for `SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN`; off only in tests.
    pub defer_taskrun: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            buffers: 512,
            buffer_bytes: 16 * 1024,
            sq_entries: 256,
            cq_entries: 4096,
            hugepages: false,
            defer_taskrun: true,
        }
    }
}

/// `--io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring or fail.
    Uring,
    /// epoll.
    Epoll,
}

impl std::str::FromStr for IoChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            other => Err(format!("unknown I/O back end {other:?}: expected auto, uring or epoll")),
        }
    }
}

/// What was opened.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// `uring` or `epoll`.
    pub backend: &'static str,
    /// Kernel features in use, for the log.
    pub features: Vec<&'static str>,
    /// Why `Auto` did not take io_uring.
    pub fallback: Option<OpenError>,
}

impl fmt::Display for OpenReport {
    /// One log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io: {}", self.backend)?;
        if !self.features.is_empty() {
            write!(f, " ({})", self.features.join(", "))?;
        }
        match &self.fallback {
            Some(reason) => write!(f, "; {reason}"),
            None => Ok(()),
        }
    }
}

/// Why a back end could not be opened: the host's doing, not the configuration's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// `io_uring_setup` is forbidden (EPERM): by a seccomp profile, or by `kernel.io_uring_disabled`.
    Forbidden {
        /// True when the sysctl is what forbids it.
        sysctl: bool,
    },
    /// The kernel has no io_uring (ENOSYS).
    Missing,
    /// The kernel is older than 6.1, or lacks this feature.
    TooOld(&'static str),
    /// Another system call failed.
    System(&'static str, IoError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden { sysctl: false } => {
                f.write_str("io_uring is forbidden here (EPERM: seccomp profile of the container)")
            }
            Self::Forbidden { sysctl: true } => {
                f.write_str("io_uring is forbidden here (EPERM: sysctl kernel.io_uring_disabled)")
            }
            Self::Missing => f.write_str("this kernel has no io_uring (ENOSYS)"),
            Self::TooOld(what) => {
                write!(f, "io_uring of this kernel is too old (6.1 or newer needed: {what})")
            }
            Self::System(call, error) => write!(f, "{call}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}
