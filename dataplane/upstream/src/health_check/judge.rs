//! What an HTTP answer says.

use millrace_config::HttpHealthCheck;
use millrace_http::{HeaderId, ResponseHead};

use super::conversation::{Reply, Verdict};
use super::payload::Search;
use super::{Failure, FailureKind};

/// The answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    status: u16,
    degraded: bool,
    exclude: bool,
    cluster: Vec<u8>,
    body: Search,
    body_bytes: u64,
}

impl Answer {
    /// Begins with the head.
    pub fn of(head: &ResponseHead) -> Self {
        let cluster = head.headers.get(HeaderId::XEnvoyUpstreamHealthcheckedCluster);
        Self {
            status: head.status,
            degraded: head.headers.contains(HeaderId::XEnvoyDegraded),
            exclude: head.headers.contains(HeaderId::XEnvoyImmediateHealthCheckFail),
            cluster: cluster.unwrap_or_default().to_vec(),
            body: Search::default(),
            body_bytes: 0,
        }
    }

    /// Takes bytes of the body as far as they are looked at.
    pub fn body(&mut self, check: &HttpHealthCheck, bytes: &[u8]) {
        let room = check.response_bytes.map_or(u64::MAX, |most| most.saturating_sub(self.body_bytes));
        let seen = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.body_bytes += seen as u64;
        self.body.feed(&check.receive, &bytes[..seen]);
    }

    /// The answer is whole.
    pub fn verdict(&self, check: &HttpHealthCheck) -> Reply {
        let within =
            |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..*to).contains(&self.status));
        let failed = |retriable, exclude| {
            let failure = Failure { kind: FailureKind::Active, retriable, status: self.status, exclude };
            Reply { verdict: Some(Verdict::Failed(failure)), ..Reply::default() }
        };
        if !self.body.is_complete(&check.receive) {
            return failed(false, self.exclude);
        }
        if !within(&check.expected) {
            return failed(within(&check.retriable), self.exclude);
        }
        let passed = Some(Verdict::Passed { degraded: self.degraded, status: self.status });
        match &check.service_name {
            None => Reply { verdict: passed, ..Reply::default() },
            Some(name) if name.matches(&self.cluster) => {
                Reply { verdict: passed, verified: true, ..Reply::default() }
            }
            Some(_) => Reply { verified: true, ..failed(false, false) },
        }
    }
}
