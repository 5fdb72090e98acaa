//! A gRPC stream that is opened again whenever the protocol client says so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millrace_ads::source::Variant;
use millrace_ads::{Client, Input, Output};
use millrace_base::Time;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Event;
use super::feed::{Context, Step};
use super::grpc::{Method, Request, Response, Service, StreamEvent, StreamTask};
use super::told::{FeedKey, Owned, TaskId, Told, What};

/// Requests on their way to a stream.
const REQUESTS_MAX: usize = 16;

/// A server that takes no request for so long while they queue is given up: it may wait for us to read, and we do not
/// read before our requests are taken.
const BLOCKED_MAX: Duration = Duration::from_secs(60);

/// One stream.
pub(super) struct GrpcFeed {
    pub client: Client,
    variant: Variant,
    method: Method,
    services: Vec<Arc<Service>>,
    link: Option<Link>,
    identifier: String,
    events: VecDeque<Event>,
    /// Held until the client has handed on what the response said.
    permit: Option<OwnedSemaphorePermit>,
}

struct Link {
    id: TaskId,
    service: usize,
    requests: mpsc::Sender<Request>,
    /// Since when the queue has been full.
    blocked_since: Option<Time>,
    _task: Owned,
}

impl Link {
    /// When the stream is to be given up, while its queue is full.
    fn blocked_until(&mut self, now: Time) -> Option<Time> {
        if self.requests.capacity() > 0 {
            self.blocked_since = None;
            return None;
        }
        Some(*self.blocked_since.get_or_insert(now) + BLOCKED_MAX)
    }
}

impl GrpcFeed {
    pub(super) fn new(client: Client, variant: Variant, method: Method, services: Vec<Arc<Service>>) -> Self {
        Self {
            client,
            variant,
            method,
            services,
            link: None,
            identifier: String::new(),
            events: VecDeque::new(),
            permit: None,
        }
    }

    pub(super) fn handle(&mut self, now: Time, task: TaskId, event: StreamEvent) {
        let Some(link) = self.link.as_ref().filter(|link| link.id == task) else {
            return;
        };
        let service = link.service;
        match event {
            StreamEvent::Open => {
                self.events.push_back(Event::Connected { service, identifier: None });
                self.client.handle(now, Input::Connected);
            }
            StreamEvent::Response(response, permit) => {
                self.note_identifier(service, &response);
                self.permit = Some(permit);
                self.client.handle(now, Input::Response(response));
            }
            StreamEvent::Closed(reason) => {
                self.link = None;
                self.permit = None;
                self.events.push_back(Event::Disconnected { reason });
                self.client.handle(now, Input::Disconnected);
            }
        }
    }

    /// A control plane says who it is in every response; a change is worth telling.
    fn note_identifier(&mut self, service: usize, response: &Response) {
        let control_plane = match response {
            Response::Sotw(response) => &response.control_plane,
            Response::Delta(response) => &response.control_plane,
        };
        let Some(said) = control_plane else { return };
        let said = bounded(&said.identifier);
        if said != self.identifier {
            said.clone_into(&mut self.identifier);
            let identifier = Some(said.to_owned());
            self.events.push_back(Event::Connected { service, identifier });
        }
    }

    pub(super) fn poll(&mut self, now: Time, key: FeedKey, context: &mut Context) -> Step {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Step::Event(event);
            }
            if let Some(until) = self.link.as_mut().and_then(|link| link.blocked_until(now)) {
                if now < until {
                    return Step::Blocked(until);
                }
                self.give_up(now);
                continue;
            }
            match self.client.poll(now) {
                Some(Output::Connect { service }) => self.connect(service, key, context),
                Some(Output::Send(request)) => {
                    // There is room; a stream that has just ended reports that itself.
                    if let Some(link) = &self.link {
                        let _ = link.requests.try_send(request);
                    }
                }
                Some(Output::Update(update)) => return Step::Event(Event::Update(update)),
                Some(Output::State(state)) => return Step::Event(Event::State(state)),
                None => {
                    self.permit = None;
                    return Step::Idle(self.client.deadline());
                }
            }
        }
    }

    fn give_up(&mut self, now: Time) {
        let Some(link) = self.link.take() else { return };
        self.permit = None;
        let target = self.services.get(link.service).map_or("", |service| service.name());
        let reason = format!(
            "{} gRPC config stream to {target} closed: the server takes no requests",
            self.method.name()
        );
        self.events.push_back(Event::Disconnected { reason });
        self.client.handle(now, Input::Disconnected);
    }

    fn connect(&mut self, service: usize, key: FeedKey, context: &mut Context) {
        self.link = None;
        self.permit = None;
        let id = context.next_task();
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        // The client counts the services that it was given.
        let Some(target) = self.services.get(service) else { return };
        let task = StreamTask {
            service: Arc::clone(target),
            method: self.method,
            variant: self.variant,
            requests: inbox,
            taken: Arc::clone(&context.taken),
        };
        let tell = context.tell.clone();
        let tell = async move |event| {
            // Without a receiver the task is about to be aborted.
            let _ = tell.send(Told { feed: key, what: What::Stream(id, event) }).await;
        };
        let task = Owned(tokio::spawn(task.run(tell)));
        self.link = Some(Link { id, service, requests, blocked_since: None, _task: task });
    }
}

fn bounded(identifier: &str) -> &str {
    let mut end = identifier.len().min(millrace_ads::limits::IDENTIFIER_BYTES_MAX);
    while !identifier.is_char_boundary(end) {
        end -= 1;
    }
    identifier.get(..end).unwrap_or_default()
}
