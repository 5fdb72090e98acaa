//! What the three kinds of feeds have in common.

use std::sync::Arc;

use millrace_ads::{Interest, ResourceType, UpdateId, Verdict};
use millrace_base::Time;
use tokio::sync::{Notify, mpsc};

use super::Event;
use super::file_feed::FileFeed;
use super::grpc_feed::GrpcFeed;
use super::rest_feed::RestFeed;
use super::told::{FeedKey, TaskId, Told, What};

/// What a feed needs to start tasks.
pub(super) struct Context {
    pub tell: mpsc::Sender<Told>,
    /// Told when a stream has taken a request.
    pub taken: Arc<Notify>,
    pub last_task: u64,
}

impl Context {
    pub(super) fn next_task(&mut self) -> TaskId {
        self.last_task += 1;
        TaskId(self.last_task)
    }
}

/// What a feed is at after it was polled.
pub(super) enum Step {
    /// Tell this, then poll again.
    Event(Event),
    /// Poll when a stream has taken a request, or at this time.
    Blocked(Time),
    /// Poll after the next input, or at this time.
    Idle(Option<Time>),
}

/// One stream, poll or file.
pub(super) enum Feed {
    Grpc(Box<GrpcFeed>),
    Rest(Box<RestFeed>),
    File(Box<FileFeed>),
}

impl Feed {
    /// False when there are too many names.
    pub(super) fn subscribe(&mut self, ty: ResourceType, interest: Interest) -> bool {
        match self {
            Self::Grpc(feed) => feed.client.subscribe(ty, interest),
            Self::Rest(feed) => feed.client.subscribe(ty, interest),
            // A file is read as a whole.
            Self::File(_) => true,
        }
    }

    pub(super) fn unsubscribe(&mut self, ty: ResourceType, interest: &Interest) {
        match self {
            Self::Grpc(feed) => feed.client.unsubscribe(ty, interest),
            Self::Rest(feed) => feed.client.unsubscribe(ty, interest),
            Self::File(_) => {}
        }
    }

    pub(super) fn refresh(&mut self, ty: ResourceType, name: &str) {
        match self {
            Self::Grpc(feed) => feed.client.refresh(ty, name),
            // The next poll, or the next move of the file, brings whatever there is.
            Self::Rest(_) | Self::File(_) => {}
        }
    }

    pub(super) fn verdict(&mut self, id: UpdateId, verdict: Verdict) {
        match self {
            Self::Grpc(feed) => feed.client.verdict(id, verdict),
            Self::Rest(feed) => feed.client.verdict(id, verdict),
            Self::File(feed) => feed.client.verdict(id, verdict),
        }
    }

    pub(super) fn handle(&mut self, now: Time, key: FeedKey, what: What, context: &Context) {
        match (self, what) {
            (Self::Grpc(feed), What::Stream(task, event)) => feed.handle(now, task, event),
            (Self::Rest(feed), What::Fetched(task, fetched)) => feed.handle(now, task, fetched),
            (Self::File(feed), What::File(change)) => feed.changed(key, change, context),
            (Self::File(feed), What::Loaded(result)) => feed.loaded(key, result, context),
            // A feed starts tasks of its own kind only.
            (Self::Grpc(_) | Self::Rest(_) | Self::File(_), _) => {}
        }
    }

    pub(super) fn poll(&mut self, now: Time, key: FeedKey, context: &mut Context) -> Step {
        match self {
            Self::Grpc(feed) => feed.poll(now, key, context),
            Self::Rest(feed) => feed.poll(now, key, context),
            Self::File(feed) => feed.poll(),
        }
    }
}
