//! What comes of a resource that cannot be served as written.

use std::fmt;

use millrace_proto::{Path, WireError};

/// Why a resource is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionKind {
    /// Envoy refuses it too.
    Invalid,
    /// It asks for something that this build does not have.
    NotServed,
}

/// A resource that is refused: nothing of it takes effect. Whoever wrote it is at fault; the same bytes are
/// never accepted later by the same build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Field path, e.g. `static_resources.listeners[0].filter_chains[1]`.
    pub path: String,
    /// In one line, in Envoy's words where Envoy has some.
    pub reason: String,
    /// Whose lack it is.
    pub kind: RejectionKind,
}

impl Rejection {
    pub(crate) fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_string(), reason: reason.into(), kind: RejectionKind::Invalid }
    }

    pub(crate) fn not_served(path: &Path, reason: impl Into<String>) -> Self {
        Self { kind: RejectionKind::NotServed, ..Self::new(path, reason) }
    }

    /// Of a static cluster that neither traffic nor the control client can use.
    pub(crate) fn nor(mut self, control: &Self) -> Self {
        self.reason = format!("{}; nor can the control client use it: {control}", self.reason);
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.reason),
            path => write!(f, "{path}: {}", self.reason),
        }
    }
}

impl std::error::Error for Rejection {}

impl From<WireError> for Rejection {
    fn from(error: WireError) -> Self {
        Self::new(&Path::default(), error.to_string())
    }
}

impl From<millrace_proto::validate::Violation> for Rejection {
    fn from(violation: millrace_proto::validate::Violation) -> Self {
        Self { path: violation.path, reason: violation.reason, kind: RejectionKind::Invalid }
    }
}

/// A field that was accepted and has no effect; logged once at start and listed in `docs/configuration.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Field path.
    pub path: String,
    /// What happens instead.
    pub why: String,
}
