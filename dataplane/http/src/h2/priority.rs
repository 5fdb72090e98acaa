//! Priorities of RFC 9218: the `priority` field and PRIORITY_UPDATE.

/// How urgent a response is (RFC 9218 section 4). We tell, and leave scheduling to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priority {
    /// 0 (most urgent) to 7.
    pub urgency: u8,
    /// The client can use parts of the response.
    pub incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self { urgency: 3, incremental: false }
    }
}
