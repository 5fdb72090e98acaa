//! A file whose resources of one type are wanted: read when it is subscribed to and whenever it is replaced.

use std::collections::VecDeque;
use std::sync::Arc;

use millrace_ads::source::PathSource;
use millrace_ads::{FileClient, ResourceType, Update};
use millrace_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;

use super::feed::{Context, Step};
use super::read_file::read_response;
use super::told::{FeedKey, Told, What};
use super::watch::Change;
use super::{Event, RESPONSE_BYTES_MAX};

/// One subscription to a file.
pub(super) struct FileFeed {
    pub client: FileClient,
    source: PathSource,
    resource_type: ResourceType,
    /// The only resource that is wanted; `None` for all.
    name: Option<Arc<str>>,
    events: VecDeque<Event>,
    loading: bool,
    /// It was replaced again while it was read.
    again: bool,
    /// Its last failure, which is told once.
    failure: Option<String>,
}

impl FileFeed {
    pub(super) fn new(source: PathSource, resource_type: ResourceType, name: Option<Arc<str>>) -> Self {
        Self {
            client: FileClient::new(resource_type),
            source,
            resource_type,
            name,
            events: VecDeque::new(),
            loading: false,
            again: false,
            failure: None,
        }
    }

    pub(super) fn changed(&mut self, key: FeedKey, change: Change, context: &Context) {
        match change {
            Change::Touched if self.loading => self.again = true,
            Change::Touched => self.load(key, context),
            Change::Unwatchable(reason) => {
                self.fail(reason);
                // Where the system has no watch left the file may still be there, and is of use until it changes.
                if !self.loading {
                    self.load(key, context);
                }
            }
        }
    }

    fn load(&mut self, key: FeedKey, context: &Context) {
        self.loading = true;
        self.again = false;
        let path = self.source.path.clone();
        let tell = context.tell.clone();
        tokio::spawn(async move {
            let read =
                tokio::task::spawn_blocking(move || read_response(&path, RESPONSE_BYTES_MAX as u64)).await;
            let result = match read {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // Without a receiver nobody is interested any more.
            let _ = tell.send(Told { feed: key, what: What::Loaded(result) }).await;
        });
    }

    pub(super) fn loaded(
        &mut self,
        key: FeedKey,
        result: Result<DiscoveryResponse, String>,
        context: &Context,
    ) {
        self.loading = false;
        match result {
            Ok(response) => {
                self.failure = None;
                let update = self.client.loaded(response);
                self.events.push_back(Event::Update(self.wanted(update)));
            }
            Err(reason) => self.fail(reason),
        }
        if self.again {
            self.load(key, context);
        }
    }

    fn fail(&mut self, reason: String) {
        if self.failure.as_ref() != Some(&reason) {
            self.failure = Some(reason.clone());
            self.events.push_back(Event::Failed { resource_type: self.resource_type, reason });
        }
    }

    /// Leaves out what another subscription of the same file is for.
    fn wanted(&self, mut update: Update) -> Update {
        if let Some(name) = &self.name {
            update.changed.retain(|resource| resource.name == *name);
            update.removed.retain(|removed| removed == name);
            update.unchanged.retain(|unchanged| unchanged == name);
            let is_there = !update.unchanged.is_empty() || !update.changed.is_empty();
            // Whoever waits for a secret is told that there is none, as in Envoy.
            if self.resource_type == ResourceType::Secret && !is_there && update.broken.is_empty() {
                update.removed = vec![Arc::clone(name)];
            }
        }
        update
    }

    pub(super) fn poll(&mut self) -> Step {
        match self.events.pop_front() {
            Some(event) => Step::Event(event),
            None => Step::Idle(None),
        }
    }
}
