//! Load reports (LRS): what subjects are asked for, and what they report.

use std::sync::Arc;

use millrace_proto::Message as _;
use millrace_proto::pb::envoy::config::endpoint::v3::ClusterStats;
use millrace_proto::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use tokio::sync::mpsc::UnboundedSender;
use tonic::codegen::Bytes;
use tonic::{Code, Status, Streaming};

use super::record::{Event, Opened};
use super::session::Out;
use super::state::State;
use super::{ControlPlane, Shared};

/// The streams of load reports.
#[derive(Default)]
pub(super) struct Loads {
    /// What every stream is asked for, old and new.
    ask: Option<Bytes>,
    streams: std::collections::BTreeMap<u64, (u64, UnboundedSender<Out>)>,
}

impl Loads {
    /// Ends the streams of one connection, or all.
    pub fn end(&mut self, connection: Option<u64>, status: &Status) -> Vec<u64> {
        let of =
            |(_, (c, _)): &(&u64, &mut (u64, UnboundedSender<Out>))| connection.is_none_or(|it| it == *c);
        let numbers: Vec<u64> = self.streams.iter_mut().filter(of).map(|(number, _)| *number).collect();
        for (_, out) in numbers.iter().filter_map(|number| self.streams.remove(number)) {
            // A client that is gone needs no status.
            let _ = out.send(Err(status.clone()));
        }
        numbers
    }
}

/// Serves one stream until its client ends it.
pub(super) fn serve(
    shared: Arc<Shared>,
    opened: Opened,
    out: UnboundedSender<Out>,
    mut incoming: Streaming<Bytes>,
) {
    let number = shared.with(|state| {
        let (number, connection) = (state.number(), opened.connection);
        state.record(Event::Opened(Opened { stream: number, ..opened }));
        if let Some(ask) = state.loads.ask.clone() {
            // The other end is held by the answer that is being made.
            let _ = out.send(Ok(ask));
        }
        state.loads.streams.insert(number, (connection, out));
        number
    });
    tokio::spawn(async move {
        while let Ok(Some(bytes)) = incoming.message().await {
            let event = match LoadStatsRequest::decode(&bytes[..]) {
                Ok(report) => Event::Loads(number, Box::new(report)),
                Err(_) => Event::Malformed(number),
            };
            shared.with(|state| state.record(event));
        }
        shared.with(|state| {
            if state.loads.streams.remove(&number).is_some() {
                state.record(Event::Closed(number));
            }
        });
    });
}

impl State {
    /// Ends the streams of load reports of one connection, or all.
    pub fn end_loads(&mut self, connection: Option<u64>, code: Code, message: &str) {
        for number in self.loads.end(connection, &Status::new(code, message)) {
            self.record(Event::Closed(number));
        }
    }
}

impl ControlPlane {
    /// Asks for load reports, on streams that are open and on those that come.
    pub fn ask_loads(&self, ask: &LoadStatsResponse) {
        let ask = Bytes::from(ask.encode_to_vec());
        self.shared.with(|state| {
            for (_, out) in state.loads.streams.values() {
                // Who is gone says so itself.
                let _ = out.send(Ok(ask.clone()));
            }
            state.loads.ask = Some(ask);
        });
    }

    /// Messages of load report streams after a mark, with the numbers of their streams.
    pub fn load_reports(&self, mark: usize) -> Vec<(u64, LoadStatsRequest)> {
        let report = |event: &Event| match event {
            Event::Loads(stream, report) => Some((*stream, (**report).clone())),
            _ => None,
        };
        self.shared.lock().log.iter().skip(mark).filter_map(|entry| report(&entry.event)).collect()
    }

    /// What was reported of one cluster after a mark.
    pub fn loads_of(&self, mark: usize, cluster: &str) -> Vec<ClusterStats> {
        let all = self.load_reports(mark).into_iter().flat_map(|(_, report)| report.cluster_stats);
        all.filter(|stats| stats.cluster_name == cluster).collect()
    }
}
