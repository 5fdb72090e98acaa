//! Checks by payloads.

use millrace_config::TcpHealthCheck;

use super::conversation::{Reply, Verdict};
use super::payload::Search;

/// One connection.
#[derive(Debug, Default)]
pub struct Tcp {
    search: Search,
    in_flight: bool,
}

impl Tcp {
    pub(super) fn begin(&mut self, config: &TcpHealthCheck, out: &mut Vec<u8>) -> Reply {
        self.in_flight = true;
        out.extend_from_slice(&config.send);
        Reply::default()
    }

    /// What comes between two checks counts for the next one, as in Envoy.
    pub(super) fn receive(&mut self, config: &TcpHealthCheck, bytes: &[u8]) -> Reply {
        if !self.search.feed(&config.receive, bytes) || !self.in_flight {
            return Reply::default();
        }
        self.search.reset();
        self.in_flight = false;
        Reply { verdict: Some(Verdict::Passed { degraded: false, status: 0 }), ..Reply::default() }
    }
}
