//! The state-of-the-world variant: what one stream says about one type.

use millrace_base::Time;
use millrace_proto::pb::envoy::service::discovery::v3::DiscoveryRequest;

use crate::nack;
use crate::tracker::Tracker;

/// One type on one stream.
///
/// Every request repeats all names, the last version that was accepted as a whole and the nonce that was answered
/// last. A change of names waits while a response of the type has no verdict, for its nonce must not be answered
/// twice; it then rides on the answer.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    started: bool,
    nonce: String,
}

impl Stream {
    pub fn started(&self) -> bool {
        self.started
    }

    /// There is a request to send.
    pub fn ready(&self, tracker: &Tracker, now: Time) -> bool {
        if !self.started {
            return !tracker.wanted.is_empty();
        }
        let names = tracker.wanted.list_changed() && !tracker.awaits_verdict();
        names || tracker.answer_at().is_some_and(|at| at <= now || tracker.wanted.list_changed())
    }

    /// The request.
    pub fn next(&mut self, tracker: &mut Tracker, now: Time, type_url: String) -> DiscoveryRequest {
        self.started = true;
        let answer = tracker.pop_answer(now);
        let mut error_detail = None;
        if let Some(answer) = answer {
            error_detail = nack::status(tracker.resource_type(), &answer.rejected);
            self.nonce = answer.nonce;
        }
        DiscoveryRequest {
            version_info: tracker.version().to_owned(),
            resource_names: tracker.wanted.list(),
            type_url,
            response_nonce: self.nonce.clone(),
            error_detail,
            ..DiscoveryRequest::default()
        }
    }
}
