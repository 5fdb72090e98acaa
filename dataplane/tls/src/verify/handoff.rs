//! What one connection asks of the shared verifier and what it learnt: rustls's verifiers know only the context, so
//! the two are handed over beside it, for the time of one call into rustls on this thread.

use std::cell::RefCell;

use super::{Verified, VerifyError};

/// What became of the peer's certificate during one call into rustls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No certificate was looked at (none came yet, none at all, or the session was resumed).
    NotAsked,
    /// It was accepted.
    Accepted(Verified),
    /// It was refused.
    Refused(VerifyError),
}

struct Connection {
    extra_dns_san: Option<Box<str>>,
    outcome: Outcome,
    signature_scheme: Option<u16>,
}

/// What one call into rustls told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Of the peer's certificate.
    pub outcome: Outcome,
    /// With which algorithm the peer signed the handshake (RFC 8446 4.2.3), if it did in this call.
    pub signature_scheme: Option<u16>,
}

impl Connection {
    const NOBODY: Self = Self { extra_dns_san: None, outcome: Outcome::NotAsked, signature_scheme: None };
}

thread_local! {
    static CONNECTION: RefCell<Connection> =
        const { RefCell::new(Connection::NOBODY) };
}

/// Makes one call into rustls for a connection. `extra_dns_san` is a name that its peer must have as well
/// (`auto_san_validation`). Calls do not nest.
pub fn with_connection<R>(extra_dns_san: Option<&str>, call: impl FnOnce() -> R) -> (R, Told) {
    let extra_dns_san = extra_dns_san.map(Box::from);
    CONNECTION.set(Connection { extra_dns_san, ..Connection::NOBODY });
    let returned = call();
    let left = CONNECTION.replace(Connection::NOBODY);
    (returned, Told { outcome: left.outcome, signature_scheme: left.signature_scheme })
}

/// The name that the connection which is being served asks for.
pub(super) fn extra_dns_san() -> Option<Box<str>> {
    CONNECTION.with_borrow(|connection| connection.extra_dns_san.clone())
}

/// Leaves the outcome for the caller of [`with_connection`].
pub(super) fn report(outcome: Outcome) {
    CONNECTION.with_borrow_mut(|connection| connection.outcome = outcome);
}

/// Leaves the algorithm of the peer's signature likewise.
pub(super) fn report_signature(scheme: u16) {
    CONNECTION.with_borrow_mut(|connection| connection.signature_scheme = Some(scheme));
}
