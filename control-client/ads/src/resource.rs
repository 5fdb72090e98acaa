//! What a control plane says, and what it is answered.

use std::sync::Arc;

use crate::ResourceType;

/// What a subscription of one type asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Everything that the server has for us.
    Wildcard,
    /// One resource.
    Name(Arc<str>),
}

/// Names one [`Update`] of one client until its [`Verdict`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpdateId(pub u64);

impl UpdateId {
    /// Of an update that no server sent: a time to live has ended. It needs no verdict; one is ignored.
    pub const NO_VERDICT: Self = Self(0);
}

/// One resource as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Arc<str>,
    /// `Resource.version` (delta) or `version_info` of the response.
    pub version: Arc<str>,
    /// The message's bytes; its type is the update's.
    pub body: Arc<[u8]>,
}

/// What one response changes. Resources whose bytes are those of the last accepted version are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// For the verdict.
    pub id: UpdateId,
    /// What they are.
    pub resource_type: ResourceType,
    /// `version_info` or `system_version_info`.
    pub version: Arc<str>,
    /// New and changed resources, in the order of the response.
    pub changed: Vec<Resource>,
    /// Names that are gone: listed as removed, missing from a complete state, or past their time to live.
    pub removed: Vec<Arc<str>>,
    /// Names that the response held in unchanged form: as accepted, or as an earlier update without a verdict handed
    /// them out (that verdict then counts for this response as well). Their subscriptions are answered.
    pub unchanged: Vec<Arc<str>>,
    /// What could not even be handed on (no name, a second one of the same name, a body of another type), with the
    /// reasons. They are part of the NACK whatever the verdict says.
    pub broken: Vec<Rejected>,
}

/// A resource that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its name, empty when it has none.
    pub name: Arc<str>,
    /// Why, with the field path.
    pub reason: String,
}

/// What became of an update: an ACK when nothing was rejected, else a NACK that names every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In the order of the response. All other resources are in force.
    pub rejected: Vec<Rejected>,
}
