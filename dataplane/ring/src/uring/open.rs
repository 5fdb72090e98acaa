//! Opening a ring: the flags that pay, and the reasons why there may be none.

use super::{BUFFER_GROUP, Uring, lend::Lending, scratch::Scratch};
use crate::relay::Pipes;
use crate::{BufferPool, Config, IoError, OpenError, Waker};
use io_uring::IoUring;
use millrace_base::Slab;
use std::collections::VecDeque;

impl Uring {
    /// Opens a ring that only the calling thread may use.
    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        let ring = open_ring(config)?;
        let params = ring.params();
        let features = [
            (params.is_feature_nodrop(), "NODROP"),
            (params.is_feature_submit_stable(), "SUBMIT_STABLE"),
            (params.is_feature_ext_arg(), "EXT_ARG"),
            (params.is_feature_skip_cqe_on_success(), "CQE_SKIP"),
        ];
        if let Some((_, missing)) = features.iter().find(|(present, _)| !present) {
            return Err(OpenError::TooOld(missing));
        }
        let pool = BufferPool::new(config).map_err(|e| OpenError::System("mmap of buffers", e))?;
        let lending = Lending::new(pool).map_err(|e| OpenError::System("mmap of buffer ring", e))?;
        let waker = Waker::new().map_err(|e| OpenError::System("eventfd", e))?;
        let (address, entries) = lending.registration();
        let scratch = Scratch::new(ring.params().sq_entries());
        let mut uring = Self {
            ring,
            lending,
            scratch,
            works: Slab::new(),
            sockets: Vec::new(),
            starved: VecDeque::new(),
            connecting: Vec::new(),
            relays: VecDeque::new(),
            pipes: Pipes::default(),
            completions: Vec::new(),
            waker,
        };
        // SAFETY: the mapping holds that many entries and outlives the ring (see the field order).
        unsafe { uring.ring.submitter().register_buf_ring_with_flags(address, entries, BUFFER_GROUP, 0) }
            .map_err(|error| match errno(&error) {
                libc::EINVAL => OpenError::TooOld("provided buffer rings"),
                errno => OpenError::System("IORING_REGISTER_PBUF_RING", IoError::from_errno(errno)),
            })?;
        let armed = uring.push_wake().and_then(|()| uring.enter(0, None));
        armed.map_err(|e| OpenError::System("io_uring_enter", e))?;
        Ok(uring)
    }

    /// Names of what is in use, for the log.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let deferred = self.ring.params().is_setup_single_issuer();
        let mut features = vec!["multishot accept and recv", "provided buffers"];
        features.push(if deferred { "single issuer, deferred task run" } else { "cooperative task run" });
        features
    }
}

fn open_ring(config: &Config) -> Result<IoUring, OpenError> {
    let mut result = Err(std::io::Error::from_raw_os_error(libc::EINVAL));
    // Without the submission index array (6.6), then with it (6.1).
    for no_array in [true, false] {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_submit_all().setup_cqsize(config.cq_entries);
        if config.defer_taskrun {
            builder.setup_single_issuer().setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        if no_array {
            builder.setup_no_sqarray();
        }
        result = builder.build(config.sq_entries);
        match &result {
            Err(error) if errno(error) == libc::EINVAL => {}
            _ => break,
        }
    }
    result.map_err(|error| match errno(&error) {
        libc::EPERM | libc::EACCES => OpenError::Forbidden { sysctl: disabled_by_sysctl() },
        libc::ENOSYS => OpenError::Missing,
        libc::EINVAL => OpenError::TooOld("IORING_SETUP_DEFER_TASKRUN"),
        errno => OpenError::System("io_uring_setup", IoError::from_errno(errno)),
    })
}

fn disabled_by_sysctl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text.trim() != "0")
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
