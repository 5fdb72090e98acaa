//! Streams beside discovery: what their clients are asked for, old ones and new ones, and what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tonic::codegen::Bytes;
use tonic::{Code, Status, Streaming};

use super::record::{Event, Opened};
use super::session::Out;
use super::state::State;
use super::{Shared, health, loads};

/// One service.
pub(super) struct Kind {
    /// Its method behind `/envoy.service.`.
    pub path: &'static str,
    /// Where its streams are kept.
    pub streams: fn(&mut State) -> &mut Streams,
    /// What the bytes of a message say; nothing for those that are none.
    pub read: fn(u64, &[u8]) -> Option<Event>,
}

/// All services.
const KINDS: [&Kind; 2] = [&loads::KIND, &health::KIND];

/// The service of this path.
pub(super) fn kind(path: &str) -> Option<&'static Kind> {
    KINDS.into_iter().find(|kind| kind.path == path)
}

/// The streams of one service.
#[derive(Default)]
pub(super) struct Streams {
    /// What every stream is asked for.
    ask: Option<Bytes>,
    /// Connection and outlet by number.
    open: BTreeMap<u64, (u64, UnboundedSender<Out>)>,
}

impl Streams {
    /// Asks on streams that are open and on those that come.
    pub fn ask(&mut self, ask: Vec<u8>) {
        let ask = Bytes::from(ask);
        for (_, out) in self.open.values() {
            // Who is gone says so itself.
            let _ = out.send(Ok(ask.clone()));
        }
        self.ask = Some(ask);
    }

    /// Ends the streams of one connection, or all.
    fn end(&mut self, connection: Option<u64>, status: &Status) -> Vec<u64> {
        let of =
            |(_, (c, _)): &(&u64, &mut (u64, UnboundedSender<Out>))| connection.is_none_or(|it| it == *c);
        let numbers: Vec<u64> = self.open.iter_mut().filter(of).map(|(number, _)| *number).collect();
        for (_, out) in numbers.iter().filter_map(|number| self.open.remove(number)) {
            // A client that is gone needs no status.
            let _ = out.send(Err(status.clone()));
        }
        numbers
    }
}

/// Serves one stream until its client ends it.
pub(super) fn serve(
    kind: &'static Kind,
    shared: Arc<Shared>,
    opened: Opened,
    out: UnboundedSender<Out>,
    mut incoming: Streaming<Bytes>,
) {
    let number = shared.with(|state| {
        let (number, connection) = (state.number(), opened.connection);
        state.record(Event::Opened(Opened { stream: number, ..opened }));
        let streams = (kind.streams)(state);
        if let Some(ask) = streams.ask.clone() {
            // The other end is held by the answer that is being made.
            let _ = out.send(Ok(ask));
        }
        streams.open.insert(number, (connection, out));
        number
    });
    tokio::spawn(async move {
        while let Ok(Some(bytes)) = incoming.message().await {
            let event = (kind.read)(number, &bytes).unwrap_or(Event::Malformed(number));
            shared.with(|state| state.record(event));
        }
        shared.with(|state| {
            if (kind.streams)(state).open.remove(&number).is_some() {
                state.record(Event::Closed(number));
            }
        });
    });
}

impl State {
    /// Ends the streams beside discovery of one connection, or all.
    pub fn end_side_streams(&mut self, connection: Option<u64>, code: Code, message: &str) {
        for kind in KINDS {
            for number in (kind.streams)(self).end(connection, &Status::new(code, message)) {
                self.record(Event::Closed(number));
            }
        }
    }
}
