//! The xDS client without a socket.
//!
//! [`ResourceType`], [`Resource`] and [`Update`] are what a control plane sends, [`Verdict`] is what we say to it, and
//! [`source`] describes where to reach it. Nothing here opens a connection, reads a clock or knows what a resource
//! means.

pub mod source;

mod resource;
mod resource_type;

pub use resource::{Interest, Rejected, Resource, Update, UpdateId, Verdict};
pub use resource_type::ResourceType;
