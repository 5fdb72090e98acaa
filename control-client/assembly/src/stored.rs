//! Resources as they came, for `config_dump`.

use std::sync::Arc;

use millrace_ads::Resource;
use millrace_base::WallTime;

/// A resource in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its version.
    pub version: Arc<str>,
    /// The exact bytes, unknown fields included; empty for what the bootstrap holds.
    pub body: Arc<[u8]>,
    /// When it came.
    pub updated: WallTime,
}

impl Stored {
    pub(crate) fn new(resource: &Resource, updated: WallTime) -> Self {
        Self { version: resource.version.clone(), body: resource.body.clone(), updated }
    }
}

/// A resource that was refused (`admin.v3.UpdateFailureState`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was refused.
    pub resource: Stored,
    /// Why.
    pub details: String,
}

impl Failure {
    pub(crate) fn new(resource: &Resource, at: WallTime, details: &str) -> Box<Self> {
        Box::new(Self { resource: Stored::new(resource, at), details: details.to_owned() })
    }
}
