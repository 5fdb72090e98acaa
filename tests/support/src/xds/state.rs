//! Everything that a control plane knows, behind one lock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tonic::{Code, Status};

use super::Options;
use super::record::{Entry, Event, Opened};
use super::resource::Type;
use super::script::Script;
use super::session::Session;
use super::side::Streams;
use super::store::{Change, Store};

/// See the module.
pub(super) struct State {
    pub options: Options,
    pub store: Store,
    pub script: Script,
    pub streams: BTreeMap<u64, Session>,
    /// Of load reports.
    pub loads: Streams,
    /// Of health discovery.
    pub health: Streams,
    pub connections: BTreeMap<u64, AbortHandle>,
    pub log: Vec<Entry>,
    next_stream: u64,
    next_connection: u64,
    origin: Instant,
}

impl State {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            store: Store::default(),
            script: Script::default(),
            streams: BTreeMap::new(),
            loads: Streams::default(),
            health: Streams::default(),
            connections: BTreeMap::new(),
            log: Vec::new(),
            next_stream: 1,
            next_connection: 1,
            origin: Instant::now(),
        }
    }

    /// Since the control plane was started.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub fn record(&mut self, event: Event) {
        let at = self.now();
        self.log.push(Entry { at, event });
    }

    /// Numbers a new connection.
    pub fn connected(&mut self) -> u64 {
        let number = self.next_connection;
        self.next_connection += 1;
        self.record(Event::Connected(number));
        number
    }

    pub fn disconnected(&mut self, number: u64) {
        if self.connections.remove(&number).is_some() {
            self.record(Event::Disconnected(number));
        }
    }

    /// The number of a new stream.
    pub fn number(&mut self) -> u64 {
        let number = self.next_stream;
        self.next_stream += 1;
        number
    }

    /// Numbers a new stream.
    pub fn opened(&mut self, mut opened: Opened, session: Session) -> u64 {
        let number = self.number();
        opened.stream = number;
        self.record(Event::Opened(opened));
        self.streams.insert(number, session);
        number
    }

    pub fn closed(&mut self, stream: u64) {
        if self.streams.remove(&stream).is_some() {
            self.record(Event::Closed(stream));
        }
    }

    /// Ends every stream with a status.
    pub fn end_streams(&mut self, code: Code, message: &str) {
        let numbers: Vec<u64> = self.streams.keys().copied().collect();
        for number in numbers {
            self.end_stream(number, code, message);
        }
        self.end_side_streams(None, code, message);
    }

    pub fn end_stream(&mut self, number: u64, code: Code, message: &str) {
        if let Some(session) = self.streams.get(&number) {
            // A client that is gone needs no status.
            let _ = session.out.send(Err(Status::new(code, message)));
        }
        self.closed(number);
    }

    /// Closes every connection without a word.
    pub fn drop_connections(&mut self) {
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            self.drop_connection(number);
        }
    }

    pub fn drop_connection(&mut self, number: u64) {
        if let Some(task) = self.connections.get(&number) {
            task.abort();
        }
        let streams: Vec<u64> =
            self.streams.iter().filter(|(_, s)| s.connection == number).map(|(n, _)| *n).collect();
        for stream in streams {
            self.closed(stream);
        }
        self.end_side_streams(Some(number), Code::Unavailable, "the connection is closed");
        self.disconnected(number);
    }

    /// Changes resources and tells everybody who is concerned.
    pub fn update(&mut self, changes: impl FnOnce(&mut Change<'_>)) {
        let mut change = Change::new(&mut self.store);
        changes(&mut change);
        let touched = change.finish();
        for ty in self.options.order.clone() {
            if touched.contains(&ty) {
                self.push_all(ty, false);
            }
        }
    }

    /// Sends what a kind's subscribers lack, or all of it.
    pub fn push_all(&mut self, ty: Type, force: bool) {
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            self.push(stream, ty, force);
        }
    }

    /// Sends what was held back.
    pub fn release(&mut self, ty: Type) {
        self.script.held.remove(&ty);
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            let kind = self.streams.get_mut(&stream).and_then(|s| s.kinds.get_mut(&ty));
            if let Some(force) = kind.and_then(|k| k.owed.take()) {
                self.push(stream, ty, force);
            }
        }
    }
}
