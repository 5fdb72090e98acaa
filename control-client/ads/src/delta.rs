//! The incremental variant: what one stream says about one type.

use millrace_base::Time;
use millrace_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use crate::nack;
use crate::tracker::Tracker;

/// One type on one stream. An answer names nothing but its nonce (Istio insists); what is wanted and no longer wanted
/// goes in requests of its own.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    started: bool,
    /// What is known came from another control plane, whose versions mean nothing to this one.
    foreign: bool,
}

impl Stream {
    pub fn started(&self) -> bool {
        self.started
    }

    /// The other end did not send what is known.
    pub fn meets_another(&mut self) {
        self.foreign = true;
    }

    /// There is a request to send.
    pub fn ready(&self, tracker: &Tracker, now: Time) -> bool {
        if !self.started {
            return !tracker.wanted.is_empty();
        }
        tracker.wanted.differs() || tracker.answer_at().is_some_and(|at| at <= now)
    }

    /// The request.
    pub fn next(&mut self, tracker: &mut Tracker, now: Time, type_url: String) -> DeltaDiscoveryRequest {
        let mut request = DeltaDiscoveryRequest { type_url, ..DeltaDiscoveryRequest::default() };
        if !self.started {
            self.started = true;
            request.resource_names_subscribe = tracker.wanted.list();
            let versions = tracker.versions().filter(|_| !self.foreign);
            request.initial_resource_versions =
                versions.map(|(name, version)| (name.to_string(), version.to_string())).collect();
        } else if tracker.answer_at().is_some_and(|at| at <= now) {
            if let Some(answer) = tracker.pop_answer(now) {
                request.error_detail = nack::status(tracker.resource_type(), &answer.rejected);
                request.response_nonce = answer.nonce;
            }
        } else {
            let (subscribe, unsubscribe) = tracker.wanted.difference();
            request.resource_names_subscribe = subscribe;
            request.resource_names_unsubscribe = unsubscribe;
        }
        request
    }
}
