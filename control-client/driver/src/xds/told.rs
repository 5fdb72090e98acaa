//! What tasks tell the sources, over one bounded channel.

use millrace_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use tokio::task::JoinHandle;

use super::grpc::StreamEvent;
use super::rest::Fetched;
use super::watch::Change;

/// Names a feed for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FeedKey(pub u64);

/// Names a task, so that the last words of an old one are not taken for those of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskId(pub u64);

/// One message.
#[derive(Debug)]
pub(super) struct Told {
    /// For whom.
    pub feed: FeedKey,
    /// What.
    pub what: What,
}

/// The kinds of messages.
#[derive(Debug)]
pub(super) enum What {
    /// From a gRPC stream.
    Stream(TaskId, StreamEvent),
    /// What a REST request ended with.
    Fetched(TaskId, Fetched),
    /// Something happened to a file.
    File(Change),
    /// A file was read; or why not.
    Loaded(Result<DiscoveryResponse, String>),
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Owned(pub JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
