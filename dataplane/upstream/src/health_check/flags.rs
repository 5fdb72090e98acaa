//! What checks say of an endpoint, as all shards see it.

use std::sync::atomic::{AtomicU8, Ordering};

/// A set of Envoy's health flags that come from active checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckFlags(u8);

impl CheckFlags {
    /// `FAILED_ACTIVE_HC`.
    pub const FAILED: Self = Self(1);
    /// `DEGRADED_ACTIVE_HC`.
    pub const DEGRADED: Self = Self(2);
    /// `PENDING_ACTIVE_HC`: not checked yet, and left out until then.
    pub const PENDING: Self = Self(4);
    /// `ACTIVE_HC_TIMEOUT`: the failure was a timeout.
    pub const TIMED_OUT: Self = Self(8);
    /// `EXCLUDED_VIA_IMMEDIATE_HC_FAIL`.
    pub const EXCLUDED: Self = Self(16);

    /// True when any of the flags is set.
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// With these as well.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// Without these.
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// True when the endpoint does not count among the members that could serve.
    pub fn is_excluded(self) -> bool {
        self.has(Self(Self::PENDING.0 | Self::EXCLUDED.0))
    }
}

/// The flags of one endpoint. Written by the shard that checks it, and by any that traffic told something.
#[derive(Debug, Default)]
pub(crate) struct SharedFlags(AtomicU8);

impl SharedFlags {
    pub fn new(flags: CheckFlags) -> Self {
        Self(AtomicU8::new(flags.0))
    }

    #[inline]
    pub fn load(&self) -> CheckFlags {
        CheckFlags(self.0.load(Ordering::Relaxed))
    }

    /// Sets and clears; true when that changed what balancers look at.
    pub fn change(&self, set: CheckFlags, clear: CheckFlags) -> bool {
        let before = CheckFlags(self.0.fetch_or(set.0, Ordering::Relaxed));
        self.0.fetch_and(!clear.0, Ordering::Relaxed);
        let after = before.with(set).without(clear);
        before.without(CheckFlags::TIMED_OUT) != after.without(CheckFlags::TIMED_OUT)
    }
}
