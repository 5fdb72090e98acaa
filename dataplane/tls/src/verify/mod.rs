//! Whether a peer may be believed: the chain to a trusted root, then names, fingerprints or a SPIFFE identity, as a
//! `CertificateValidationContext` asks for. Host names are never looked at unless configuration names them.

mod chain;
mod constraints;
mod descent;
mod error;
mod handoff;
mod known;
mod names;
mod rules;
mod rustls_traits;
mod spiffe;
mod trust;
mod verifier;

pub use error::{ChainFault, FailureKind, SpiffeFault, VerifyError};
pub use handoff::{Outcome, with_connection};
pub use rules::{CertificateRules, RuleBreach};
pub use trust::TrustCache;
pub use verifier::{PeerRole, Verified, Verifier, VerifierOptions};
