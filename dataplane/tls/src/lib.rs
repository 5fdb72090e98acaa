//! TLS as the shard drives it: rustls and AWS-LC behind one small type that takes bytes and gives plaintext.
//!
//! rustls does handshakes. Once one is over its secrets are taken out, and [`Session`] seals and opens records itself,
//! in the caller's buffers (`docs/decisions/0014-own-record-layer.md`).

pub mod certificate;
mod client;
mod clock;
mod error;
mod facts;
mod identity;
mod key_derivation;
mod local;
mod provider;
mod record;
mod schemes;
mod server;
mod session;
mod sessions;
mod tickets;
pub mod verify;

pub use client::ClientContext;
pub use error::{ContextError, RecordError, TlsError};
pub use local::Local;
pub use server::ServerContext;
pub use session::{ClientOptions, Event, Session, Step};
pub use tickets::{Shared, warm_up};
pub use verify::{CertificateRules, FailureKind};
