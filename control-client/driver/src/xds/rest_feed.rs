//! The polling of a REST control plane.

use std::collections::VecDeque;
use std::sync::Arc;

use millrace_ads::source::RestSource;
use millrace_ads::{ResourceType, RestClient, RestInput, RestOutput};
use millrace_base::Time;

use super::Event;
use super::feed::{Context, Step};
use super::rest::{Fetched, Outcome, fetch};
use super::told::{FeedKey, Owned, TaskId, Told, What};
use crate::dns::SystemResolver;

/// One control plane; each type is polled by itself.
pub(super) struct RestFeed {
    pub client: RestClient,
    source: Arc<RestSource>,
    resolver: Arc<SystemResolver>,
    /// One request of each type at most.
    requests: Vec<(ResourceType, TaskId, Owned)>,
    events: VecDeque<Event>,
}

impl RestFeed {
    pub(super) fn new(client: RestClient, source: Arc<RestSource>, resolver: Arc<SystemResolver>) -> Self {
        Self { client, source, resolver, requests: Vec::new(), events: VecDeque::new() }
    }

    pub(super) fn handle(&mut self, now: Time, task: TaskId, fetched: Fetched) {
        let Fetched { resource_type, outcome } = fetched;
        let Some(at) = self.requests.iter().position(|(_, id, _)| *id == task) else { return };
        self.requests.swap_remove(at);
        let input = match outcome {
            Outcome::Response(response) => RestInput::Response(resource_type, response),
            Outcome::NotModified => RestInput::NotModified(resource_type),
            Outcome::Failed(reason) => {
                self.events.push_back(Event::Failed { resource_type, reason });
                RestInput::Failed(resource_type)
            }
        };
        self.client.handle(now, input);
    }

    pub(super) fn poll(&mut self, now: Time, key: FeedKey, context: &mut Context) -> Step {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Step::Event(event);
            }
            match self.client.poll(now) {
                Some(RestOutput::Fetch(resource_type, request)) => {
                    let id = context.next_task();
                    let tell = context.tell.clone();
                    let (source, resolver) = (Arc::clone(&self.source), Arc::clone(&self.resolver));
                    let task = tokio::spawn(async move {
                        let outcome = fetch(&source, &resolver, resource_type, &request).await;
                        let what = What::Fetched(id, Fetched { resource_type, outcome });
                        // Without a receiver nobody is interested any more.
                        let _ = tell.send(Told { feed: key, what }).await;
                    });
                    self.requests.push((resource_type, id, Owned(task)));
                }
                Some(RestOutput::Update(update)) => return Step::Event(Event::Update(update)),
                None => return Step::Idle(self.client.deadline()),
            }
        }
    }
}
