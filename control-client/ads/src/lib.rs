//! The xDS client without a socket.
//!
//! [`ResourceType`], [`Resource`] and [`Update`] are what a control plane sends, [`Verdict`] is what we say to it, and
//! [`source`] describes where to reach it. [`Client`] is the protocol of one gRPC stream, [`RestClient`] that of
//! polling, [`FileClient`] that of a file. Nothing here opens a connection, reads a clock or knows what a resource
//! means.

pub mod limits;
pub mod source;

mod backoff;
mod bucket;
mod client;
mod delta;
mod file;
mod incoming;
mod known;
mod nack;
mod names;
mod resource;
mod resource_type;
mod rest;
mod sotw;
mod tracker;
mod ttl;

pub use client::{Client, ClientOptions, ConnectedState, Input, Output, Request, Response};
pub use file::FileClient;
pub use resource::{Interest, Rejected, Resource, Update, UpdateId, Verdict};
pub use resource_type::ResourceType;
pub use rest::{RestClient, RestInput, RestOptions, RestOutput};
