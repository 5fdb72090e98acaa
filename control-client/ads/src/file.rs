//! xDS from a file: each load is one response.

use millrace_base::Time;
use millrace_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;

use crate::tracker::{Answers, Tracker};
use crate::{Interest, ResourceType, Update, UpdateId, Verdict, incoming};

/// The resources of one type that a file holds: all of them are wanted. For LDS, CDS and SRDS it is the complete
/// state; of other types resources that are no longer in it stay.
#[derive(Debug)]
pub struct FileClient {
    ty: ResourceType,
    tracker: Tracker,
    last_id: u64,
}

impl FileClient {
    /// A file that has not been read yet.
    pub fn new(ty: ResourceType) -> Self {
        let mut tracker = Tracker::new(ty, Answers::Newest);
        tracker.wanted.add(Interest::Wildcard);
        Self { ty, tracker, last_id: UpdateId::NO_VERDICT.0 }
    }

    /// The file has been read. `type_url` of the response may be empty. Times to live are of no use, since nothing
    /// renews a file: they do not start.
    pub fn loaded(&mut self, response: DiscoveryResponse) -> Update {
        let mut batch = incoming::sotw(self.ty, response);
        batch.items.iter_mut().for_each(|item| item.ttl = None);
        self.last_id += 1;
        self.tracker.take(Time::ZERO, UpdateId(self.last_id), None, batch, self.ty.is_full_state())
    }

    /// What became of an update.
    pub fn verdict(&mut self, id: UpdateId, verdict: Verdict) {
        self.tracker.verdict(id, verdict);
    }
}
