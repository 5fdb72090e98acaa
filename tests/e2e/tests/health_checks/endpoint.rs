//! Endpoints whose answers to checks can be changed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_support::message::Request;
use millrace_support::upstream::{Reply, Upstream};

/// An endpoint that answers checks as it is told to, and everything else with 200.
pub(super) struct Endpoint {
    pub(super) upstream: Upstream,
    check: Arc<Mutex<Reply>>,
}

impl Endpoint {
    /// One that passes.
    pub(super) fn new() -> Self {
        Self::answering(Reply::ok("fine"))
    }

    /// One that answers checks so.
    pub(super) fn answering(reply: Reply) -> Self {
        let check = Arc::new(Mutex::new(reply));
        let script = Arc::clone(&check);
        let upstream = Upstream::start(move |request| match request.target.as_str() {
            "/hc" => script.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            _ => Reply::ok("served"),
        });
        Self { upstream, check }
    }

    /// Answers so from now on.
    pub(super) fn answer(&self, reply: Reply) {
        *self.check.lock().unwrap_or_else(PoisonError::into_inner) = reply;
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// The checks so far.
    pub(super) fn checks(&self) -> Vec<Request> {
        self.upstream.requests().into_iter().filter(|request| request.target == "/hc").collect()
    }

    /// The other requests so far.
    pub(super) fn served(&self) -> usize {
        self.upstream.requests().iter().filter(|request| request.target != "/hc").count()
    }
}
