//! Load reports (LRS): what subjects are asked for, and what they report.

use millrace_proto::Message as _;
use millrace_proto::pb::envoy::config::endpoint::v3::ClusterStats;
use millrace_proto::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};

use super::ControlPlane;
use super::record::Event;
use super::side::Kind;

pub(super) const KIND: Kind = Kind {
    path: "load_stats.v3.LoadReportingService/StreamLoadStats",
    streams: |state| &mut state.loads,
    read: |number, bytes| Some(Event::Loads(number, Box::new(LoadStatsRequest::decode(bytes).ok()?))),
};

impl ControlPlane {
    /// Asks for load reports, on streams that are open and on those that come.
    pub fn ask_loads(&self, ask: &LoadStatsResponse) {
        self.shared.with(|state| state.loads.ask(ask.encode_to_vec()));
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
